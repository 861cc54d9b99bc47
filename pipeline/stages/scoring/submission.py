"""Score tables as a submission to CitySCENE."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.data.formats.cityscene import write_task2
from pipeline.data.tables import safe_row
from pipeline.errors import PipelineError
from pipeline.metrics.temporal import runs
from pipeline.stages.scoring.tables import ScoreForm, read_index, read_tables, resolve_thresholds

__all__ = ["export_submission"]


def export_submission(
    source: Path,
    out: Path,
    threshold: float,
    classes: Sequence[str] = (),
    lengths: Mapping[str, int] | None = None,
    form: ScoreForm | None = None,
) -> tuple[Path, Path]:
    """Write score tables as the two CitySCENE tasks.

    task1.csv has video, frame, score: the anomaly score of every frame. task2.csv has video, class, start, end, score:
    the maximal runs of frames whose class score is at least the threshold, as [start, end), with their mean score.

    Args:
        source: the score tables.
        out: where the two files go.
        threshold: for the classes for which none was chosen with the head.
        classes: for tables without an index, see `read_tables`.
        lengths: for tables without an index, see `read_tables`.
        form: for tables without an index, see `read_tables`.

    Returns:
        The paths of the two files.

    Raises:
        PipelineError: the tables have no index and `lengths` are not given, or they hold no class scores.
        LengthMismatch: as `read_tables`.
    """
    if (source / "index.json").is_file():
        index = read_index(source)
        classes, lengths = tuple(index["classes"]), {v: facts["decoded_frames"] for v, facts in index["videos"].items()}
    elif lengths is None:
        raise PipelineError(
            f"{source}: these tables have no index: their classes and lengths come from a manifest (--truth)"
        )
    tables = read_tables(source, classes, lengths, form)
    if tables.classwise is None:
        raise PipelineError(f"{source}: the tables hold no class scores, which task 2 needs")
    limits = resolve_thresholds(tables.thresholds, threshold, len(classes))
    out.mkdir(parents=True, exist_ok=True)
    task1, task2 = out / "task1.csv", out / "task2.csv"
    with task1.open("w", newline="", encoding="utf-8") as stream:
        frame_rows = csv.writer(stream)
        frame_rows.writerow(("video", "frame", "score"))
        for video_id in sorted(tables.general):
            (name,) = safe_row([video_id])
            frame_rows.writerows((name, i, f"{value:.6f}") for i, value in enumerate(tables.general[video_id]))
    rows = (
        (video_id, label, start, end, float(column[start:end].mean()))
        for video_id, scores in sorted(tables.classwise.items())
        for label, column, limit in zip(classes, scores.T, limits, strict=True)
        for start, end in runs(column >= limit).tolist()
    )
    with task2.open("w", newline="", encoding="utf-8") as stream:
        write_task2(stream, rows)
    return task1, task2
