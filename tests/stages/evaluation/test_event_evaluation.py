"""Event metrics of score tables: what is written, by which rule, and what is said where there are none."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from small_dataset import entry

from pipeline.cli.main import main
from pipeline.config import Evaluation, Events
from pipeline.data.manifest import Interval, Manifest, load, save
from pipeline.metrics.det import CURVE
from pipeline.metrics.hysteresis import EventRule
from pipeline.stages.evaluation.evaluate import compare_tables, evaluate_tables
from pipeline.stages.evaluation.judged_events import EventOptions
from pipeline.stages.evaluation.summary import summary_table

CLASSES = ("Fight", "Fire")
FRAMES = {"a": 100, "n": 200}
FPS = 10.0
EVALUATION = Evaluation(resamples=20)
EVENTS = EventOptions(Events(merge_gap_s=0.0))


def make_truth(folder: Path, fps: float = FPS, classes: tuple[str, ...] = CLASSES) -> Path:
    """Video a shows Fight in [20, 60), n nothing."""
    videos = [entry("t0", "train"), entry("t1", "train", "Fight")]
    videos += [entry(v, "test", *(["Fight"] if v == "a" else []), packets=n) for v, n in FRAMES.items()]
    videos = [replace(video, fps=fps) for video in videos]
    save(Manifest(folder, classes, tuple(videos), (Interval("a", "Fight", 20, 60),)), folder / "manifest")
    return folder / "manifest"


@pytest.fixture
def truth(tmp_path) -> Path:
    return make_truth(tmp_path)


def write(
    folder: Path, spans: dict[str, tuple[int, int]], high: float = 0.9, times: dict | None = None, other: str = "Fire"
) -> Path:
    """Score tables with one event a video, of Fight."""
    folder.mkdir()
    for video_id, n in FRAMES.items():
        fight = np.full(n, 0.1)
        fight[slice(*spans[video_id])] = high
        columns = {"Fight": fight, other: np.full(n, 0.05)}
        if times:
            columns["time_s"] = times[video_id]
        pq.write_table(pa.table(columns), folder / f"{video_id}.parquet")
    return folder


@pytest.fixture
def tables(tmp_path) -> Path:
    return write(tmp_path / "s", {"a": (30, 60), "n": (50, 60)})


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def rows(path: Path) -> list[dict]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_events_are_in_the_metrics_with_rule_counts_and_reasons(tables, truth, tmp_path):
    assert evaluate_tables(tables, truth, tmp_path / "out", EVALUATION, events=EVENTS) == []
    events = metrics(tmp_path / "out")["events"]
    assert events["rules"]["anomaly"] == {"upper": 0.5, "lower": 0.25, "merge_gap_s": 0.0, "min_length_s": 0.0}
    assert set(events["rules"]) == {"anomaly", *CLASSES}
    assert events["rules_from"] == "configuration"
    assert events["normal_hours"] == pytest.approx((6 + 20) / 3600)
    for target in (events["anomaly"], events["classes"]["Fight"]):
        counts = {name: value for name, value in target.items() if name != "metrics"}
        assert counts == {"found_events": 2, "true_intervals": 1, "hit": 1, "missed": 0}
        values = {name: value["value"] for name, value in target["metrics"].items()}
        assert (values["precision_0.5"], values["recall_0.5"]) == (0.5, 1)
        assert values["delay_median_s"] == pytest.approx(1.0)
        assert values["false_alarms_per_hour"] == pytest.approx(3600 / 26)
        assert values["false_alarm_time_rate"] == pytest.approx(1 / 26)
    assert events["classes"]["Fire"]["metrics"]["f1_0.5"] == {
        "value": None,
        "reason": "not defined without a true interval",
    }
    assert events["class_mean"]["metrics"]["f1_0.5"]["value"] == pytest.approx(2 / 3)
    miss = {name: value for name, value in events["anomaly"]["metrics"].items() if name.startswith("miss_rate")}
    assert {name: value["value"] for name, value in miss.items()} == {
        f"miss_rate_at_{rate}_per_hour": None for rate in ("0.1", "1", "10", "60")
    }
    assert "at least 1 min of normal footage" in miss["miss_rate_at_60_per_hour"]["reason"]


def test_no_false_alarm_in_some_seconds_is_not_a_rate_of_surely_0(truth, tmp_path):
    quiet = write(tmp_path / "quiet", {"a": (30, 60), "n": (0, 0)})
    shown = gig("evaluate", "--scores", quiet, "--truth", truth, "--out", tmp_path / "out")
    found = metrics(tmp_path / "out")["events"]["anomaly"]["metrics"]["false_alarms_per_hour"]
    assert (found["value"], found["low"]) == (0, 0)
    assert found["high"] == pytest.approx(-np.log(0.025) / (26 / 3600))
    assert "0.000 to 510.7" in shown.stdout
    assert "exact, by the hours of footage" in " ".join(shown.stdout.split())


def test_tables_of_events_say_what_was_matched_and_what_missed(tables, truth, tmp_path):
    evaluate_tables(tables, truth, tmp_path / "out", EVALUATION, events=EVENTS)
    found = rows(tmp_path / "out" / "per_event.csv")
    kept = ("video_id", "class", "start_s", "end_s", "start_frame", "matched_start_s", "matched_end_s", "iou")
    assert [[row[name] for name in kept] for row in found] == [
        ["a", "anomaly", "3.0", "6.0", "30", "2.0", "6.0", "0.75"],
        ["a", "Fight", "3.0", "6.0", "30", "2.0", "6.0", "0.75"],
        ["n", "anomaly", "5.0", "6.0", "50", "", "", "0.0"],
        ["n", "Fight", "5.0", "6.0", "50", "", "", "0.0"],
    ]
    assert [row["false_alarm"] for row in found] == ["0", "0", "1", "1"]
    true = rows(tmp_path / "out" / "per_true_event.csv")
    assert [list(row.values()) for row in true] == [
        ["a", "anomaly", "2.0", "6.0", "20", "60", "1", "1.0", "0.75"],
        ["a", "Fight", "2.0", "6.0", "20", "60", "1", "1.0", "0.75"],
    ]
    det = pq.read_table(tmp_path / "out" / "det.parquet")
    assert det.column_names == ["label", *CURVE]
    assert det["threshold"].to_pylist()[0] == pytest.approx(0.9)


def test_times_of_the_tables_come_before_the_frame_rate(truth, tmp_path):
    slow = {v: np.arange(n) / 2 for v, n in FRAMES.items()}
    folder = write(tmp_path / "slow", {"a": (30, 60), "n": (50, 60)}, times=slow)
    evaluate_tables(folder, truth, tmp_path / "out", EVALUATION, events=EVENTS)
    events = metrics(tmp_path / "out")["events"]
    assert events["anomaly"]["metrics"]["delay_mean_s"]["value"] == pytest.approx(5.0)
    assert events["normal_hours"] == pytest.approx(5 * 26 / 3600)


def test_rules_can_be_those_of_an_operating_point(tables, truth, tmp_path):
    rules = dict.fromkeys(("anomaly", *CLASSES), EventRule(0.95, 0.9))
    evaluate_tables(tables, truth, tmp_path / "out", EVALUATION, events=EventOptions(rules=rules))
    events = metrics(tmp_path / "out")["events"]
    assert (events["rules_from"], events["rules"]["Fire"]["upper"]) == ("validation", 0.95)
    assert (events["anomaly"]["found_events"], events["anomaly"]["missed"]) == (0, 1)


@pytest.mark.parametrize("case", ["no times", "times that fall", "no shares", "a class named anomaly"])
def test_where_there_are_no_event_metrics_the_reason_is_said(case, tables, tmp_path):
    if case == "times that fall":
        times = {v: np.arange(n)[::-1] / FPS for v, n in FRAMES.items()}
        tables = write(tmp_path / "falling", {"a": (30, 60), "n": (50, 60)}, times=times)
        truth, reason = make_truth(tmp_path), "a: expected finite, rising presentation times"
    elif case == "no times":
        truth, reason = make_truth(tmp_path, fps=0.0), "nothing says when its frames are shown"
    elif case == "no shares":
        tables = write(tmp_path / "wide", {"a": (30, 60), "n": (50, 60)}, high=1.5)
        truth, reason = make_truth(tmp_path), "scores from 0 to 1"
    else:
        tables = write(tmp_path / "named", {"a": (30, 60), "n": (50, 60)}, other="anomaly")
        truth, reason = make_truth(tmp_path, classes=("Fight", "anomaly")), "is the name of anomaly in general"
    (warning,) = evaluate_tables(tables, truth, tmp_path / "out", EVALUATION, events=EVENTS)
    assert warning.startswith("no event metrics: ")
    assert reason in warning
    document = metrics(tmp_path / "out")
    assert reason in document["events"]["reason"]
    assert document["figures"]["frame_auc"]["value"] is not None
    assert not (tmp_path / "out" / "per_event.csv").exists()
    compared = compare_tables(tables, tables, truth, EVALUATION, events=EVENTS)
    assert compared["events"]["value"] is None
    assert reason in compared["events"]["reason"]


def test_scores_that_are_all_the_same_are_said_to_tell_nothing(truth, tmp_path):
    one_frame_off = write(tmp_path / "off", {"a": (30, 31), "n": (0, 0)}, high=0.100002)
    assert evaluate_tables(one_frame_off, truth, tmp_path / "1", EVALUATION, events=EVENTS) == []
    alike = write(tmp_path / "alike", {"a": (30, 31), "n": (0, 0)}, high=0.1000005)
    (warning,) = evaluate_tables(alike, truth, tmp_path / "2", EVALUATION, events=EVENTS)
    assert warning.startswith("every frame of every video has the score 0.100001: these scores tell nothing apart")
    assert warning in metrics(tmp_path / "2")["warnings"]


def test_a_class_whose_name_begins_with_that_of_another_keeps_its_metrics_to_itself(tmp_path):
    truth = make_truth(tmp_path, classes=("Fight", "Fight/Group"))
    tables = write(tmp_path / "s", {"a": (30, 60), "n": (50, 60)}, other="Fight/Group")
    evaluate_tables(tables, truth, tmp_path / "out", EVALUATION, events=EVENTS)
    classes = metrics(tmp_path / "out")["events"]["classes"]
    assert list(classes["Fight"]["metrics"]) == list(classes["Fight/Group"]["metrics"])


def test_a_video_without_a_frame_is_in_the_table_of_videos_and_in_no_metric(tables, truth, tmp_path):
    manifest = load(truth, truth=True)
    empty = replace(entry("e", "test", packets=0), fps=FPS)
    save(replace(manifest, videos=(*manifest.videos, empty)), tmp_path / "more")
    pq.write_table(pa.table(dict.fromkeys(CLASSES, np.zeros(0))), tables / "e.parquet")
    evaluate_tables(tables, tmp_path / "more", tmp_path / "out", EVALUATION, events=EVENTS)
    row = {row["video_id"]: row for row in rows(tmp_path / "out" / "per_video.csv")}["e"]
    assert list(row.values()) == ["e", "0", "0", "0", "", "", ""]
    assert metrics(tmp_path / "out")["events"]["anomaly"]["found_events"] == 2


def test_a_comparison_has_paired_differences_of_event_metrics(tables, truth, tmp_path):
    worse = write(tmp_path / "worse", {"a": (50, 60), "n": (50, 70)})
    found = compare_tables(tables, worse, truth, EVALUATION, events=EVENTS)
    assert found["events/anomaly/recall_0.5"]["value"] == 1
    assert found["events/anomaly/delay_mean_s"]["value"] == pytest.approx(1 - 3)
    assert found["events/class/Fight/false_alarms_per_hour"]["value"] == 0
    assert found["events/anomaly/false_alarm_time_rate"]["value"] == pytest.approx(-1 / 26)


def gig(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_commands_print_tables_for_people_and_json_for_machines(tables, truth, tmp_path):
    out = tmp_path / "out"
    shown = gig("evaluate", "--scores", tables, "--truth", truth, "--out", out)
    assert shown.exit_code == 0, shown.output
    assert "false_alarms_per_hour" in shown.stdout
    assert "of 1 true intervals 1 hit, 0 missed" in " ".join(shown.stdout.split())
    assert f"results: {out}" in shown.stdout
    again = gig("evaluate", "--scores", tables, "--truth", truth, "--out", tmp_path / "json", "--json")
    assert json.loads(again.stdout) == metrics(tmp_path / "json")
    compared = gig("compare", tables, tables, "--truth", truth)
    assert "events/anomaly/f1_0.5" in compared.stdout
    as_json = json.loads(gig("compare", tables, tables, "--truth", truth, "--json").stdout)
    assert as_json["events/class/Fight/f1_0.5"]["value"] == 0
    for text in (shown.stdout, compared.stdout):
        assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 100


def point_file(path: Path, thresholds: dict[str, float]) -> Path:
    classes = {name: {"chosen_on": "validation"} for name in thresholds}
    path.write_text(json.dumps({"thresholds": thresholds, "classes": classes, "notes": [], "head_sha256": "a" * 64}))
    return path


def test_scores_of_any_system_are_evaluated_at_an_operating_point(tables, truth, tmp_path):
    point = point_file(tmp_path / "point.json", {"anomaly": 0.95, "Fight": 0.8, "Fire": 0.01})
    options = ("--truth", truth, "--operating-point", point)
    assert gig("evaluate", "--scores", tables, "--out", tmp_path / "out", *options).exit_code == 0
    events = metrics(tmp_path / "out")["events"]
    assert (events["rules_from"], events["rules"]["Fight"]["lower"]) == ("validation", 0.4)
    counts = [events["anomaly"]["found_events"], *(events["classes"][name]["found_events"] for name in CLASSES)]
    assert counts == [0, 2, 2]
    compared = gig("compare", tables, tables, *options, "--json")
    assert json.loads(compared.stdout)["events/anomaly/precision_0.5"]["value"] is None  # no event reaches 0.95
    gig("evaluate", "--scores", tables, "--out", tmp_path / "plain", "--truth", truth)
    assert metrics(tmp_path / "plain")["config_digest"] != metrics(tmp_path / "out")["config_digest"]


def test_an_operating_point_that_does_not_fit_the_scores_is_an_error_or_said(tables, truth, tmp_path):
    point = point_file(tmp_path / "point.json", {"anomaly": 0.95, "Fight": 0.8})
    failed = gig("evaluate", "--scores", tables, "--truth", truth, "--operating-point", point)
    assert failed.exit_code == 1
    assert "expected a threshold for events of each class, got none for Fire" in failed.stderr
    alone = gig("evaluate", "--operating-point", point)
    assert "go with --scores" in alone.stderr
    own = tmp_path / "own"
    own.mkdir()
    tables.rename(own / "frames")
    index = {"classes": CLASSES, "made_with": {"head": {"sha256": "b" * 64}}}
    index["videos"] = {v: {"file": f"{v}.parquet", "decoded_frames": n} for v, n in FRAMES.items()}
    (own / "index.json").write_text(json.dumps(index))
    point = point_file(tmp_path / "point.json", {"anomaly": 0.95, "Fight": 0.8, "Fire": 0.5})
    options = ("--truth", truth, "--operating-point", point)
    for shown in (
        gig("evaluate", "--scores", own, "--out", tmp_path / "out", *options),
        gig("compare", own, own, *options),
    ):
        assert shown.exit_code == 0, shown.output
        assert shown.stderr.count("were chosen for another head than that of these scores") == 1


@pytest.mark.parametrize("name", ["gig", "a_run_with_a_rather_long_name_of_its_own"])
def test_the_summary_has_one_row_a_run_within_100_columns(tmp_path, name):
    run = {"run": name, "head": "gig", "backbone": "tpn_tiny", "stage": "finetuned", "mf1": None}
    run |= {"videos": 9, "frames": 900, "hit_rate": 0.6, "hit_rate_chance": 0.2, "relation_energy": 0.3}
    run["relation_energy_chance"] = 0.1
    for column in ("auc", "ap", "video_auc", "event_f1_0.5", "hit_at_least_once"):
        run |= {column: 0.87654, f"{column}_low": 0.81234, f"{column}_high": 0.9}
    run |= {"auc_low": None, "auc_high": None, "false_alarms_per_hour": 1234.5}
    document = {"experiment": "x", "runs": [run, run], "quarantined": []}
    (tmp_path / "summary.json").write_text(json.dumps(document))
    text = summary_table(tmp_path)
    lines = text.splitlines()
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 100
    values = "0.8765  0.8765 [0.812, 0.900]  0.8765       -  0.8765  1234.5  0.8765"
    assert sum(" ".join(values.split()) in " ".join(line.split()) for line in lines) == 2
    assert f"hit rate of {name} (finetuned): 0.6000, by chance 0.2000; energy in" in text.replace("\n", " ")
    assert "0.3000, by chance 0.1000" in text.replace("\n", " ")
    assert "windows with a visible anomaly" in text
