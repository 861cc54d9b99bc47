"""Task 2 of CitySCENE: a CSV file with video, class, start, end, score; frames from 0, the end is not part of it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import TextIO

from pipeline.data.events import ANOMALY, Event
from pipeline.data.formats.facts import by_video
from pipeline.data.tables import safe_row
from pipeline.errors import PipelineError

__all__ = ["Row", "event_rows", "write_task2"]

Row = tuple[str, str, int, int, float]


def write_task2(stream: TextIO, rows: Iterable[Row]) -> None:
    """Write rows (video, class, first frame, frame after the last, score)."""
    writer = csv.writer(stream)
    writer.writerow(("video", "class", "start", "end", "score"))
    for *names_and_frames, score in rows:
        writer.writerow((*safe_row(names_and_frames), f"{score:.6f}"))


def event_rows(events: Sequence[Event]) -> list[Row]:
    """Events as rows, with their mean score.

    Raises:
        PipelineError: an event is of anomaly in general; the task has events of classes only.
    """
    if any(event.class_name == ANOMALY for event in events):
        raise PipelineError(f"task 2 of CitySCENE is of classes: expected events of classes, got some of {ANOMALY!r}")
    return [
        (e.video_id, e.class_name, e.start_frame, e.end_frame, e.mean_score)
        for group in by_video(events).values()
        for e in group
    ]
