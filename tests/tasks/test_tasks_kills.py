"""Kills at any moment, and two commands at once: the next run continues, with the result of an uninterrupted run."""

from __future__ import annotations

import copy
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from conftest import NANO
from places import ROOT

from cache import FeatureStore
from pipeline.config import load_experiment
from pipeline.stages.common.outputs import try_lock
from pipeline.stages.common.recipes import Recipes

pytestmark = pytest.mark.slow


def start(config: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "luigi", "--module", "tasks", "EvaluateAll", "--config", str(config), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def experiment(folder: Path) -> tuple[Path, Recipes]:
    """A nano experiment whose stages all take long enough to be hit."""
    data = copy.deepcopy(NANO)
    data["training"] = {"epochs": 1500}
    data["runs"] = {"gig": {}}
    data["paths"] = {"output": str(folder / "var"), "cache": str(folder / "cache")}
    folder.mkdir(exist_ok=True)
    config = folder / "experiment.yaml"
    config.write_text(yaml.safe_dump(data))
    return config, Recipes(load_experiment(config))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Recipes:
    """An experiment that ran in one go."""
    config, recipes = experiment(tmp_path_factory.mktemp("unbroken"))
    process = start(config)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return recipes


def before_training(folder: Path, unbroken: Recipes, *splits: str) -> tuple[Path, Recipes]:
    """The same experiment with the videos and the features of some splits as they are there, copied."""
    config, recipes = experiment(folder)
    shutil.copytree(unbroken.manifest_folder, recipes.manifest_folder)
    for split in splits:
        marker, namespace = recipes.features_marker(split, 0, 1), recipes.namespace(split)
        shutil.copytree(unbroken.features_marker(split, 0, 1).parent, marker.parent)
        shutil.copytree(*(Path(r.experiment.paths.cache, namespace) for r in (unbroken, recipes)))
    return config, recipes


def results(recipes: Recipes) -> tuple[bytes, bytes, bytes]:
    """Results that must not depend on interruptions."""
    return (
        (recipes.summary_folder / "summary.json").read_bytes(),
        (recipes.head_folder("gig") / "head.safetensors").read_bytes(),
        (recipes.head_folder("gig") / "losses.csv").read_bytes(),
    )


def finished(recipes: Recipes) -> dict[str, str | int]:
    """Everything that is done and must not be done again: rendered videos, cached videos, score tables."""
    done: dict[str, str | int] = {}
    for pattern in ("manifest-*/videos/*.mp4", "scores-*/frames/*.parquet"):
        done |= {path.name: path.stat().st_mtime_ns for path in recipes.folder.glob(pattern)}
    store = FeatureStore.open(recipes.experiment.paths.cache)
    for split in ("train", "test"):
        done |= {f"{split}/{record.video_id}": record.payload for record in store.records(recipes.namespace(split))}
    return done


def kill_when(process: subprocess.Popen, sign: str, delay_s: float) -> str:
    """SIGKILL some time after a line with `sign` was printed; returns all that was printed."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if sign in line:
            threading.Timer(delay_s, process.kill).start()
            sign = "\0"
    process.wait()
    return "".join(lines)


def test_ten_kills_spread_over_all_stages(unbroken, tmp_path):
    chance = random.Random()
    config, recipes = experiment(tmp_path / "killed")
    moments = [
        ("Done scheduling", 0.6),
        ("running   Manifest", 1.5),
        ("running   Manifest", 1.5),
        ("running   ExtractShard", 5.0),
        ("running   ExtractShard", 3.0),
        ("running   ExtractShard", 3.0),
        ("running   TrainHead", 3.0),
        ("running   TrainHead", 3.0),
        ("running   ScoreVideos", 0.3),
        ("running   Evaluate(", 0.2),
    ]
    for sign, longest_s in moments:
        before, delay_s = finished(recipes), chance.uniform(0, longest_s)
        printed = kill_when(process := start(config), sign, delay_s)
        print(f"{sign!r} + {delay_s:.2f} s: {process.returncode}")
        assert process.returncode in (-signal.SIGKILL, 0), printed
        after = finished(recipes)
        assert before.items() <= after.items(), "finished work was done again"
    before = finished(recipes)
    process = start(config)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert before.items() <= finished(recipes).items()
    assert results(recipes) == results(unbroken)
    assert not list(recipes.folder.glob("*.partial"))


def epoch_of(line: str) -> int:
    """The epoch in a line of the training's progress, 0 for any other line."""
    found = re.search(r"training, loss .*?, (\d+) of \d+", line)
    return int(found[1]) if found else 0


def test_training_goes_on_from_its_checkpoint(unbroken, tmp_path):
    config, recipes = before_training(tmp_path / "killed", unbroken, "train", "test")
    process = start(config)
    for line in process.stdout:
        if epoch_of(line) > 30:
            process.kill()
            break
    process.communicate()
    assert list(recipes.folder.glob("head-*.partial/checkpoint.pt"))
    printed, _ = start(config).communicate()
    assert next(filter(None, map(epoch_of, printed.splitlines()))) > 30
    assert results(recipes) == results(unbroken)


def test_two_commands_at_once_share_the_work(unbroken, tmp_path):
    config, recipes = experiment(tmp_path / "both")
    processes = [start(config) for _ in range(2)]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    assert any("waiting for process" in text for text in printed)
    assert results(recipes) == results(unbroken)
    store = FeatureStore.open(recipes.experiment.paths.cache)
    for split in ("train", "test"):
        payloads = list(Path(recipes.experiment.paths.cache, recipes.namespace(split), "payloads").glob("*/*"))
        assert len(payloads) == len(store.video_ids(recipes.namespace(split)))  # nothing was extracted twice


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_of_luigi_outlives_it(unbroken, tmp_path, how):
    """One of its processes trains, the other extracts the test features."""
    config, recipes = before_training(tmp_path / "orphans", unbroken, "train")
    process = start(config, "--workers", "2")
    printed = []
    for line in process.stdout:
        printed.append(line)
        if epoch_of(line):
            process.send_signal(how)
            break
    rest, _ = process.communicate(timeout=1800)  # ends when nobody is left who could print
    assert process.returncode == -how
    assert "Traceback" not in rest
    with try_lock(recipes.head_folder("gig")) as free:
        assert free
