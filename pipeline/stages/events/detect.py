"""From the frame scores of a video to its events, of every class and of anomaly in general."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.data.events import ANOMALY, Event
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.metrics.hysteresis import EventRule, find_spans, frame_ends
from pipeline.stages.events.rules import event_names

__all__ = ["check_scores", "events_of_video", "score_columns"]


def events_of_video(
    video_id: str,
    source: str,
    classes: Sequence[str],
    general: np.ndarray,
    classwise: np.ndarray | None,
    times_s: np.ndarray,
    rules: Mapping[str, EventRule],
) -> list[Event]:
    """The events of one video.

    Args:
        video_id: of the video.
        source: of the video, see `Event`.
        classes: C anomaly classes.
        general: (N,) float in [0, 1], how anomalous a frame is.
        classwise: (N, C) float in [0, 1], or None where there are no class scores; then events are of anomaly alone.
        times_s: (N,) float64, presentation times, never falling.
        rules: by class and `ANOMALY`.

    Returns:
        Ordered by first frame, then anomaly in general before the classes in their order.

    Raises:
        LengthMismatch: scores and times differ in number, or class scores and classes.
        PipelineError: a score is not finite or outside [0, 1], a time is not finite or earlier than the one before it,
            or a class has no rule.
    """
    columns = score_columns(video_id, classes, general, classwise)
    check_scores(video_id, columns, times_s)
    if missing := [name for name in columns if name not in rules]:
        raise PipelineError(f"{video_id}: expected a rule for each class, got none for {', '.join(missing)}")
    ends, found = frame_ends(times_s), []
    for name, scores in columns.items():
        for start, stop in find_spans(scores, times_s, rules[name]).tolist():
            part = scores[start:stop]
            peak = start + int(np.argmax(part))
            found.append(
                Event(
                    video_id=video_id,
                    source=source,
                    class_name=name,
                    start_s=float(times_s[start]),
                    end_s=float(ends[stop - 1]),
                    start_frame=start,
                    end_frame=stop,
                    peak_s=float(times_s[peak]),
                    peak_score=float(scores[peak]),
                    mean_score=float(part.mean()),
                )
            )
    return sorted(found, key=lambda event: event.start_frame)  # a stable order: names stay in theirs


def score_columns(
    video_id: str, classes: Sequence[str], general: np.ndarray, classwise: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The scores (N,) float64 of `ANOMALY` and, where there are class scores, of every class.

    Args:
        video_id: for messages.
        classes: C anomaly classes.
        general: (N,) float, how anomalous a frame is.
        classwise: (N, C) float; None where there are no class scores.

    Raises:
        LengthMismatch: the class scores are not of N frames and C classes.
        PipelineError: a class beside others has the name of anomaly in general.
    """
    columns = {ANOMALY: np.asarray(general, dtype=np.float64)}
    if classwise is not None:
        if classwise.shape != (len(general), len(classes)):
            raise LengthMismatch(
                f"{video_id}: expected class scores of shape ({len(general)}, {len(classes)}), got {classwise.shape}"
            )
        names = event_names(classes)
        numbers = {name: classes.index(name) for name in names if name != ANOMALY}
        columns |= {name: np.asarray(classwise[:, number], dtype=np.float64) for name, number in numbers.items()}
    return columns


def check_scores(video_id: str, columns: Mapping[str, np.ndarray], times_s: np.ndarray) -> None:
    """Check that events can be found in the scores of a video.

    Args:
        video_id: for messages.
        columns: scores (N,) by class and `ANOMALY`.
        times_s: (N,) float64, presentation times.

    Raises:
        LengthMismatch: there are not as many times as scores.
        PipelineError: a score is not finite or outside [0, 1], or a time is not finite or earlier than the one before.
    """
    for name, scores in columns.items():
        if len(scores) != len(times_s):
            raise LengthMismatch(
                f"{video_id}: expected one time per score, got {len(scores)} scores, {len(times_s)} times"
            )
        bad = ~((scores >= 0) & (scores <= 1))  # also true for nan
        if bad.any():
            frame = int(np.argmax(bad))
            raise PipelineError(f"{video_id}, {name}, frame {frame}: expected a score from 0 to 1, got {scores[frame]}")
    if len(times_s) and not np.isfinite(times_s).all():
        frame = int(np.argmin(np.isfinite(times_s)))
        raise PipelineError(f"{video_id}, frame {frame}: expected a time in seconds, got {times_s[frame]}")
    if (falls := np.diff(times_s) < 0).any():
        frame = int(np.argmax(falls)) + 1
        raise PipelineError(
            f"{video_id}, frame {frame}: expected a time not before the last frame's, {times_s[frame - 1]} s, "
            f"got {times_s[frame]} s"
        )
