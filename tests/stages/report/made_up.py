"""A small experiment's outputs, made up: what a report is made of, without a pipeline that ran."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache.names import escape
from pipeline.config.events import Events
from pipeline.data.manifest import Interval, Manifest, VideoEntry
from pipeline.stages.report.results import Results, RunResults

FPS = 10.0


def entry(video_id: str, *labels: str, frames: int = 100, path: str = "") -> VideoEntry:
    return VideoEntry(video_id, path or f"{video_id}.mp4", "test", labels, None, 96, 64, FPS, frames, 1000)


def bump(frames: int, height: float, start: int, end: int) -> np.ndarray:
    """Scores (frames,) of 0.1 with a stretch of another height."""
    scores = np.full(frames, 0.1)
    scores[start:end] = height
    return scores


def make_run(
    folder: Path, name: str, classes: Sequence[str], scores: Mapping[str, np.ndarray], **metrics: object
) -> RunResults:
    """Score tables, all class scores equal to the general one, and an evaluation."""
    tables, evaluation, index = folder / f"scores-{name}", folder / f"evaluation-{name}", {}
    (tables / "frames").mkdir(parents=True)
    evaluation.mkdir()
    for video_id, values in scores.items():
        file = f"{escape(video_id)}.parquet"
        columns = {"frame": np.arange(len(values)), "time_s": np.arange(len(values)) / FPS, "score": values}
        pq.write_table(pa.table(columns | dict.fromkeys(classes, values * 0.9)), tables / "frames" / file)
        index[video_id] = {"file": file, "decoded_frames": len(values)}
    (tables / "index.json").write_text(json.dumps({"classes": list(classes), "videos": index}))
    figures = {"frame_auc": {"value": 0.8, "low": 0.7, "high": 0.9}, "mf1": {"value": None, "reason": "no class"}}
    document = {"head": "made up", "figures": figures, "warnings": ["one <b>warning</b>"], **metrics}
    (evaluation / "metrics.json").write_text(json.dumps(document))
    rows = {"label": ["anomaly", "anomaly"], "threshold": [0.9, 0.1], "true_positive_rate": [0.5, 1.0]}
    pq.write_table(
        pa.table(rows | {"false_positive_rate": [0.1, 1.0], "precision": [0.8, 0.2]}), evaluation / "curves.parquet"
    )
    header = "class,precision,recall,f1,ap,true_frames,predicted_frames"
    lines = [f'"{label.replace(chr(34), chr(34) * 2)}",0.5,0.25,,0.4,10,20' for label in classes]
    (evaluation / "per_class.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    (evaluation / "per_video.csv").write_text("video_id,auc\n")
    return RunResults(name, "frozen", tables, evaluation)


def make_results(
    folder: Path,
    classes: Sequence[str],
    videos: Sequence[VideoEntry],
    intervals: Sequence[Interval],
    runs: Sequence[RunResults],
    quarantined: Sequence[tuple[str, str]] = (),
) -> Results:
    manifest = Manifest(folder, tuple(classes), tuple(videos), tuple(intervals))
    facts = {"experiment": "made up", "digest": "0", "dataset": "mine", "adapter": "csv", "config": "experiment: x"}
    return Results(
        **facts, manifest=manifest, runs=tuple(runs), quarantined=tuple(quarantined), events=Events(), inside=folder
    )
