"""`gig events` on score tables of any system."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline.cli.main import main
from pipeline.data.events import read_events
from pipeline.data.manifest import Manifest, VideoEntry, save


def gig(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def scores(tmp_path) -> Path:
    """Two videos of ten frames a second, one with two bursts half a second apart, the other without any."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    values = np.zeros(100)
    values[20:30] = values[35:40] = 0.8
    for name, column in (("b", values), ("a", np.zeros(100))):
        table = {"frame": np.arange(100), "time_s": np.arange(100) / 10, "score": column, "Fight": column}
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return folder


def test_a_folder_of_tables_becomes_a_list_for_people_and_files(scores, tmp_path):
    result = gig("events", "--scores", scores, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "1 event(s) of anomaly in general and 0 of classes, in 2 video(s)" in result.stdout
    assert ["b", "anomaly", "2.00", "4.00", "2.00", "0.8000"] in [line.split() for line in result.stdout.splitlines()]
    assert "no --config given: working with the default settings of events" in result.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "events.csv",
        "events.jsonl",
        "events.parquet",
        "facts.json",
    ]
    [event] = read_events(tmp_path / "out" / "events.csv")
    assert (event.video_id, event.start_frame, event.end_frame) == ("b", 20, 40)


def test_options_change_the_rule_and_the_printed_json_holds_every_event(scores, tmp_path):
    options = ("--merge-gap", 0.2, "--min-length", 0.6, "--upper", 0.7, "--lower", 0.1, "--class", "Fight")
    result = gig("events", "--scores", scores, "--out", tmp_path / "out", *options, "--json", "--format", "jsonl")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["events"] == {"anomaly": 1, "Fight": 1}
    assert document["rules"]["Fight"] == {"upper": 0.7, "lower": 0.1, "merge_gap_s": 0.2, "min_length_s": 0.6}
    assert [(row["class"], row["start_frame"], row["end_frame"]) for row in document["list"]] == [
        ("anomaly", 20, 30),
        ("Fight", 20, 30),
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["events.jsonl", "facts.json"]


def test_no_event_at_all_is_an_empty_list_not_an_error(scores, tmp_path):
    result = gig("events", "--scores", scores, "--out", tmp_path / "out", "--upper", 0.9)
    assert result.exit_code == 0, result.output
    assert read_events(tmp_path / "out" / "events.parquet") == []
    with (tmp_path / "out" / "events.csv").open() as stream:
        assert next(csv.reader(stream))[:3] == ["video_id", "source", "class"]


def test_settings_and_thresholds_come_from_a_configuration_and_an_operating_point(nano, write_config, scores, tmp_path):
    nano["events"] = {"merge_gap_s": 0.0}
    point = tmp_path / "operating_point.json"
    point.write_text(json.dumps({"thresholds": {"anomaly": 0.79}, "notes": ["on little footage"]}))
    options = ("--config", write_config(nano), "--operating-point", point, "--out", tmp_path / "out", "--json")
    document = json.loads(gig("events", "--scores", scores, *options).stdout)
    assert document["rules"] == {"anomaly": {"upper": 0.79, "lower": 0.395, "merge_gap_s": 0.0, "min_length_s": 0.0}}
    assert document["events"] == {"anomaly": 2}
    assert "on little footage" in document["notes"]
    lacking = gig("events", "--scores", scores, *options[:4], "--class", "Fight", "--out", tmp_path / "more")
    assert "expected a threshold of each class, got none of Fight" in lacking.stderr


def test_a_manifest_gives_classes_frame_rates_and_where_videos_lie(tmp_path, make_video):
    videos = [
        VideoEntry(name, f"{name}.mp4", split, labels, None, 96, 64, 10.0, 100, 1)
        for name, split, labels in (("n", "train", ()), ("f", "train", ("Fight",)), ("v", "test", ()))
    ]
    make_video("v.mp4", frames=2)
    save(Manifest(tmp_path, ("Fight",), tuple(videos), ()), tmp_path / "manifest")
    (tmp_path / "theirs").mkdir()
    values = np.zeros(100)
    values[50:60] = 0.9
    np.save(tmp_path / "theirs" / "v.npy", values)
    result = gig("events", "--scores", tmp_path / "theirs", "--truth", tmp_path / "manifest", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    [event] = read_events(tmp_path / "out" / "events.parquet")
    assert (event.start_s, event.end_s, event.source) == (5.0, 6.0, str(tmp_path / "v.mp4"))


def test_what_cannot_be_is_one_message_and_leaves_nothing(nano, write_config, scores, tmp_path):
    table = pq.read_table(scores / "a.parquet").set_column(2, "score", pa.array([float("nan")] * 100))
    pq.write_table(table, scores / "a.parquet")
    result = gig("events", "--scores", scores, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "Error: a, anomaly, frame 0: expected a score from 0 to 1, got nan" in result.stderr
    assert not (tmp_path / "out").exists()
    taken = gig("events", "--scores", scores, "--out", tmp_path)
    assert "is there already: remove it or give another --out" in taken.stderr
    alone = gig("events", "--config", write_config(nano), "--fps", 25)
    assert alone.exit_code == 1
    assert "go with --scores" in alone.stderr
    crossed = gig("events", "--scores", scores, "--upper", 0.2, "--lower", 0.4, "--out", tmp_path / "out")
    assert "events of anomaly: expected 0 <= lower <= upper <= 1, got lower 0.4 and upper 0.2" in crossed.stderr


def test_thresholds_of_another_head_are_said_to_be_that(scores, tmp_path):
    (scores / "frames").mkdir()
    for path in scores.glob("*.parquet"):
        path.rename(scores / "frames" / path.name)
    videos = {name: {"file": f"{name}.parquet", "decoded_frames": 100} for name in ("a", "b")}
    index = {"classes": ["Fight"], "videos": videos, "made_with": {"head": {"sha256": "1"}}}
    (scores / "index.json").write_text(json.dumps(index))
    for head, said in (("1", False), ("2", True)):
        point = tmp_path / f"{head}.json"
        facts = {"thresholds": {"anomaly": 0.5, "Fight": 0.5}, "head_sha256": head}
        point.write_text(json.dumps(facts))
        result = gig("events", "--scores", scores, "--operating-point", point, "--out", tmp_path / f"out{head}")
        assert result.exit_code == 0, result.output
        assert ("were chosen for another head" in result.stdout) == said
