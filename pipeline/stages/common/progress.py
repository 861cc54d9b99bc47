"""How far a stage is, how fast it goes and how long it will take.

Progress is a state, and who shows it may skip states that are soon replaced. Damage, quarantine and warnings are
events: stages tell them to `say`, which drops nothing.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping

from pipeline.progress import Progress

__all__ = ["Pace", "VideoProgress"]


class Pace:
    """Speed and time left of something that counts its steps.

    Args:
        unit: what is counted, in the plural.
        clock: seconds, never falling.
    """

    def __init__(self, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._unit, self._clock = unit, clock
        self._first = self._last = 0
        self._start: float | None = None

    def __call__(self, done: int, total: int) -> str:
        """Such as `120 of 4000 frames, 31.2 frames/s, 0:02:04 left`; without speed as long as it is not known."""
        now = self._clock()
        # Counted from the first step on: what was done before, and loading, says nothing about the speed.
        if self._start is None or done < self._last or done == self._first:
            self._start, self._first = now, done
        self._last = done
        text = f"{done} of {total} {self._unit}"
        if done == self._first or now <= self._start:
            return text
        per_s = (done - self._first) / (now - self._start)
        left = datetime.timedelta(seconds=round(max(0, total - done) / per_s))
        return f"{text}, {per_s:.3g} {self._unit}/s, {left} left"


class VideoProgress:
    """Progress of work on videos.

    It counts frames, because videos differ in length by orders of magnitude; the message counts videos.

    Args:
        progress: told how far the work is.
        planned: id -> frames according to the header, of every video to work on.
        before: number of videos that are done already.
    """

    def __init__(self, progress: Progress | None, planned: Mapping[str, int], before: int) -> None:
        self._progress, self._planned = progress, planned
        self._videos, self._settled = before + len(planned), before
        self._decoded = dict.fromkeys(planned, 0)
        self._total, self._done = sum(planned.values()), 0

    def note(self, message: str) -> None:
        """Tell what goes on, together with how far the work is."""
        if self._progress:
            self._progress(self._done, self._total, f"{self._settled} of {self._videos} videos, {message}")

    def watch(self, video_id: str, frames: int) -> None:
        """So many frames of a video are decoded."""
        self._count(video_id, min(frames, self._planned[video_id]))
        self.note(f"extracting {video_id}")

    def settled(self, video_id: str) -> None:
        """A video is done; all its planned frames count, even if it failed."""
        self._settled += 1
        self._count(video_id, self._planned[video_id])

    def _count(self, video_id: str, frames: int) -> None:
        self._done += frames - self._decoded[video_id]
        self._decoded[video_id] = frames
