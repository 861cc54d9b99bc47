"""Ctrl-C ends an ablation with a message of one line and leaves no process that holds its locks."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import NANO
from places import ROOT

from pipeline.config import load_experiment
from pipeline.stages.common.manifest import build_manifest
from pipeline.stages.common.outputs import make_folder
from pipeline.stages.common.recipes import Recipes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def long_experiment(tmp_path_factory) -> Path:
    """An experiment whose training never ends; its videos are rendered."""
    folder = tmp_path_factory.mktemp("long")
    data = copy.deepcopy(NANO)
    data["training"] = {"epochs": 10**6}
    data["runs"] = {"gig": {}}
    data["paths"] = {"output": str(folder / "var"), "cache": str(folder / "cache")}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(data))
    recipes = Recipes(load_experiment(path))
    make_folder(recipes.manifest_folder, lambda folder: build_manifest(recipes.experiment, folder))
    return path


def start(*command: str) -> subprocess.Popen:
    """A command of ours in a session of its own, as a terminal starts it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def await_text(process: subprocess.Popen, text: str) -> None:
    """Read until the text was printed."""
    printed = ""
    while text not in printed:
        letter = process.stdout.read(1)
        assert letter, printed
        printed += letter


def left_in_session(session: int) -> list[str]:
    """The processes of a session that are not over."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    found.append((entry / "cmdline").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def assert_nothing_is_left(process: subprocess.Popen) -> None:
    for _ in range(6000):
        if not left_in_session(process.pid):
            return
        time.sleep(0.1)
    pytest.fail(f"still there after {process.args}: {left_in_session(process.pid)}")


@pytest.fixture
def started():
    """Start a command as `start` does; processes that a test leaves are killed after it."""
    processes = []

    def begin(*command: str) -> subprocess.Popen:
        processes.append(start(*command))
        return processes[-1]

    yield begin
    for process in processes:
        if left_in_session(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_ends_an_ablation_and_all_its_processes(long_experiment, started, tmp_path):
    file = tmp_path / "ablation.yaml"
    settings = {"gig": {}, "mil": {"head": {"name": "mil_ranking"}}}
    file.write_text(yaml.safe_dump({"name": "long", "base": str(long_experiment), "seeds": [0], "list": settings}))
    process = started(
        "-c", "from pipeline.cli.main import main; main()", "ablate", "--config", str(file), "--workers", "2"
    )
    await_text(process, "reductions of test videos: 100%")
    time.sleep(1)  # into the trainings, of which there is no other sign
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=1800)
    assert process.returncode == 1
    assert "Aborted!" in printed
    assert "Traceback" not in printed
    assert_nothing_is_left(process)
