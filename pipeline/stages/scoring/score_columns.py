"""Score tables as Parquet or CSV: with the column `score`, columns named like the classes, or both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from pipeline.data.tables import read_cell
from pipeline.errors import PipelineError
from pipeline.stages.scoring.score_arrays import Scores

__all__ = ["TABLES", "columns_of", "open_table", "rows_by_video", "table_scores"]

TABLES = (".parquet", ".csv")


def open_table(video_id: str, path: Path) -> pa.Table:
    """Read a Parquet or CSV file. Raises PipelineError when it cannot be read."""
    try:
        if path.suffix != ".csv":
            return pq.read_table(path)
        table = pc.read_csv(path)
        return table.rename_columns([read_cell(name) for name in table.column_names])
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(f"{video_id}: the score table {path} cannot be read ({error})") from error


def columns_of(video_id: str, path: Path, table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Some columns of a table as numbers.

    Args:
        video_id: for messages.
        path: where the table was read from, for messages.
        table: of n rows.
        names: of the columns.

    Returns:
        (n, len(names)) float64; an empty cell is nan.

    Raises:
        PipelineError: a column is missing, or does not hold numbers.
    """
    try:
        return np.stack([table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in names], axis=1)
    except (KeyError, ValueError) as error:
        raise PipelineError(
            f"{video_id}: the score table {path} does not hold numbers in {', '.join(names)} ({error})"
        ) from error


def table_scores(video_id: str, path: Path, table: pa.Table, classes: Sequence[str]) -> Scores:
    """The scores of one video from its rows in a table.

    Args:
        video_id: for messages.
        path: where the table was read from, for messages.
        table: the rows of the video, in order.
        classes: C anomaly classes.

    Raises:
        PipelineError: the table has neither scores nor all classes, or its frames are not 0, 1, 2 and so on.
    """
    if "frame" in table.column_names and table["frame"].to_pylist() != list(range(table.num_rows)):
        raise PipelineError(f"{video_id}: the frames of {path} are not 0, 1, 2 and so on")
    held = [label for label in classes if label in table.column_names]
    if held and len(held) < len(classes):
        raise PipelineError(f"{video_id}: {path} has no column {', '.join(sorted(set(classes) - set(held)))}")
    several = columns_of(video_id, path, table, classes) if held else None
    if "score" in table.column_names:
        return columns_of(video_id, path, table, ["score"])[:, 0], several
    if several is None:
        names = ", ".join(table.column_names)
        raise PipelineError(f"{video_id}: {path}: expected a column score, or one column per class, got {names}")
    return several.max(axis=1), several


def rows_by_video(path: Path) -> tuple[pa.Table, dict[str, list[int]]]:
    """A table of all videos, and the numbers of each video's rows. Raises PipelineError if it names no videos."""
    table = open_table(path.name, path)
    name = next((name for name in ("video_id", "video") if name in table.column_names), None)
    if name is None:
        raise PipelineError(
            f"{path}: one table of all videos needs a column video_id, got {', '.join(table.column_names)}"
        )
    ids = [read_cell(str(value)) for value in table[name].to_pylist()]
    rows: dict[str, list[int]] = {}
    for row, video_id in enumerate(ids):
        rows.setdefault(video_id, []).append(row)
    return table, rows
