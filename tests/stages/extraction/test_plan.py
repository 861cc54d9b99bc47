"""What a plan counts is what an extraction then makes; what is cached or in quarantine is not counted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import NANO

from cache import FeatureStore
from pipeline.cli.main import main
from pipeline.config import parse_experiment
from pipeline.data.partition import Division
from pipeline.stages.common.manifest import build_manifest, load_manifest
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.extraction import plan
from pipeline.stages.extraction.extract import extract_split
from pipeline.stages.extraction.plan import count_split, probe_split


@pytest.fixture(scope="module")
def recipes(tmp_path_factory) -> Recipes:
    folder = tmp_path_factory.mktemp("plan")
    paths = {"output": str(folder / "var"), "cache": str(folder / "cache")}
    made = Recipes(parse_experiment(NANO | {"paths": paths}))
    build_manifest(made.experiment, made.manifest_folder)
    return made


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_count_is_what_an_extraction_makes(recipes, split):
    experiment, namespace = recipes.experiment, recipes.namespace(split)
    manifest = load_manifest(experiment, recipes.manifest_folder)
    plan = count_split(experiment, manifest, split, namespace, [])
    assert (plan.cached, plan.quarantined, plan.unknown) == (0, 0, 0)
    extract_split(experiment, manifest, split, manifest.split(split), namespace, recipes.quarantine)
    store = FeatureStore.open(experiment.paths.cache)
    stats = store.stats(namespace)
    assert (plan.videos, plan.clips, plan.feature_bytes) == (stats.videos, stats.clips, stats.feature_bytes)
    times = [store.reader(namespace, video_id).times() for video_id in sorted(store.video_ids(namespace))]
    if split == "test":
        assert plan.frames == sum(map(len, times))
    left = count_split(experiment, manifest, split, namespace, [])
    assert (left.videos, left.cached, left.frames, left.clips) == (plan.videos, plan.videos, 0, 0)
    assert probe_split(experiment, manifest, left, namespace, 1.0) is None


def test_videos_in_quarantine_or_without_a_header_are_named_apart(recipes):
    manifest = load_manifest(recipes.experiment, recipes.manifest_folder)
    first, second, *others = manifest.split("test")
    changed = replace(manifest, videos=(first, replace(second, packets=0), *others))
    plan = count_split(recipes.experiment, changed, "test", "another-namespace", [first.video_id])
    assert (plan.videos, plan.quarantined, plan.unknown) == (len(others) + 2, 1, 1)
    assert plan.frames == sum(video.packets for video in others)
    assert plan.seconds == pytest.approx(sum(video.packets / video.fps for video in others))


def test_validation_videos_are_counted_once_more_as_windows(recipes):
    document = recipes.experiment.model_dump(mode="json")
    document["selection"]["validation_share"] = 0.4
    document["runs"] = {
        "one": {},
        "other": {"selection": {"seed": 1}},
        "without": {"selection": {"validation_share": 0}},
    }
    own = Recipes(parse_experiment(document))
    manifest = load_manifest(recipes.experiment, recipes.manifest_folder)
    train = [replace(v, video_id=f"{v.video_id}-{n}", source=None) for v in manifest.split("train") for n in range(3)]
    manifest = replace(manifest, videos=tuple(train))
    held_out = {video_id for seed in (0, 1) for video_id in Division(0.4, seed).held_out(train)}
    counted = count_split(own.experiment, manifest, "validation", own.namespace("validation"), [])
    videos = [video for video in train if video.video_id in held_out]
    assert (counted.videos, counted.frames) == (len(videos), sum(video.packets for video in videos))
    as_tests = replace(manifest, videos=tuple(replace(video, split="test") for video in videos))
    alike = count_split(own.experiment, as_tests, "test", "not-there", [])
    assert (counted.clips, counted.feature_bytes, counted.score_bytes) == (
        alike.clips,
        alike.feature_bytes,
        alike.score_bytes,
    )


@pytest.mark.slow
def test_the_probe_times_the_experiments_own_videos_and_keeps_nothing(recipes):
    manifest = load_manifest(recipes.experiment, recipes.manifest_folder)
    plan = count_split(recipes.experiment, manifest, "test", "not-there", [])
    rate = probe_split(recipes.experiment, manifest, plan, "not-there", 30.0)
    assert rate is not None
    assert 0 < rate.frames_per_s < np.inf
    assert rate.device == "cpu"
    assert 0.1 < rate.share_of_raw < 1.5
    assert not FeatureStore.open(recipes.experiment.paths.cache).video_ids("not-there")


def test_the_command_tells_it_as_a_table_and_for_machines(recipes, tmp_path, monkeypatch):
    config = tmp_path / "nano.yaml"
    config.write_text(json.dumps(recipes.experiment.model_dump(mode="json")))
    table = CliRunner().invoke(main, ["plan", "--config", str(config), "--probe", "0"])
    assert table.exit_code == 0, table.output
    assert "h on 4" in table.output
    assert "enough for" in table.output
    document = json.loads(CliRunner().invoke(main, ["plan", "--config", str(config), "--probe", "0", "--json"]).stdout)
    assert document["test"]["videos"] == 4
    assert document["test"]["rate"] is None
    assert "validation" not in document
    config.write_text(json.dumps(json.loads(config.read_text()) | {"selection": {"validation_share": 0.4}}))
    table = CliRunner().invoke(main, ["plan", "--config", str(config), "--probe", "0"])
    assert "no validation videos are planned: selection: no anomalous video" in table.output
    monkeypatch.setattr(plan, "validation_videos", lambda experiment, manifest, unreadable: manifest.split("train")[:2])
    table = CliRunner().invoke(main, ["plan", "--config", str(config), "--probe", "0"])
    assert "validation: training videos that are held out, extracted once more as windows" in table.output
    (row,) = (line.split() for line in table.output.splitlines() if line.startswith("validation  "))
    assert row[1:3] == ["2", "2"]


def test_several_processes_are_named_beside_the_hours_of_one(recipes, tmp_path, monkeypatch):
    document = recipes.experiment.model_dump(mode="json")
    document["machine"]["extract_processes"] = 2
    document["test_sampling"]["stride_frames"] = 5  # nothing is cached
    config = tmp_path / "nano.yaml"
    config.write_text(json.dumps(document))
    monkeypatch.setattr(plan, "probe_split", lambda *arguments: plan.Rate(10.0, 1.0, None, "cpu", "float32"))
    table = CliRunner().invoke(main, ["plan", "--config", str(config)])
    assert "timed in one process; an extraction has 2 (machine.extract_processes)" in table.output, table.output
