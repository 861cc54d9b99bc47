"""Score tables of any system: what is read, that nothing is adapted silently, and evaluation from tables alone."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from places import ROOT
from sklearn.metrics import average_precision_score, roc_auc_score

from cache.names import escape
from pipeline.cli.main import main
from pipeline.config import Evaluation
from pipeline.data.manifest import Interval, Manifest, Origin, VideoEntry, save
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.metrics import FrameMetrics
from pipeline.stages.evaluation.evaluate import compare_tables, evaluate_tables
from pipeline.stages.scoring.tables import ScoreForm, per_frame, read_lengths, read_tables

CLASSES = ("Fight", "Fire")
LENGTHS = {"a#1": 20, "b=2": 33, "n": 16}


def entry(video_id: str, split: str, *labels: str, packets: int = 20) -> VideoEntry:
    return VideoEntry(video_id, f"{video_id}.mp4", split, labels, None, 96, 64, 10.0, packets, 1)


@pytest.fixture
def truth(tmp_path) -> Path:
    """A manifest of three test videos; nothing of the videos themselves exists."""
    labels = {"a#1": ("Fight",), "b=2": ("Fight", "Fire"), "n": ()}
    videos = [entry("t0", "train"), entry("t1", "train", "Fight")]
    videos += [entry(video_id, "test", *labels[video_id], packets=n) for video_id, n in LENGTHS.items()]
    intervals = (Interval("a#1", "Fight", 4, 9), Interval("b=2", "Fire", 10, 20), Interval("b=2", "Fight", 15, 35))
    origin = Origin("xd_violence", warnings=("one official fault",), clip_past_end=True)
    save(Manifest(tmp_path, CLASSES, tuple(videos), intervals, origin), tmp_path / "manifest")
    return tmp_path / "manifest"


ON_ONE_VIDEO = {"false_alarm_rate", "video_auc"}
"""Metrics that rest on the only normal video, so that no interval can be given."""


def scores(seed: int = 0, stride: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {video_id: rng.random((-(-n // stride), 2)).round(3) for video_id, n in LENGTHS.items()}


def write(folder: Path, tables: dict[str, np.ndarray], kind: str, escaped: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for video_id, table in tables.items():
        name = f"{escape(video_id) if escaped else video_id}.{kind}"
        columns = pa.table({"score": table.max(axis=1), "Fight": table[:, 0], "Fire": table[:, 1]})
        if kind == "npy":
            np.save(folder / name, table)
        elif kind == "csv":
            pc.write_csv(columns, folder / name)
        else:
            pq.write_table(columns, folder / name)
    return folder


def own(folder: Path, tables: dict[str, np.ndarray], **more: object) -> Path:
    """The form of our own score tables."""
    (folder / "frames").mkdir(parents=True)
    index = {}
    for video_id, table in tables.items():
        name = f"{escape(video_id)}.parquet"
        pq.write_table(pa.table({"Fight": table[:, 0], "Fire": table[:, 1]}), folder / "frames" / name)
        index[video_id] = {"file": name, "decoded_frames": len(table)}
    (folder / "index.json").write_text(json.dumps({"classes": CLASSES, "videos": index} | more))
    return folder


def frames(tables: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The labels and highest scores of all frames, computed by hand."""
    marks = {video_id: np.zeros(n, bool) for video_id, n in LENGTHS.items()}
    marks["a#1"][4:9] = marks["b=2"][10:33] = True
    return np.concatenate([marks[v] for v in LENGTHS]), np.concatenate([tables[v].max(axis=1) for v in LENGTHS])


@pytest.mark.parametrize("kind", ["parquet", "csv", "npy", "own"])
def test_every_form_gives_the_same_metrics(tmp_path, truth, kind):
    folder = (
        own(tmp_path / "s", scores()) if kind == "own" else write(tmp_path / "s", scores(), kind, escaped=kind == "csv")
    )
    warnings = evaluate_tables(folder, truth, tmp_path / "out", Evaluation(resamples=100))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    labels, values = frames(scores())
    assert metrics["auc"] == pytest.approx(roc_auc_score(labels, values))
    assert metrics["figures"]["frame_ap"]["value"] == pytest.approx(average_precision_score(labels, values))
    assert (metrics["videos"], metrics["anomalous_videos"], metrics["frames"], metrics["anomalous_frames"]) == (
        3,
        2,
        69,
        28,
    )
    assert warnings == ["b=2: the Fight interval [15, 35) is cut to the 33 decoded frames"]
    assert metrics["warnings"] == ["one official fault", *warnings]


