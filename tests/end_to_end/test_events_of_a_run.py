"""From videos to a list of events, with thresholds chosen on validation videos."""

from __future__ import annotations

import copy
import json

import luigi
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from conftest import NANO

from cache import FeatureStore
from pipeline.cli.main import main
from pipeline.config import load_experiment
from pipeline.data.events import read_events
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.events.detect import events_of_video
from pipeline.stages.events.rules import make_rules
from pipeline.stages.events.videos import open_scores
from tasks import Events

pytestmark = pytest.mark.slow


def gig(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A nano experiment with validation videos, whose events Luigi has listed: (config path, recipes)."""
    folder = tmp_path_factory.mktemp("events")
    data = copy.deepcopy(NANO)
    data["dataset"] |= {"train_normal": 4, "train_per_class": 2}
    data |= {"selection": {"validation_share": 0.5}, "runs": {"gig": {}}}
    data["paths"] = {"output": str(folder / "var"), "cache": str(folder / "cache")}
    path = folder / "nano.yaml"
    path.write_text(yaml.safe_dump(data))
    assert luigi.build([Events(config=str(path))], local_scheduler=True)
    return path, Recipes(load_experiment(path))


def test_thresholds_rest_on_the_validation_videos_alone_scored_in_every_frame(finished):
    _, recipes = finished
    document = json.loads((recipes.operating_point_folder("gig") / "operating_point.json").read_text())
    selection = json.loads((recipes.head_folder("gig") / "selection.json").read_text())
    scored = list(open_scores(recipes.operating_point_folder("gig") / "scores", ()).videos)
    assert [video.video_id for video in scored] == selection["validation_videos"]
    assert all(video_id.startswith("train_") for video_id in selection["validation_videos"])
    assert (document["normal_videos"], document["anomalous_videos"]) == (2, 3)
    lengths = {
        entry.video_id: entry.packets for entry in load_manifest(recipes.experiment, recipes.manifest_folder).videos
    }
    assert [len(video.general) for video in scored] == [lengths[video.video_id] for video in scored]
    assert all(choice["chosen_on"] == "validation" for choice in document["classes"].values())
    assert "a lower rate cannot be measured" in document["notes"][0]


def test_validation_windows_lie_in_a_namespace_of_their_own(finished):
    _, recipes = finished
    store = FeatureStore.open(recipes.experiment.paths.cache)
    held_out = set(json.loads((recipes.head_folder("gig") / "selection.json").read_text())["validation_videos"])
    assert store.video_ids(recipes.namespace("validation")) == held_out
    assert not held_out & store.video_ids(recipes.namespace("test"))


def test_the_events_are_those_of_the_score_tables_by_the_chosen_thresholds(finished):
    _, recipes = finished
    folder = recipes.events_folder("gig")
    thresholds = json.loads((recipes.operating_point_folder("gig") / "operating_point.json").read_text())["thresholds"]
    scored = open_scores(recipes.scores_folder("gig"), ())
    rules = make_rules(recipes.experiment.events, scored.classes, thresholds)
    expected = []
    for v in scored.videos:
        expected += events_of_video(v.video_id, "", scored.classes, v.general, v.classwise, v.times_s, rules)
    found = read_events(folder / "events.parquet")
    assert [(e.video_id, e.class_name, e.start_frame, e.end_frame) for e in found] == [
        (e.video_id, e.class_name, e.start_frame, e.end_frame) for e in expected
    ]
    assert read_events(folder / "events.csv") == read_events(folder / "events.jsonl") == found
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["videos"] == 4
    assert sum(facts["events"].values()) == len(found)


def test_gig_events_shows_them_and_makes_others_from_the_same_scores(finished, tmp_path):
    path, recipes = finished
    shown = gig("events", "--config", path)
    assert shown.exit_code == 0, shown.output
    assert f"events: {recipes.events_folder('gig')}" in shown.stdout
    everything = gig("events", "--config", path, "--upper", 0, "--out", tmp_path / "all", "--format", "csv", "--json")
    assert everything.exit_code == 0, everything.output
    document = json.loads(everything.stdout)
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["events.csv", "facts.json"]
    whole = [row for row in document["list"] if row["class"] == "anomaly"]
    assert len(whole) == 4  # each video is one event from its first frame to its last
    assert all(row["start_frame"] == 0 and row["source"].endswith(".mp4") for row in whole)
    again = gig("events", "--config", path, "--upper", 0, "--out", tmp_path / "all")
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_gig_operating_point_shows_the_trade_off(finished):
    path, recipes = finished
    shown = gig("operating-point", "--config", path, "--class", "Fighting")
    assert shown.exit_code == 0, shown.output
    assert "trade-off of Fighting:" in shown.stdout
    assert "<- in use" in shown.stdout
    document = json.loads(gig("operating-point", "--config", path, "--json").stdout)
    assert document["classes"].keys() == {"anomaly", *recipes.experiment.dataset.classes}
    for choice in document["classes"].values():
        costs = [point["false_alarms_per_hour"] for point in choice["curve"]]
        assert choice["point"] in choice["curve"]
        assert np.isfinite(costs).all()
    unknown = gig("operating-point", "--config", path, "--class", "Fire")
    assert unknown.exit_code == 1
    assert "--class: expected one of anomaly, Explosion" in unknown.stderr


def test_other_settings_of_events_make_new_events_and_nothing_before_them(finished, tmp_path):
    path, recipes = finished
    before = {p.name for p in recipes.folder.iterdir()}
    data = yaml.safe_load(path.read_text()) | {"events": {"false_alarms_per_hour": None, "upper": 0.9}}
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(data))
    result = gig("events", "--config", changed, "--json")
    assert result.exit_code == 0, result.output
    new = {p.name.rsplit("-", 1)[0] for p in recipes.folder.iterdir() if p.name not in before and p.name[0] != "."}
    assert new == {"operating-point-gig", "events-gig"}
    assert {rule["upper"] for rule in json.loads(result.stdout)["rules"].values()} == {0.9}


def test_a_validation_video_that_cannot_be_read_whole_is_left_out_and_stays_a_training_video(finished, tmp_path):
    path, recipes = finished
    manifest = load_manifest(recipes.experiment, recipes.manifest_folder)
    bad = json.loads((recipes.head_folder("gig") / "selection.json").read_text())["validation_videos"][0]
    file = manifest.video_path(bad)
    content = file.read_bytes()
    file.write_bytes(b"no video")
    try:
        data = yaml.safe_load(path.read_text()) | {"test_sampling": {"stride_frames": 5}}
        changed = tmp_path / "changed.yaml"
        changed.write_text(yaml.safe_dump(data))
        result = gig("operating-point", "--config", changed, "--json")
    finally:
        file.write_bytes(content)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert list(document["left_out"]) == [bad]
    assert any(note.startswith(f"{bad} cannot be read whole and is left out: ") for note in document["notes"])
    assert document["head"] == recipes.head_folder("gig").name
    assert recipes.quarantine.ids() == []
    assert not list(recipes.folder.rglob("unreadable"))


def test_the_fine_tuned_model_has_an_operating_point_and_events_of_its_own(finished, tmp_path):
    path, _ = finished
    data = yaml.safe_load(path.read_text())
    data |= {"finetune": {"enabled": True, "epochs": 1, "batch_bags": 2}}
    tuned = tmp_path / "tuned.yaml"
    tuned.write_text(yaml.safe_dump(data))
    assert luigi.build([Events(config=str(tuned), stage="finetuned")], local_scheduler=True)
    recipes = Recipes(load_experiment(tuned)).finetuned
    assert recipes.events_folder("gig").name.startswith("events-gig-finetuned-")
    document = json.loads((recipes.operating_point_folder("gig") / "operating_point.json").read_text())
    assert (document["stage"], document["normal_videos"]) == ("finetuned", 2)
