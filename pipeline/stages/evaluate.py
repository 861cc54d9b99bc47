"""Stage 4: figures from score tables. The only stage that looks at the truth of test videos."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cache.names import escape
from pipeline.config import Experiment, SyntheticDataset, to_yaml
from pipeline.data.geometry import crop_geometry
from pipeline.data.manifest import Manifest
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.metrics.classwise import classwise_report
from pipeline.metrics.frame import frame_ap, frame_auc
from pipeline.metrics.spatial import hit_rate

__all__ = ["evaluate_run", "read_scores"]


def read_scores(folder: Path, classes: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The tables of a scores folder.

    Returns:
        Class scores (N, C) float64 and the decoded frame count of every video, by id.

    Raises:
        LengthMismatch: a table has not one row for every decoded frame.
        PipelineError: a table or the index is missing, or the classes are others.
    """
    path = folder / "index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PipelineError(f"{path}: the index of the score tables cannot be read ({error.strerror})") from error
    if tuple(index["classes"]) != tuple(classes):
        raise PipelineError(f"{path}: expected the classes {', '.join(classes)}, got {', '.join(index['classes'])}")
    scores, counts = {}, {}
    for video_id, facts in index["videos"].items():
        table_path = folder / "frames" / facts["file"]
        try:
            table = pq.read_table(table_path)
        except OSError as error:
            raise PipelineError(f"{video_id}: the score table {table_path} cannot be read ({error})") from error
        if table.num_rows != facts["decoded_frames"]:
            raise LengthMismatch(f"{video_id}: {table.num_rows} scores for {facts['decoded_frames']} decoded frames ({table_path})")
        scores[video_id] = np.stack([table[label].to_numpy() for label in classes], axis=1).astype(np.float64)
        counts[video_id] = facts["decoded_frames"]
    return scores, counts


def evaluate_run(experiment: Experiment, run_name: str, manifest: Manifest, scores_folder: Path, folder: Path) -> None:
    """Write metrics.json, per_class.csv and per_video.csv of one run.

    Raises:
        LengthMismatch: scores and truth of a video differ in length.
        PipelineError: a test video has no scores, or there are scores of a video that is not in the test split.
    """
    run = experiment.run(run_name)
    scores, counts = read_scores(scores_folder, manifest.classes)
    expected = {entry.video_id for entry in manifest.split("test")}
    if set(scores) != expected:
        missing, surplus = sorted(expected - set(scores)), sorted(set(scores) - expected)
        raise PipelineError(f"{scores_folder}: no scores for {missing}, scores for {surplus} not in the test split")
    truth = {video_id: manifest.frame_labels(video_id, counts[video_id]) for video_id in scores}
    general = {video_id: table.max(axis=1) for video_id, table in scores.items()}
    anomalous = {video_id: labels.any(axis=1) for video_id, labels in truth.items()}
    report = classwise_report(scores, truth, manifest.classes, threshold=run.evaluation.threshold, mode=run.evaluation.mode)
    metrics = {
        "run": run_name,
        "head": run.head.name,
        "backbone": experiment.features.test or experiment.backbone.name,
        "stage": "frozen",
        "auc": frame_auc(general, anomalous),
        "ap": frame_ap(general, anomalous),
        "mf1": report.mf1,
        "videos": len(scores),
        "frames": sum(counts.values()),
        "anomalous_frames": int(sum(labels.sum() for labels in anomalous.values())),
        "mf1_left_out": list(report.left_out),
        "threshold": run.evaluation.threshold,
        "mode": run.evaluation.mode,
    }
    if isinstance(experiment.dataset, SyntheticDataset):
        metrics |= _localisation(experiment, manifest, scores_folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    (folder / "config.yaml").write_text(to_yaml(run), encoding="utf-8")
    _write_csv(
        folder / "per_class.csv",
        ("class", "precision", "recall", "f1", "true_frames", "predicted_frames", "correct_frames"),
        ((c.label, c.precision, c.recall, c.f1, c.true_frames, c.predicted_frames, c.correct_frames) for c in report.classes),
    )
    _write_csv(
        folder / "per_video.csv",
        ("video_id", "frames", "anomalous_frames", "max_score", "mean_score"),
        ((v, counts[v], int(anomalous[v].sum()), float(general[v].max()), float(general[v].mean())) for v in sorted(scores)),
    )


def _localisation(experiment: Experiment, manifest: Manifest, scores_folder: Path) -> dict[str, float]:
    """SR hit rate on the synthetic truth: is the anomaly's cell, at the window's middle frame, among the k chosen?"""
    boxes: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    with (manifest.root / "boxes.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            corners = tuple(float(row[name]) for name in ("x0", "y0", "x1", "y1"))
            boxes.setdefault((row["video_id"], int(row["frame"])), []).append(corners)
    shape = experiment.preprocess
    side = shape.crop // 32
    chosen, cells = [], []
    for entry in manifest.split("test"):
        geometry = crop_geometry(entry.width, entry.height, shape.short_side, shape.crop)
        windows = pq.read_table(scores_folder / "windows" / f"{escape(entry.video_id)}.parquet")
        middles = (windows["first_frame"].to_numpy() + windows["last_frame"].to_numpy()) // 2
        for middle, positions in zip(middles, windows["positions"].to_pylist(), strict=True):
            found = set()
            for x0, y0, x1, y1 in boxes.get((entry.video_id, int(middle)), ()):
                x, y = geometry.to_crop((x0 + x1) / 2, (y0 + y1) / 2)
                if 0 <= x < shape.crop and 0 <= y < shape.crop:
                    found.add(int(y // 32) * side + int(x // 32))
            if found:
                chosen.append(positions)
                cells.append(found)
    result = hit_rate(np.asarray(chosen), cells, side * side)
    return {"hit_rate": result.rate, "hit_rate_chance": result.chance, "hit_rate_windows": result.windows}


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows(rows)
