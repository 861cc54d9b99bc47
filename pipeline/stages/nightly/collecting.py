"""From the score tables of a day's work to what the dataset and the page hold, one video in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.data.events import ANOMALY, Event
from pipeline.metrics.hysteresis import EventRule, frame_ends
from pipeline.stages.events.detect import events_of_video
from pipeline.stages.nightly import dataset
from pipeline.stages.nightly.dataset import File
from pipeline.stages.report.timelines import encode, envelope
from pipeline.stages.scoring.score_columns import columns_of, open_table, table_scores
from pipeline.stages.scoring.video_scores import table_path

__all__ = ["Collected", "Shown", "collect"]

BINS = 100


@dataclass(frozen=True)
class Shown:
    """A scored video as the page shows it.

    Attributes:
        file: its row.
        curve: lowest and highest scores over time, as `pipeline.stages.report.timelines.encode` gives them.
        events: of the video.
        peaks: of each event, the frame with the highest score.
    """

    file: File
    curve: str
    events: tuple[Event, ...]
    peaks: tuple[int, ...]


@dataclass
class Collected:
    """What a day has given.

    Attributes:
        shown: the scored videos, in the order of their names.
        seconds: their length.
    """

    shown: list[Shown] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def events(self) -> list[Event]:
        """Of all videos."""
        return [event for video in self.shown for event in video.events]


def collect(
    files: Sequence[File], tables: Path, target: Path, classes: Sequence[str], rules: Mapping[str, EventRule]
) -> Collected:
    """Write the score tables of the dataset, and find the events.

    Args:
        files: rows of the scored videos, still without what their scores say.
        tables: folder of the work, in which their tables lie.
        target: folder of the dataset's score tables.
        classes: of the detector.
        rules: by which events are found.
    """
    found = Collected()
    target.mkdir(parents=True)
    for file in sorted(files, key=lambda file: file.video_id):
        path = table_path(tables, file.video_id)
        table = open_table(file.video_id, path)
        dataset.write_scores(target, file.video_id, table, classes)
        general, several = table_scores(file.video_id, path, table, classes)
        times_s = columns_of(file.video_id, path, table, ["time_s"])[:, 0]
        events = events_of_video(file.video_id, file.path, classes, general, several, times_s, rules)
        length_s = float(frame_ends(times_s)[-1] - times_s[0]) if len(times_s) else 0.0
        row = replace(
            file,
            frames=len(general),
            duration_s=length_s,
            peak_score=float(general.max()) if len(general) else 0.0,
            events=sum(event.class_name == ANOMALY for event in events),
        )
        curve = encode(envelope(general, times_s, BINS)) if len(general) else ""
        peaks = tuple(
            e.start_frame + int(np.abs(times_s[e.start_frame : e.end_frame] - e.peak_s).argmin()) for e in events
        )
        found.shown.append(Shown(row, curve, tuple(events), peaks))
        found.seconds += length_s
    return found
