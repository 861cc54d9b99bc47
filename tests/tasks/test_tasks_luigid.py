"""Two machines and luigid: the documented commands, one machine killed on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT

from pipeline.config import load_experiment
from pipeline.stages.common.recipes import Recipes

BIN = Path(sys.executable).parent
PATIENCE_S = 900


def documented(beginning: str) -> str:
    """The block of commands in docs/running.md that begins so."""
    (block,) = re.findall(rf"```\n({re.escape(beginning)}.*?)```", (ROOT / "docs/running.md").read_text(), re.DOTALL)
    return block


@pytest.fixture
def luigid(tmp_path):
    """luigid on a free port; gives the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "scheduler"
    folder.mkdir()
    (folder / "luigi.cfg").write_text("[scheduler]\nworker_disconnect_delay = 15\n")
    command = documented("luigid").replace("--background --pidfile luigid.pid", f"--port {port} --address 127.0.0.1")
    with subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=folder, env=environment()) as process:
        until(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "luigi-server.log").read_text()
        yield port
        process.terminate()


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def answers(port: int) -> bool:
    try:
        return isinstance(running(port), list)
    except OSError:
        return False


def running(port: int) -> list[dict]:
    """The tasks at work, as luigid's page shows them."""
    query = urllib.parse.quote(json.dumps({"status": "RUNNING"}))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/task_list?data={query}") as answer:
        return list(json.load(answer)["response"].values())


@pytest.mark.slow
def test_two_machines_share_the_tasks_and_one_of_them_can_be_killed(nano, write_config, tmp_path, luigid):
    nano["machine"] |= {"shards": 2, "decode_workers": 1, "threads": 1}
    config = write_config(nano)
    script = documented("until luigi").replace("30", "2")  # before a path comes in, which can have that number
    script = script.replace("FILE", str(config)).replace("HOST", "127.0.0.1")
    script = script.replace("luigi --module", f"luigi --scheduler-port {luigid} --module")
    machines = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "log").open("w") as log:
            machines.append(
                subprocess.Popen(["bash", "-c", script], cwd=folder, env=environment(), stdout=log, stderr=log)
            )
    shown: dict[str, str] = {}

    def extracting_on_the_first() -> list[int]:
        pids = {child: machine for machine in machines for child in children(machine.pid)}
        for task in running(luigid):
            shown[task["name"]] = task["status_message"] or ""
            worker = int(re.search(r"pid=(\d+)", task["worker_running"])[1])
            if task["name"] == "ExtractShard" and pids.get(worker) is machines[0]:
                return [worker]
        assert machines[0].poll() is None
        return []

    found: list[int] = []
    try:
        until(lambda: found.extend(extracting_on_the_first()) or found)
        os.kill(found[0], signal.SIGKILL)
        assert machines[0].wait(PATIENCE_S) == 128 + signal.SIGKILL
        until(lambda: running(luigid) is not None and machines[1].poll() is not None)  # asked, luigid looks who is gone
        assert machines[1].returncode == 0, (tmp_path / "second" / "log").read_text()
    finally:
        for machine in machines:
            for pid in children(machine.pid):
                os.kill(pid, signal.SIGKILL)
            machine.kill()
            machine.wait()
    assert Recipes(load_experiment(config)).summary_folder.is_dir()
    assert any("of" in message for message in shown.values())
    again = subprocess.run(["bash", "-c", script], cwd=tmp_path / "first", env=environment(), check=False)
    assert again.returncode == 0


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []
