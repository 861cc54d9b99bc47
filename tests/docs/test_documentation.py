"""What README, CONTRIBUTING and the pages of docs/ name is there: commands and their options, files, modules,
settings; and their Python runs."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from luigi.tools.range import RangeDaily
from places import ROOT

import tasks
from cache import FeatureStore
from pipeline.cli.main import main
from pipeline.config import Experiment, field_table

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE_BY_THE_READER = ("configs/mine.yaml",)
ENDINGS = ("csv", "json", "jsonl", "onnx", "parquet", "safetensors")
NO_SETTINGS = (*ENDINGS, "anomaly", "classes", "class_mean", "rules")
"""Behind the name of a section and a point: endings of files, and keys of metrics.json."""


def fenced(page: Path, *languages: str) -> list[str]:
    """The fenced blocks in these languages; the empty one is that of a bare fence."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in blocks if language in languages]


def inline(page: Path) -> list[str]:
    """What stands between backquotes in the text and its tables, each on one line."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


def commands(page: Path, program: str) -> list[list[str]]:
    """The words of every command line of a program on a page."""
    lines = [line.strip() for block in fenced(page, "", "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines + inline(page) if line.startswith(f"{program} ")]


def unknown_words(words: list[str]) -> list[str]:
    """The options, and a missing subcommand, of a `gig` command line that there are not."""
    command: click.Command = main
    rest = words[1:]
    while isinstance(command, click.Group):
        if not rest or rest[0].startswith("--"):
            break
        if rest[0] not in command.commands:
            return [rest[0]]
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help", "--version"}
    return [word for word in rest if word.startswith("--") and word.split("=")[0] not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_gig_command_on_a_page_is_there_with_its_options(page):
    unknown = {" ".join(words): unknown_words(words) for words in commands(page, "gig")}
    assert {line: words for line, words in unknown.items() if words} == {}


def test_a_command_or_option_that_is_not_there_is_found():
    assert unknown_words(["gig", "sore", "a.mp4"]) == ["sore"]
    assert unknown_words(["gig", "score", "a.mp4", "--cvs"]) == ["--cvs"]
    assert unknown_words(["gig", "cache", "ls", "--cache", "var/cache"]) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_task_on_a_page_is_there(page):
    names = {words[words.index("tasks") + 1] for words in commands(page, "luigi") if words[-1] not in ("tasks", "…")}
    assert names - set(dir(tasks)) - {RangeDaily.__name__} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_on_a_page_is_there(page):
    code = inline(page) + [word for words in commands(page, "python") + commands(page, "gig") for word in words]
    folders = r"(?:pipeline|cache|tasks|tests|benchmarks|configs|docs)"
    paths = {word for line in code for word in re.findall(rf"(?<![\w./<>-]){folders}/[\w./*-]+", line)}
    there = {path for path in paths if any(ROOT.glob(path.rstrip("/.")))}
    assert paths - there - set(MADE_BY_THE_READER) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_and_setting_on_a_page_is_there(page):
    settings = {re.sub(r"\(\w+\)", "", row[0]) for row in field_table(Experiment)}
    sections = {name.split(".")[0] for name in settings if "." in name}
    missing = []
    for code in inline(page):
        name = re.fullmatch(r"((?:pipeline|cache|tasks)(?:\.\w+)+)", code)
        if name and not code.endswith(ENDINGS) and not is_importable(code):
            missing.append(code)
        key = re.fullmatch(r"(\w+)\.(\w+)(?:: .*)?", code)
        if key and key[1] in sections and key[2] not in NO_SETTINGS and f"{key[1]}.{key[2]}" not in settings:
            missing.append(code)
    assert missing == []


def is_importable(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    try:
        importlib.import_module(name)
    except ImportError:
        module, _, inside = name.rpartition(".")
        return "." in module and hasattr(importlib.import_module(module), inside)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_make_on_a_page_is_there(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {words[1] for words in commands(page, "make")} - targets == set()


# Blocks with prompts are those of cache-analyst.md, which has a test of its own.
PYTHON = [(page.name, block) for page in PAGES for block in fenced(page, "python") if ">>>" not in block]


@pytest.mark.parametrize("block", [block for _, block in PYTHON], ids=[name for name, _ in PYTHON])
def test_the_python_of_a_page_runs(block, tmp_path, monkeypatch):
    code = compile(block, "block", "exec")
    for package in re.findall(r"^import (\w+)", block, re.MULTILINE):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    store = FeatureStore.open("var/cache")
    with store.writer("street", "v1", views=1, rows=7, columns=7, channels=3, frames_per_clip=4) as writer:
        writer.append(0, np.ones((2, 7, 7, 3), dtype=np.float32), np.arange(8).reshape(2, 4))
        writer.set_times(np.arange(8) / 25)
        writer.commit({})
    exec(code, {"namespace": "street", "videos": ["v1"]})