def test_frames_that_were_lost_are_told(tmp_path, truth):
    folder = own(tmp_path / "s", scores())
    index = json.loads((folder / "index.json").read_text())
    index["videos"]["a#1"]["lost_frames"] = [[2, 3], [5, 8]]
    (folder / "index.json").write_text(json.dumps(index))
    warnings = evaluate_tables(folder, truth, tmp_path / "out", Evaluation(resamples=100))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["lost_frames"] == {"a#1": [[2, 3], [5, 8]]}
    count = LENGTHS["a#1"]
    line = f"a#1: 4 of {count} frames could not be decoded (2, 5 to 7); each has the score of the frame before it"
    assert line in warnings
    assert line in metrics["warnings"]


REASON = "b=2.mp4: the file is empty"
WITHOUT = f"without 1 video(s) that were in quarantine when these scores were made: b=2 ({REASON})"


def test_videos_that_the_index_names_as_quarantined_are_left_out_and_said(tmp_path, truth):
    some = {video_id: table for video_id, table in scores().items() if video_id != "b=2"}
    folder = own(tmp_path / "s", some, quarantined={"b=2": REASON, "a training video": "gone"})
    result = gig("evaluate", "--scores", folder, "--truth", truth, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"warning: {WITHOUT}\n" in result.stderr
    assert "without 1 unreadable video(s): b=2\n" in result.stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["videos"], metrics["frames"], metrics["quarantined"]) == (2, 36, ["b=2"])
    assert WITHOUT in metrics["warnings"]

    own(tmp_path / "whole", scores())
    evaluate_tables(tmp_path / "whole", truth, tmp_path / "all", Evaluation(resamples=0))
    assert "quarantined" not in json.loads((tmp_path / "all" / "metrics.json").read_text())


def test_scores_of_a_run_evaluated_without_its_thresholds_of_events_say_where_these_are(tmp_path, truth):
    run, loose = own(tmp_path / "scores-my-run-1a2b", scores()), own(tmp_path / "loose", scores(), made_with={})
    theirs = write(tmp_path / "theirs", scores(), "npy")
    point = tmp_path / "operating-point-my-run-3c4d"
    point.mkdir()
    (point / "operating_point.json").write_text('{"thresholds": {"anomaly": 0.9, "Fight": 0.9, "Fire": 0.9}}')
    said = {}
    for name, options in {
        "run": (run,),
        "point": (run, "--operating-point", point),
        "loose": (loose,),
        "theirs": (theirs,),
    }.items():
        result = gig("evaluate", "--truth", truth, "--out", tmp_path / f"{name}-out", "--scores", *options)
        assert result.exit_code == 0, result.output
        said[name] = [line for line in result.stderr.splitlines() if "thresholds of events" in line]
    note = f"note: the run's own thresholds of events come with --operating-point {tmp_path}/operating-point-my-run-*, "
    assert said == {"run": [note + "its gaps and lengths with --config"], "point": [], "loose": [], "theirs": []}


@pytest.mark.parametrize("quarantined", [{}, {"n": REASON}, {"b=2 ": REASON}])
def test_a_video_without_scores_that_the_index_does_not_name_stays_an_error(tmp_path, truth, quarantined):
    some = {video_id: table for video_id, table in scores().items() if video_id != "b=2"}
    folder = own(tmp_path / "s", some, quarantined=quarantined)
    with pytest.raises(PipelineError, match=r"1 test video\(s\) of the manifest have no scores: b=2\."):
        evaluate_tables(folder, truth, tmp_path / "out", Evaluation(resamples=0))


