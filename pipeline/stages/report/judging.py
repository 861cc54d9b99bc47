"""What a run got right and wrong in each video, and which videos show it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.events import ANOMALY, Event
from pipeline.metrics.temporal import runs

__all__ = ["Highlight", "Highlights", "Verdict", "judge", "pick_highest", "pick_highlights"]

SHOWN = 4
"""How many videos each list of highlights has at most; `HIGHEST_SHOWN`, that of the highest moments."""
HIGHEST_SHOWN = 12


@dataclass(frozen=True)
class Highlight:
    """One moment of one video that is worth looking at.

    Attributes:
        video_id: of the video.
        frame: number of the frame to look at.
        time_s: when it is shown, seconds.
        score: of that frame.
        start_s, end_s: of the event or the annotated interval it belongs to.
    """

    video_id: str
    frame: int
    time_s: float
    score: float
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Verdict:
    """One run's events of one video beside its annotated intervals; any overlap counts as found.

    Attributes:
        video_id: of the video.
        highest: the frame of the highest score, as long as it is shown.
        outside: highest score of a frame that nothing is annotated in; None where there is none.
        false_alarms: events of anomaly in general that overlap no annotated interval, highest first.
        hits: annotated intervals that an event overlaps; the frame is that of the highest score in it.
        misses: the others, in the same way.
    """

    video_id: str
    highest: Highlight
    outside: float | None
    false_alarms: tuple[Highlight, ...]
    hits: tuple[Highlight, ...]
    misses: tuple[Highlight, ...]

    @property
    def peak(self) -> float:
        """The highest score."""
        return self.highest.score

    @property
    def error(self) -> float:
        """How far the scores are off where they are most, in [0, 1].

        The highest one outside all annotated intervals, or one minus the highest in the weakest of these.
        """
        weakest = min((found.score for found in (*self.hits, *self.misses)), default=1.0)
        return max(self.outside or 0.0, 1.0 - weakest)


@dataclass(frozen=True)
class Highlights:
    """The most telling moments of a run, the most telling first; each list has a video once at most.

    Attributes:
        false_alarms, misses, hits: of `Verdict`.
        highest: moments of the highest scores, of videos without ground truth; empty where there is ground truth.
    """

    false_alarms: tuple[Highlight, ...] = ()
    misses: tuple[Highlight, ...] = ()
    hits: tuple[Highlight, ...] = ()
    highest: tuple[Highlight, ...] = ()

    @property
    def all(self) -> tuple[Highlight, ...]:
        """All of them, list after list."""
        return (*self.false_alarms, *self.misses, *self.hits, *self.highest)


def judge(
    video_id: str,
    scores: np.ndarray,
    times_s: np.ndarray,
    ends_s: np.ndarray,
    truth: np.ndarray,
    events: Sequence[Event],
) -> Verdict:
    """Put a video's events beside its annotated intervals.

    Args:
        video_id: of the video.
        scores: (N,) float, how anomalous a frame is.
        times_s, ends_s: (N,) float64, when each frame begins and ends.
        truth: (N,) bool, whether anything is annotated in a frame.
        events: of the video; those of classes play no part.
    """
    general = [event for event in events if event.class_name == ANOMALY]
    hits: list[Highlight] = []
    misses: list[Highlight] = []
    for start, stop in runs(truth).tolist():
        frame = start + int(np.argmax(scores[start:stop]))
        moment = Highlight(
            video_id, frame, float(times_s[frame]), float(scores[frame]), float(times_s[start]), float(ends_s[stop - 1])
        )
        met = any(event.start_frame < stop and start < event.end_frame for event in general)
        (hits if met else misses).append(moment)
    false = [event for event in general if not truth[event.start_frame : event.end_frame].any()]
    alarms = [
        Highlight(
            video_id,
            event.start_frame + int(np.argmax(scores[event.start_frame : event.end_frame])),
            event.peak_s,
            event.peak_score,
            event.start_s,
            event.end_s,
        )
        for event in sorted(false, key=lambda event: -event.peak_score)
    ]
    outside = scores[~truth]
    top = int(np.argmax(scores))
    highest = Highlight(video_id, top, float(times_s[top]), float(scores[top]), float(times_s[top]), float(ends_s[top]))
    return Verdict(
        video_id, highest, float(outside.max()) if len(outside) else None, *map(tuple, (alarms, hits, misses))
    )


def pick_highlights(verdicts: Sequence[Verdict], most: int = SHOWN) -> Highlights:
    """The moments of a run to look at first.

    Args:
        verdicts: of all videos.
        most: moments per list.

    Returns:
        False alarms and hits, the highest score first; misses, the lowest score first. Ties are in order of video id.
    """

    def first(lists: list[tuple[Highlight, ...]], sign: int) -> tuple[Highlight, ...]:
        one_each = [min(found, key=lambda moment: sign * moment.score) for found in lists if found]
        return tuple(sorted(one_each, key=lambda moment: (sign * moment.score, moment.video_id))[:most])

    return Highlights(
        false_alarms=first([verdict.false_alarms for verdict in verdicts], -1),
        misses=first([verdict.misses for verdict in verdicts], 1),
        hits=first([verdict.hits for verdict in verdicts], -1),
    )


def pick_highest(verdicts: Sequence[Verdict], most: int = HIGHEST_SHOWN) -> Highlights:
    """The highest moments of videos without ground truth, the highest first; ties by video id."""
    found = sorted((verdict.highest for verdict in verdicts), key=lambda moment: (-moment.score, moment.video_id))
    return Highlights(highest=tuple(found[:most]))
