"""Events: stretches of a video in which something anomalous was found, and the tables that list them.

A table is written as Parquet, CSV or JSON lines, one row per event, with the columns of `Event` in their order. CSV
cells that a spreadsheet would run as a formula are made safe, and read back as they were.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.problems import Problems
from pipeline.data.tables import read_rows, safe_row
from pipeline.errors import PipelineError

__all__ = ["ANOMALY", "COLUMNS", "SUFFIXES", "Event", "read_events", "write_events"]

ANOMALY = "anomaly"
"""The class of events of anomaly in general, whatever its class."""

SUFFIXES = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True)
class Event:
    """One event of one video.

    Attributes:
        video_id: of the video.
        source: path or URL of the video, or the camera or recording that it comes from, where that is known; else "".
        class_name: one of the anomaly classes, or `ANOMALY`.
        start_s, end_s: presentation times in seconds; the end is that of the last frame plus that frame's duration.
        start_frame, end_frame: frame numbers from 0; the end is not part of the event.
        peak_s: presentation time of the frame with the highest score.
        peak_score, mean_score: over the event's frames, in [0, 1].
    """

    video_id: str
    source: str
    class_name: str
    start_s: float
    end_s: float
    start_frame: int
    end_frame: int
    peak_s: float
    peak_score: float
    mean_score: float

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


COLUMNS = tuple("class" if field.name == "class_name" else field.name for field in fields(Event))
SCHEMA = pa.schema(
    [(name, pa.string()) for name in COLUMNS[:3]]
    + [(name, pa.int64() if name.endswith("_frame") else pa.float64()) for name in COLUMNS[3:]]
)


def write_events(path: Path, events: Sequence[Event]) -> None:
    """Write events in the form that the file's ending names: .parquet, .csv or .jsonl. Raises PipelineError for another
    one.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> event = Event("v1", "v1.mp4", "Fighting", 2.0, 4.0, 50, 100, 3.0, 0.9, 0.7)
        >>> with TemporaryDirectory() as folder:
        ...     write_events(Path(folder) / "events.csv", [event])
        ...     read_events(Path(folder) / "events.csv") == [event]
        True
    """
    rows = [tuple(asdict(event).values()) for event in events]
    if path.suffix == ".parquet":
        columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
        pq.write_table(
            pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA), path
        )
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            writer.writerows((*safe_row(row[:3]), *row[3:]) for row in rows)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        raise _unknown_ending(path)


def read_events(path: Path) -> list[Event]:
    """The events of a table that `write_events` wrote, or of one with the same columns; further columns are passed
    over.

    Raises:
        ManifestError: every row of a CSV file that cannot be read.
        PipelineError: the file cannot be read, has another ending, or lacks a column.
    """
    try:
        if path.suffix == ".parquet":
            rows = [(f"{path}, row {n}", row) for n, row in enumerate(pq.read_table(path).to_pylist(), start=1)]
        elif path.suffix == ".csv":
            problems = Problems()
            rows = list(read_rows(path, COLUMNS, problems))
            problems.raise_any()
        elif path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").split("\n")  # names may hold other line breaks
            rows = [(f"{path}, line {n}", json.loads(line)) for n, line in enumerate(lines, start=1) if line.strip()]
        else:
            raise _unknown_ending(path)
    except PipelineError:
        raise
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: the table of events cannot be read ({error})") from error
    return [_event(place, row) for place, row in rows]


def _event(place: str, row: Mapping[str, Any]) -> Event:
    try:
        return Event(
            video_id=str(row["video_id"]),
            source=str(row["source"]),
            class_name=str(row["class"]),
            start_s=float(row["start_s"]),
            end_s=float(row["end_s"]),
            start_frame=int(row["start_frame"]),
            end_frame=int(row["end_frame"]),
            peak_s=float(row["peak_s"]),
            peak_score=float(row["peak_score"]),
            mean_score=float(row["mean_score"]),
        )
    except KeyError as error:
        raise PipelineError(
            f"{place}: expected the columns {', '.join(COLUMNS)}, got none named {error.args[0]}"
        ) from error
    except (TypeError, ValueError) as error:
        raise PipelineError(f"{place}: expected numbers in the columns {', '.join(COLUMNS[3:])}: {error}") from error


def _unknown_ending(path: Path) -> PipelineError:
    got = path.suffix or "no ending"
    return PipelineError(f"{path}: expected a table of events that ends in {', '.join(SUFFIXES)}, got {got}")