@pytest.mark.parametrize("other", ["npy", "own", "one table"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_comparison_leaves_what_one_system_could_not_read_out_of_both(tmp_path, truth, other, swapped):
    some = {video_id: table for video_id, table in scores().items() if video_id != "b=2"}
    if other == "one table":
        theirs = tmp_path / "theirs.parquet"
        ids = np.repeat(list(LENGTHS), list(LENGTHS.values()))
        rows = np.concatenate(list(scores(1).values()))
        pq.write_table(pa.table({"video_id": ids, "Fight": rows[:, 0], "Fire": rows[:, 1]}), theirs)
    else:
        theirs = (own if other == "own" else partial(write, kind="npy"))(tmp_path / "theirs", scores(1))
    pair = [own(tmp_path / "some", some, quarantined={"b=2": REASON}), theirs]
    labels = np.zeros(36, bool)
    labels[4:9] = True
    expected = [roc_auc_score(labels, np.concatenate([t[v].max(axis=1) for v in some])) for t in (scores(), scores(1))]
    if swapped:
        pair.reverse()
        expected.reverse()
    result = gig("compare", *pair, "--truth", truth, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["frame_auc"]["value"] == pytest.approx(expected[0] - expected[1])
    assert found["events/anomaly/hit_at_least_once"]["value"] is not None
    assert result.stderr.count(f"warning: {tmp_path / 'some'}: {WITHOUT}") == 1


def test_what_an_evaluation_leaves(tmp_path, truth):
    evaluate_tables(write(tmp_path / "s", scores(), "npy"), truth, tmp_path / "out", Evaluation(resamples=200))
    text = (tmp_path / "out" / "metrics.json").read_text()
    metrics = json.loads(text)
    assert str(tmp_path) not in text
    assert {"definitions", "config_digest", "code_version", "bootstrap", "truth"} <= set(metrics)
    assert metrics["truth"]["adapter"] == "xd_violence"
    for name, figure in metrics["figures"].items():
        if name in ON_ONE_VIDEO:
            assert (figure["low"], figure["high"]) == (None, None), name
            assert "one" in figure["reason"], name
            continue
        assert figure["low"] <= figure["high"], name
        assert 0 < figure["resamples"] <= 200, name
    assert {"frame_auc", "frame_ap_trapezoid", "video_auc", "false_alarm_rate", "mf1", "detection_map_0.5"} <= set(
        metrics["figures"]
    )
    curves = pq.read_table(tmp_path / "out" / "curves.parquet")
    assert set(curves["label"].to_pylist()) == {"anomaly", *CLASSES}
    general = np.array([label == "anomaly" for label in curves["label"].to_pylist()])
    fpr, tpr = (
        np.append(0, curves[name].to_numpy()[general]) for name in ("false_positive_rate", "true_positive_rate")
    )
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics["auc"])
    with (tmp_path / "out" / "per_video.csv").open() as stream:
        rows = {row["video_id"]: row for row in csv.DictReader(stream)}
    assert rows["n"]["auc"] == ""
    assert int(rows["a#1"]["anomalous_frames"]) == 5
    assert int(rows["n"]["alarm_frames"]) == (scores()["n"].max(axis=1) >= 0.5).sum()
    evaluate_tables(tmp_path / "s", truth, tmp_path / "again", Evaluation(resamples=200))
    assert (tmp_path / "again" / "metrics.json").read_text() == text
    assert read_lengths(tmp_path / "out" / "per_video.csv") == LENGTHS


def test_tables_without_classes_or_outside_0_to_1_say_what_they_do_not_allow(tmp_path, truth):
    write(tmp_path / "s", {v: t.max(axis=1)[:, None].repeat(2, axis=1) for v, t in scores().items()}, "npy")
    for video_id in LENGTHS:
        np.save(tmp_path / "s" / f"{video_id}.npy", scores()[video_id].max(axis=1))
    evaluate_tables(tmp_path / "s", truth, tmp_path / "one", Evaluation(resamples=10))
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert metrics["figures"]["mf1"] == {"value": None, "reason": "the tables hold no class scores"}
    assert metrics["mf1"] is None
    assert metrics["auc"] is not None
    evaluate_tables(
        write(tmp_path / "w", {v: t * 9 for v, t in scores().items()}, "csv"), truth, tmp_path / "wide", Evaluation()
    )
    figures = json.loads((tmp_path / "wide" / "metrics.json").read_text())["figures"]
    assert figures["detection_map"] == {"value": None, "reason": "the protocol is for scores from 0 to 1"}
    assert figures["mf1"]["value"] is not None


@pytest.mark.parametrize(
    ("frames", "stride", "tail", "count"),
    [
        (32, 16, "exact", 2),
        (33, 16, "partial", 3),
        (32, 16, "partial", 2),
        (33, 16, "repeat", 2),
        (5, 16, "repeat", 1),
        (7, 1, "exact", 7),
    ],
)
def test_scores_that_stand_for_several_frames(frames, stride, tail, count):
    values = np.arange(count, dtype=float)
    found = per_frame("v", values, frames, stride, tail)
    assert found.tolist() == [min(i // stride, count - 1) for i in range(frames)]
    for wrong in (count - 1, count + 1):
        with pytest.raises(LengthMismatch, match=f"v: {wrong} scores for {frames} frames"):
            per_frame("v", np.zeros(wrong), frames, stride, tail)


def test_a_stride_that_does_not_divide_needs_a_tail():
    with pytest.raises(
        LengthMismatch, match="v: 3 scores for 33 frames; stride 16 and tail exact need a multiple of 16 frames"
    ):
        per_frame("v", np.zeros(3), 33, 16, "exact")
    with pytest.raises(ValueError, match="tail"):
        per_frame("v", np.zeros(3), 33, 16, "pad")


def spoil(folder: Path, how: str) -> None:
    path = folder / "b=2.npy"
    table = np.load(path)
    if how == "missing":
        path.unlink()
    elif how == "surplus":
        np.save(folder / "other.npy", table)
    elif how == "twice":
        pq.write_table(pa.table({"score": table[:, 0]}), folder / "b=2.parquet")
    elif how == "nan":
        table[7, 1] = np.nan
        np.save(path, table)
    elif how in ("short", "long"):
        np.save(path, table[1:] if how == "short" else np.concatenate([table, table[:1]]))
    elif how == "shape":
        np.save(path, np.zeros((33, 3)))
    elif how == "garbage":
        path.write_bytes(b"no array")
    else:
        path.unlink()
        text = {
            "no score": "x\n1\n",
            "half": "score,Fire\n1,1\n",
            "order": "frame,score\n1,0.5\n0,0.5\n",
            "words": "score\nhigh\n",
        }
        (folder / "b=2.csv").write_text(text[how])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "b=2: no score table"),
        ("surplus", "other.npy: a score table of a video that is not in the test split"),
        ("twice", "b=2: several score tables: b=2.parquet, b=2.npy"),
        ("nan", "b=2: the score of frame 7 is not finite"),
        ("short", "b=2: 32 scores for 33 frames"),
        ("long", "b=2: 34 scores for 33 frames"),
        ("shape", r"b=2: .*expected shape \(n,\), .* \(n, 2\) with one column per class, .* got \(33, 3\)"),
        ("garbage", "b=2: .*cannot be read"),
        ("no score", "b=2: .*expected a column score, or one column per class, got x"),
        ("half", "b=2: .* has no column Fight"),
        ("order", "b=2: the frames of .* are not 0, 1, 2"),
        ("words", "b=2: .* does not hold numbers"),
    ],
)
def test_bad_tables_are_errors_that_name_the_video(tmp_path, truth, how, message):
    folder = write(tmp_path / "s", scores(), "npy")
    spoil(folder, how)
    with pytest.raises(PipelineError, match=message):
        evaluate_tables(folder, truth, tmp_path / "out", Evaluation(resamples=0))


def test_tables_some_of_which_hold_classes_are_an_error(tmp_path):
    folder = write(tmp_path / "s", scores(), "npy")
    np.save(folder / "n.npy", np.zeros(16))
    with pytest.raises(PipelineError, match="the tables of n hold no classes"):
        read_tables(folder, CLASSES, LENGTHS)


def test_the_only_class_is_the_general_score(tmp_path):
    (tmp_path / "s").mkdir()
    np.save(tmp_path / "s" / "v.npy", np.array([0.1, 0.9]))
    tables = read_tables(tmp_path / "s", ("Anomaly",), {"v": 2})
    assert tables.classwise["v"].tolist() == [[0.1], [0.9]]


def test_a_stride_is_not_for_tables_of_every_frame(tmp_path):
    with pytest.raises(PipelineError, match="a score for every frame"):
        read_tables(own(tmp_path / "s", scores()), CLASSES, LENGTHS, ScoreForm(stride=2))


def test_known_lengths_take_the_place_of_planned_ones(tmp_path, truth):
    tables = scores() | {"n": np.zeros((15, 2))}
    folder = write(tmp_path / "s", tables, "npy")
    with pytest.raises(LengthMismatch, match="n: 15 scores for 16 frames"):
        evaluate_tables(folder, truth, tmp_path / "out", Evaluation(resamples=0))
    evaluate_tables(folder, truth, tmp_path / "out", Evaluation(resamples=0), lengths={"n": 15})
    with pytest.raises(PipelineError, match="expected video_id and frames in a CSV file"):
        read_lengths(truth / "manifest.json")


def test_a_comparison_is_paired(tmp_path, truth):
    first, second = own(tmp_path / "a", scores()), write(tmp_path / "b", scores(1), "csv")
    found = compare_tables(first, second, truth, Evaluation(resamples=50))
    labels, _ = frames(scores())
    expected = roc_auc_score(labels, frames(scores())[1]) - roc_auc_score(labels, frames(scores(1))[1])
    assert found["frame_auc"]["value"] == pytest.approx(expected)
    assert found["frame_auc"]["low"] <= expected <= found["frame_auc"]["high"]
    coarse, form = write(tmp_path / "c", scores(1, stride=16), "npy"), ScoreForm(16, "partial")
    assert compare_tables(first, coarse, truth, Evaluation(resamples=5), form=form)["frame_auc"]["value"] is not None
    same = compare_tables(first, first, truth, Evaluation(resamples=50))
    defined = {name: figure for name, figure in same.items() if figure["value"] is not None}
    assert all(name.startswith("events/") and figure["reason"] for name, figure in same.items() if name not in defined)
    for name, figure in defined.items():
        assert (figure["value"], figure["low"], figure["high"]) == (0, None, None), name
    on_one = {name for name, figure in defined.items() if "rests on one video" in figure["reason"]}
    assert {name for name in on_one if "/" not in name} == ON_ONE_VIDEO
    assert all("whichever videos are drawn" in defined[name]["reason"] for name in defined.keys() - on_one)


def test_a_comparison_with_tables_without_classes_has_the_metrics_of_both(tmp_path, truth):
    (tmp_path / "b").mkdir()
    for video_id, table in scores(1).items():
        np.save(tmp_path / "b" / f"{video_id}.npy", table.max(axis=1))
    found = compare_tables(own(tmp_path / "a", scores()), tmp_path / "b", truth, Evaluation(resamples=0))
    events = {name for name in found if name.startswith("events/anomaly/")}
    assert "events/anomaly/f1_0.5" in events
    assert set(found) - events == set(FrameMetrics.NEEDS)


def gig(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_commands(tmp_path, truth, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = own(tmp_path / "mine", scores())
    other = write(tmp_path / "other", scores(1, stride=16), "npy")
    assert gig("evaluate", "--scores", mine, "--truth", truth).exit_code == 0
    assert (tmp_path / "mine-evaluation" / "metrics.json").is_file()
    again = gig("evaluate", "--scores", mine, "--truth", truth)
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)
    result = gig("evaluate", "--scores", other, "--truth", truth, "--stride", 16, "--tail", "partial", "--out", "o")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "o" / "metrics.json").read_text())["stride"] == 16
    assert "warning: b=2: the Fight interval" in result.stderr
    assert gig("compare", mine, mine, "--truth", truth).exit_code == 0
    assert gig("export-submission", "--scores", mine, "--out", "sub").stdout.split() == [
        "sub/task1.csv",
        "sub/task2.csv",
    ]
    for wrong in (("--scores", mine), ("--truth", truth), ("--stride", 4)):
        assert gig("evaluate", *wrong).exit_code == 1


