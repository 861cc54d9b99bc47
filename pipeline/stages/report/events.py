"""The events that the page shows, found in the score tables by one rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.data.events import ANOMALY, Event
from pipeline.metrics.hysteresis import EventRule, find_spans, frame_ends

__all__ = ["RULE", "find_events"]

RULE = EventRule(upper=0.5, lower=0.25, merge_gap_s=1.0, min_length_s=0.5)


def find_events(
    video_id: str,
    source: str,
    classes: Sequence[str],
    general: np.ndarray,
    classwise: np.ndarray,
    times_s: np.ndarray,
) -> list[Event]:
    """The events of one video, of anomaly in general and of every class, in time.

    Args:
        video_id, source: of the video, see `Event`.
        classes: C anomaly classes.
        general: (N,) float in [0, 1], how anomalous a frame is.
        classwise: (N, C) float in [0, 1].
        times_s: (N,) float64, presentation times.
    """
    columns = {ANOMALY: general} | {
        name: classwise[:, number] for number, name in enumerate(classes) if name != ANOMALY
    }
    ends, found = frame_ends(times_s), []
    for name, scores in columns.items():
        for start, stop in find_spans(scores, times_s, RULE).tolist():
            peak = start + int(np.argmax(scores[start:stop]))
            times = float(times_s[start]), float(ends[stop - 1]), start, stop, float(times_s[peak])
            found.append(Event(video_id, source, name, *times, float(scores[peak]), float(scores[start:stop].mean())))
    return sorted(found, key=lambda event: event.start_frame)
