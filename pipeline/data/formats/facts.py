"""What the formats need to know of a video, and frame numbers for programs that know nothing but a frame rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from pipeline.data.events import ANOMALY, Event
from pipeline.errors import PipelineError

__all__ = ["Numbering", "VideoFacts", "by_video", "check_ends", "need", "of_classes"]

FINEST_RATE = 1000
"""Frames a second, at most, of a numbering for a video of variable frame rate: times in files are rarely finer."""


@dataclass(frozen=True, eq=False)
class VideoFacts:
    """A video as far as it is known.

    Attributes:
        path: where the video lies; "" where that is not known.
        frames: how many it has; 0 where that is not known.
        fps: mean frame rate; 0 where that is not known.
        width, height: pixels, upright; 0 where they are not known.
        times_s: (frames,) float64, presentation times from 0 on, rising; None where the video was not decoded, and is
            taken to have a steady frame rate.
    """

    path: str = ""
    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    times_s: np.ndarray | None = None

    @property
    def duration_s(self) -> float:
        """Length in seconds, the last frame's duration included; 0 where it is not known."""
        if self.times_s is not None and len(self.times_s):
            return float(self.boundaries_s[-1])
        return self.frames / self.fps if self.fps else 0.0

    @cached_property
    def boundaries_s(self) -> np.ndarray:
        """(frames + 1,) float64: when each frame begins, and when the last one ends; it lasts as long as the one
        before it. Raises PipelineError where the times are not known."""
        times = self.times_s
        if times is None or not len(times):
            raise PipelineError(f"{self.path or 'a video'}: expected the presentation times of its frames, got none")
        last = times[-1] - times[-2] if len(times) > 1 else 1 / self.fps if self.fps else 0.04
        return np.append(times, times[-1] + last)


@dataclass(frozen=True, eq=False)
class Numbering:
    """Frame numbers as a program counts them that knows nothing but a frame rate: from 1, and the last belongs to the
    range.

    Of a video with a steady frame rate these are its own frames. Of another one they are steps of a clock: number n
    stands for the seconds from (n - 1) / rate to n / rate. The clock is finer than the shortest frame, so that every
    frame has its own number, and a range is read back as it was written.

    Attributes:
        rate: numbers a second.
        boundaries_s: (frames + 1,) float64, see `VideoFacts.boundaries_s`; None for a steady frame rate.
    """

    rate: float
    boundaries_s: np.ndarray | None = None

    @classmethod
    def of(cls, facts: VideoFacts) -> Numbering:
        """The numbering of a video. Raises PipelineError where its frame rate is not known."""
        if facts.times_s is None:
            if not facts.fps:
                raise PipelineError(f"{facts.path or 'a video'}: expected its frame rate, got none")
            return cls(facts.fps)
        edges = facts.boundaries_s
        for steady in (facts.fps, (len(edges) - 1) / edges[-1]):
            if np.array_equal(np.rint(edges * steady), np.arange(len(edges))):
                return cls(float(steady))
        return cls(min(FINEST_RATE, math.floor(1 / np.diff(edges).min()) + 1), edges)

    def numbers(self, start_frame: int, end_frame: int) -> tuple[int, int]:
        """(first, last) of frames [start_frame, end_frame)."""
        if self.boundaries_s is None:
            return start_frame + 1, end_frame
        first = round(self.boundaries_s[start_frame] * self.rate) + 1
        return first, max(first, round(self.boundaries_s[end_frame] * self.rate))

    def frames(self, first: int, last: int) -> tuple[int, int]:
        """Frames [start_frame, end_frame) that lie nearest to numbers first to last, one frame at least."""
        edges = self.boundaries_s
        if edges is None:
            return first - 1, last
        start = min(_nearest(edges, (first - 1) / self.rate), len(edges) - 2)
        return start, max(start + 1, _nearest(edges, last / self.rate))


def _nearest(edges: np.ndarray, time_s: float) -> int:
    return int(np.abs(edges - time_s).argmin())


def by_video(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Events by video id, both in order of name and time."""
    ordered = sorted(events, key=lambda event: (event.video_id, event.start_frame, event.end_frame, event.class_name))
    return {video_id: list(group) for video_id, group in groupby(ordered, key=lambda event: event.video_id)}


def of_classes(events: Sequence[Event], classes: Sequence[str] = ()) -> tuple[list[Event], list[str]]:
    """The events that are exported, and notes of those that are not.

    Args:
        events: all.
        classes: those that are wanted. None given: every class, and events of anomaly in general only where there are
            no others, since they cover the same time as those of the classes.

    Returns:
        The events, and one sentence on those that are left out, if there are any.

    Raises:
        PipelineError: no event is of a class that was asked for.
    """
    found = list(dict.fromkeys(event.class_name for event in events))
    if missing := [name for name in classes if name not in found]:
        raise PipelineError(f"no event of {', '.join(missing)}: the table has {', '.join(found) or 'none at all'}")
    wanted = list(classes) or [name for name in found if name != ANOMALY] or found
    kept = [event for event in events if event.class_name in wanted]
    left = [f"{sum(e.class_name == name for e in events)} event(s) of {name}" for name in found if name not in wanted]
    why = "" if classes else f": the events of the classes cover the same time; --class {ANOMALY} takes these instead"
    return kept, [f"left out: {', '.join(left)}{why}"] if left else []


def need(facts: Mapping[str, VideoFacts], video_id: str, *names: str) -> VideoFacts:
    """The facts of a video, those named among them; a path that is not known is "".

    Raises PipelineError that says which are missing.
    """
    known = facts.get(video_id, VideoFacts())
    missing = [name for name in names if not getattr(known, name)]
    if missing:
        raise PipelineError(f"{video_id}: expected to know its {', '.join(missing)}, got nothing that says so")
    return known


def check_ends(events: Sequence[Event], facts: VideoFacts) -> None:
    """Raise PipelineError for an event of a video that ends past the frames which the video is known to have."""
    for event in events:
        if facts.frames and event.end_frame > facts.frames:
            raise PipelineError(
                f"{event.video_id}: an event of frames [{event.start_frame}, {event.end_frame}), the video has "
                f"{facts.frames} frames"
            )
