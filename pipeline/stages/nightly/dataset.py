"""The dataset of all days: scores, events and files as Parquet, one folder per day, in the layout of Hive partitions.

Every file of a kind has the same columns with the same types, also that of a day on which nothing came, so that pandas,
dask and DuckDB open all days as one table.
"""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache.names import escape
from pipeline.data.events import Event, write_events
from pipeline.errors import OutputError, PipelineError

__all__ = [
    "FILES",
    "File",
    "KINDS",
    "check_classes",
    "partition",
    "put",
    "read_files",
    "read_times",
    "scores_schema",
    "write_scores",
]

KINDS = ("scores", "events", "files")
RESERVED = ("date", "video_id", "frame", "time_s", "score")
FILES = pa.schema(
    [
        ("video_id", pa.string()),
        ("state", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("modified", pa.timestamp("us", tz="UTC")),
        ("version", pa.string()),
        ("scored_date", pa.string()),
        ("scored_id", pa.string()),
        ("reason", pa.string()),
        ("frames", pa.int64()),
        ("duration_s", pa.float64()),
        ("peak_score", pa.float64()),
        ("events", pa.int64()),
        ("damage", pa.string()),
    ]
)


@dataclass(frozen=True)
class File:
    """A file with which a day has dealt; one row of the table `files`.

    Attributes:
        video_id: the file's name, that of its scores where it was scored.
        state: `scored`; `moved` or `copy` where its content was scored before; `failed` where it is in quarantine.
        path: where it lay.
        sha256: of its content; "" where that is not known.
        bytes: its size; -1 where the storage does not say. Numbers are never missing, so that pandas keeps their type.
        modified: when it was last changed, by its own time; None where nothing says so.
        version: as of `Look`.
        scored_date, scored_id: under which day and name its content was scored; "" where it could not be.
        reason: why not; else "".
        frames, duration_s, peak_score, events: of a video scored on this day: decoded frames, length, highest score,
            and number of events of anomaly in general; else 0.
        damage: what was lost of it, in words; "" of a whole one.
    """

    video_id: str
    state: str
    path: str
    sha256: str
    bytes: int
    modified: datetime.datetime | None
    version: str
    scored_date: str = ""
    scored_id: str = ""
    reason: str = ""
    frames: int = 0
    duration_s: float = 0.0
    peak_score: float = 0.0
    events: int = 0
    damage: str = ""


def check_classes(classes: Sequence[str]) -> None:
    """Raise PipelineError where a class has the name of another column."""
    if taken := [name for name in classes if name in RESERVED]:
        raise PipelineError(f"class {taken[0]!r}: expected another name than those of columns, {', '.join(RESERVED)}")


def partition(folder: Path, kind: str, date: datetime.date) -> Path:
    """The folder of a day's files of a kind."""
    return folder / kind / f"date={date.isoformat()}"


def scores_schema(classes: Sequence[str]) -> pa.Schema:
    """The columns of all score tables."""
    first = [("video_id", pa.string()), ("frame", pa.int64()), ("time_s", pa.float64()), ("score", pa.float32())]
    return pa.schema([*first, *((name, pa.float32()) for name in classes)])


def write_scores(folder: Path, video_id: str, table: pa.Table, classes: Sequence[str]) -> None:
    """Write a video's score table for the dataset.

    Args:
        folder: of the day's score tables.
        video_id: of the video.
        table: frame, time_s, score and one column per class.
        classes: of the detector.
    """
    schema = scores_schema(classes)
    names = pa.repeat(pa.scalar(video_id, pa.string()), table.num_rows)
    columns = [names, *(table.column(field.name).cast(field.type) for field in list(schema)[1:])]
    pq.write_table(pa.table(columns, schema=schema), folder / _file_name(video_id))


def read_times(folder: Path, date: datetime.date, video_id: str) -> np.ndarray:
    """When each frame of a video of a day is shown, (N,) float64 seconds from the first one."""
    path = partition(folder, "scores", date) / _file_name(video_id)
    return pq.read_table(path, columns=["time_s"], partitioning=None)["time_s"].to_numpy()


def put(
    folder: Path,
    work: Path,
    date: datetime.date,
    classes: Sequence[str],
    events: Sequence[Event],
    files: Iterable[File],
) -> None:
    """Give the dataset a day: the score tables in `work`/scores, its events and its files.

    Args:
        folder: of the dataset.
        work: on the same file system; what a killed run has put of this day is replaced.
        date: which day.
        classes: of the detector.
        events, files: of the day.
    """
    for kind in KINDS:
        (work / kind).mkdir(parents=True, exist_ok=True)
    if not any((work / "scores").iterdir()):
        pq.write_table(scores_schema(classes).empty_table(), work / "scores" / "none.parquet")
    write_events(work / "events" / "events.parquet", events)
    rows = [asdict(file) for file in files]
    pq.write_table(pa.Table.from_pylist(rows, schema=FILES), work / "files" / "files.parquet")
    for kind in KINDS:
        final = partition(folder, kind, date)
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(work / kind, final)


def read_files(folder: Path, dates: Iterable[datetime.date]) -> Iterable[tuple[datetime.date, dict[str, Any]]]:
    """The rows of `files` of some days, each with its day. Raises OutputError."""
    wanted = ["video_id", "state", "path", "sha256", "version", "scored_date", "scored_id"]
    for date in dates:
        path = partition(folder, "files", date) / "files.parquet"
        try:
            rows = pq.read_table(path, columns=wanted, partitioning=None).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"{path}: the files of a complete day cannot be read ({error})") from error
        for row in rows:
            yield date, row


def _file_name(video_id: str) -> str:
    """Readers pass over names that begin with `_` or `.`."""
    key = escape(video_id)
    return f"=5f{key[1:]}.parquet" if key.startswith("_") else f"{key}.parquet"
