"""How far a stage is, how fast it goes and how long it will take.

Progress is a state: whoever shows it may leave out what is soon replaced. What a person should know of, such as damage,
quarantine or a warning, is an event and never comes this way: stages tell it to `say`, which drops nothing.
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
        """Such as `120 of 4000 frames, 31.2 frames/s, 0:02:04 left`; no speed before there is one to tell."""
        now = self._clock()
        # Counted from where the first step begins: what was done before, or loaded, says nothing of the speed.
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
    """Work on videos, counted in frames, for videos differ in length by orders of magnitude; the message counts the
    videos.

    Args:
        progress: told.
        planned: frames of every video to be worked on, as its header has them, by id.
        before: videos on which there is nothing to be done.
    """

    def __init__(self, progress: Progress | None, planned: Mapping[str, int], before: int) -> None:
        self._progress, self._planned = progress, planned
        self._videos, self._settled = before + len(planned), before
        self._decoded = dict.fromkeys(planned, 0)
        self._total, self._done = sum(planned.values()), 0

    def note(self, message: str) -> None:
        """Tell what goes on, beside how far it is."""
        if self._progress:
            self._progress(self._done, self._total, f"{self._settled} of {self._videos} videos, {message}")

    def watch(self, video_id: str, frames: int) -> None:
        """A video has come to its frame `frames`."""
        self._count(video_id, min(frames, self._planned[video_id]))
        self.note(f"extracting {video_id}")

    def settled(self, video_id: str) -> None:
        """A video is done: with all its planned frames, whatever became of it."""
        self._settled += 1
        self._count(video_id, self._planned[video_id])

    def _count(self, video_id: str, frames: int) -> None:
        self._done += frames - self._decoded[video_id]
        self._decoded[video_id] = frames
