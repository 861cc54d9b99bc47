"""The recipes of docs/cluster.md name options and parameters that there are."""

from __future__ import annotations

import ast
import inspect
import re
import shlex

import pytest
import yaml
from places import ROOT

distributed = pytest.importorskip("distributed")
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def options(program: str) -> set[str]:
    from distributed.cli import dask_scheduler, dask_worker

    command = {"worker": dask_worker.main, "scheduler": dask_scheduler.main}[program]
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("program", ["worker", "scheduler"])
def test_commands_of_dask_have_their_options(program):
    lines = [line for block in blocks("") for line in block.splitlines() if f"dask {program} " in line]
    assert lines
    for line in lines:
        used = {word for word in shlex.split(line) if word.startswith("--")}
        assert used <= options(program), line


def test_programs_are_python_and_their_workers_have_their_options():
    ssh, slurm = (ast.parse(block) for block in blocks("py"))
    (call,) = (node for node in ast.walk(ssh) if isinstance(node, ast.Call) and _name(node) == "SSHCluster")
    known = inspect.signature(distributed.SSHCluster).parameters
    assert {keyword.arg for keyword in call.keywords} <= set(known)
    words = [node.value for node in ast.walk(slurm) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    extra = {word for word in words if word.startswith("--") and "=" not in word}
    assert "--lifetime" in extra
    assert extra <= options("worker")


def test_the_workers_of_kubernetes_have_their_options():
    (document,) = (yaml.safe_load(block) for block in blocks("yaml") if "DaskCluster" in block)
    (container,) = document["spec"]["worker"]["spec"]["containers"]
    assert {word for word in container["args"] if word.startswith("--")} <= options("worker")


def test_the_same_resource_everywhere():
    from pipeline.config.machine import Machine

    named = set(re.findall(r"(?:--resources\"?,? \"?|\"resources\": \{\")(\w+)", PAGE))
    assert named == {Machine().cluster_resource}


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""