def test_evaluation_from_tables_needs_neither_torch_nor_features(tmp_path, truth):
    folder = write(tmp_path / "s", scores(), "parquet")
    code = (
        "import sys; from pipeline.cli.main import main\n"
        f"main(['evaluate', '--scores', {str(folder)!r}, '--truth', {str(truth)!r},"
        f" '--out', {str(tmp_path / 'out')!r}], standalone_mode=False)\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'mmaction', 'luigi')))"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "out" / "metrics.json").is_file()


def test_an_index_without_some_test_videos_or_with_others_is_an_error_that_names_them(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "index.json").write_text('{"classes": ["Fire"], "videos": {}}')
    with pytest.raises(
        PipelineError, match=r"2 test video\(s\) of the manifest have no scores: a, b\. A video in quar"
    ):
        read_tables(tmp_path, ["Fire"], {"b": 3, "a": 3})
    pq.write_table(pa.table({"frame": [0], "time_s": [0.0], "score": [0.5], "Fire": [0.5]}), tmp_path / "frames" / "c")
    videos = {"c": {"file": "c", "decoded_frames": 1}}
    (tmp_path / "index.json").write_text(json.dumps({"classes": ["Fire"], "videos": videos}))
    with pytest.raises(PipelineError, match=r"1 video\(s\) with scores are not in the test split: c$"):
        read_tables(tmp_path, ["Fire"], {})
