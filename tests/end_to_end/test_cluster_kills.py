"""A standing cluster, its worker, its scheduler or the command killed at any moment: the rerun gives the same bytes."""

from __future__ import annotations

import copy
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from conftest import NANO
from places import ROOT

from cache import FeatureStore
from pipeline.config import load_experiment
from pipeline.stages.common.recipes import Recipes

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


def run(*words: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *words], env=ENVIRONMENT, cwd=ROOT, **options)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A scheduler and a worker with its nanny, as the commands of dask start them."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        words = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port)]
        self.scheduler = run(*words, "--no-dashboard", stderr=subprocess.DEVNULL)
        options = ["--nthreads", "4", "--resources", "video=4", "--memory-limit", "0", "--no-dashboard"]
        self.nanny = run(
            "-m", "distributed.cli.dask_worker", self.address, *options, stderr=subprocess.DEVNULL, process_group=0
        )

    def workers(self) -> list[int]:
        """The processes that the nanny has started."""
        threads = Path(f"/proc/{self.nanny.pid}/task").glob("*/children")
        found = [int(pid) for children in threads for pid in children.read_text().split()]
        return [pid for pid in found if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]

    def stop(self) -> None:
        os.killpg(self.nanny.pid, signal.SIGKILL)
        for process in (self.nanny, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster():
    started = Cluster()
    yield started
    started.stop()


def experiment(folder: Path, **machine: object) -> tuple[Path, Recipes]:
    data = copy.deepcopy(NANO)
    data["machine"] |= {"threads": 1, "decode_workers": 2} | machine
    data["runs"] = {"gig": {}}
    data["paths"] = {"output": str(folder / "var"), "cache": str(folder / "cache")}
    folder.mkdir(exist_ok=True)
    config = folder / "experiment.yaml"
    config.write_text(yaml.safe_dump(data))
    return config, Recipes(load_experiment(config))


def start(config: Path) -> subprocess.Popen:
    words = ["-m", "luigi", "--module", "tasks", "EvaluateAll", "--config", str(config), "--local-scheduler"]
    return run(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(config: Path) -> None:
    process = start(config)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed


def results(recipes: Recipes) -> dict[str, object]:
    """What must not depend on where and when it was made."""
    store = FeatureStore.open(recipes.experiment.paths.cache)
    found: dict[str, object] = {
        f"{split}/{record.video_id}": record.values_crc32c
        for split in ("train", "test")
        for record in store.records(recipes.namespace(split))
    }
    found["head"] = (recipes.head_folder("gig") / "head.safetensors").read_bytes()
    for path in sorted((recipes.scores_folder("gig") / "frames").glob("*.parquet")):
        found[path.name] = path.read_bytes()
    return found


def printed_until(process: subprocess.Popen, sign: str) -> list[str]:
    """The output up to a line with `sign`; what follows is added to it as it comes."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if sign in line:
            threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True).start()
            return lines
    raise AssertionError("".join(lines))


def test_kills_lose_nothing_and_leave_nothing_behind(tmp_path, cluster):
    """Each kill comes some time after a step has begun to work on the cluster; then the same command finishes."""
    config, recipes = experiment(tmp_path / "here")
    finish(config)
    expected = results(recipes)

    chance = random.Random(1)

    def worker() -> None:
        for pid in cluster.workers():
            os.kill(pid, signal.SIGKILL)

    def scheduler() -> None:
        cluster.stop()  # workers end without their scheduler, or soon after
        cluster.start()

    for number, kill in enumerate((None, scheduler, worker)):  # None: the command
        config, recipes = experiment(
            tmp_path / f"there-{number}", engine="dask", scheduler=cluster.address, cluster_wait_s=120.0
        )
        process = start(config)
        printed_until(process, "working on the dask cluster")
        time.sleep(chance.uniform(0, 6))
        (kill or process.kill)()
        process.wait(timeout=600)  # without its scheduler a step fails; others find the new one
        finish(config)
        assert results(recipes) == expected
        assert not recipes.quarantine.ids()
    until = time.monotonic() + 300
    while len(cluster.workers()) != 1:  # the nanny replaces the one that was killed
        assert time.monotonic() < until
        time.sleep(0.2)
