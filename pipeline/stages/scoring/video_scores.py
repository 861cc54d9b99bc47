"""The scores of one video, and the Parquet tables that hold them. They never hold labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache.names import escape
from pipeline.data.tables import safe_row
from pipeline.errors import PipelineError
from pipeline.stages.common.outputs import whole_file

__all__ = ["VideoScores", "table_facts", "table_path", "write_csv", "write_scores"]

FACTS = b"gig-vad"
"""Key in the metadata of a Parquet table under which its facts lie."""


@dataclass(frozen=True)
class VideoScores:
    """Scores of one video of N frames and W windows.

    Attributes:
        frames: (N, C) float32 in [0, 1], smoothed anomaly class scores.
        anomaly: (N,) float32 in [0, 1], how anomalous a frame is: the maximum of the class scores; of a binary method
            its own score, smoothed.
        times_s: (N,) float64.
        windows: (W, 1 + C) float32, eq. 7, as the head gave them.
        spans: (W, 2) int64, first and last frame of a window.
        positions: (W, k) int64, the positions chosen by spatial reasoning, row x columns + column; k is 0 for pooled
            maps.
        relations: (W, rows x columns) float32, of every cell to the cue, by which they were chosen; no cells where k
            is 0.
    """

    frames: np.ndarray
    anomaly: np.ndarray
    times_s: np.ndarray
    windows: np.ndarray
    spans: np.ndarray
    positions: np.ndarray
    relations: np.ndarray


def table_path(folder: Path, video_id: str) -> Path:
    """Where the score table of a video lies in a folder of score tables."""
    return folder / "frames" / f"{escape(video_id)}.parquet"


def write_scores(
    folder: Path,
    video_id: str,
    scores: VideoScores,
    classes: Sequence[str],
    facts: Mapping[str, object] | None = None,
    relations: bool = False,
) -> Path:
    """Write frames/<key>.parquet (frame, time_s, score, one column per class) and windows/<key>.parquet.

    Args:
        folder: where both go.
        video_id: which video.
        scores: its scores.
        classes: C names.
        facts: where the scores come from, as plain data; stored in the first table, `table_facts` reads them.
        relations: keep the relation maps of the windows, which only evaluation with known places needs.

    Returns:
        The path of the first table.
    """
    count = len(scores.frames)
    columns = {
        "frame": pa.array(np.arange(count, dtype=np.int64)),
        "time_s": pa.array(scores.times_s),
        "score": pa.array(scores.anomaly),
    }
    columns |= {label: pa.array(scores.frames[:, i]) for i, label in enumerate(classes)}
    windows = {
        "first_frame": pa.array(scores.spans[:, 0]),
        "last_frame": pa.array(scores.spans[:, 1]),
        "Normal": pa.array(scores.windows[:, 0]),
        "positions": pa.array(list(scores.positions), type=pa.list_(pa.int64())),
    }
    if relations:
        windows["relations"] = pa.array(list(scores.relations), type=pa.list_(pa.float32()))
    windows |= {label: pa.array(scores.windows[:, 1 + i]) for i, label in enumerate(classes)}
    final = table_path(folder, video_id)
    tables = {folder / "windows" / final.name: pa.table(windows), final: pa.table(columns)}
    if facts is not None:
        tables[final] = tables[final].replace_schema_metadata({FACTS: json.dumps(facts, sort_keys=True)})
    for path, table in tables.items():  # the table of frames last: when it is there, the video is done
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            pq.write_table(table, partial)
    return final


def table_facts(path: Path) -> dict[str, Any] | None:
    """The facts stored in a score table; None if there are none. Raises PipelineError for a file that is no table."""
    try:
        found = (pq.read_schema(path).metadata or {}).get(FACTS)
        facts: dict[str, Any] | None = None if found is None else json.loads(found)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise PipelineError(f"{path}: not a score table ({error})") from error
    return facts


def write_csv(table: Path) -> Path:
    """Write a score table as CSV too, beside it; returns the path."""
    columns = pq.read_table(table)
    final = table.with_suffix(".csv")
    with whole_file(final) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        lines.writerow(safe_row(columns.column_names))
        lines.writerows(zip(*(column.to_pylist() for column in columns.columns), strict=True))
    return final
