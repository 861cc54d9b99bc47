"""When each frame of a video is shown: seconds that rise from 0, made of time stamps that may be missing, wrong or begin anew.

The stamps are the presentation times that the decoder passes on. An AVI has none: it numbers its packets, and a frame comes out
with the number of the packet that let it out, which rises from frame to frame, so that number is taken.

A stamp is held against the frame before it and against the stamp after it:
- it may be any time ahead, as frames of a varying rate are; where the next stamp goes back before it, it was wrong;
- where two stamps in a row are further back than a decoder reorders frames, a clock began anew (transport streams that were
  joined carry one clock each), and the times go on where they were. In formats whose clocks may do so, more than 10 s ahead is
  such a beginning too;
- where the clock that was left soon fits better than the new one, it is taken up again: some stamps were wrong;
- a frame whose stamp is missing or wrong is shown one frame's duration after the frame before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import av
from av.format import Flags

from pipeline.errors import DecodeError

__all__ = ["Clock", "Pace", "pace_of", "timed"]

REORDERED_FRAMES = 16
LONGEST_STEP_S = 10.0


@dataclass(frozen=True)
class Pace:
    """What a container says of its time stamps.

    Attributes:
        fps: mean frame rate.
        joins: its clock may begin anew, as in transport streams.
        numbered: it has packet numbers (decoding times) in place of presentation times.
    """

    fps: float
    joins: bool = False
    numbered: bool = False


def pace_of(container: av.container.InputContainer, fps: float) -> Pace:
    """The pace of an open file."""
    return Pace(fps, bool(container.format.flags & Flags.ts_discont.value), container.format.name == "avi")


def timed(frames: Iterable[tuple[av.VideoFrame, Pace]]) -> Iterator[tuple[av.VideoFrame, float]]:
    """Every frame with its time in seconds, one frame behind the decoder. A DecodeError is raised after the frames before it."""
    clock = held = None
    frames = iter(frames)
    failure = None
    while True:
        try:
            frame, pace = next(frames, (None, None))
        except DecodeError as error:
            frame, failure = None, error
        stamp = None if frame is None else _stamp(frame, pace)
        if held is not None:
            yield held[0], clock.time(held[1], stamp)
        if failure:
            raise failure
        if frame is None:
            return
        clock = clock or Clock(pace)
        held = frame, stamp


def _stamp(frame: av.VideoFrame, pace: Pace) -> float | None:
    """Seconds by the stream's clock; None where the frame has no stamp."""
    ticks = frame.dts if pace.numbered else frame.pts
    return None if ticks is None or frame.time_base is None else float(ticks * frame.time_base)


class Clock:
    """Turns the stamps of one video into times, one after the other."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._step = 1 / pace.fps
        self._last: float | None = None
        self._offset: float | None = None  # from the stamps to the times; None before the first stamp
        self._left: float | None = None  # that of the clock before it, for a while
        self._frames = 0  # since that clock was left

    def time(self, stamp: float | None, following: float | None) -> float:
        """Seconds from the first frame, above those of the frame before.

        Args:
            stamp: of the frame, seconds by its clock; None where it has none.
            following: of the frame after it; None where it has none, or there is no such frame.
        """
        due = 0.0 if self._last is None else self._last + self._step
        time_s = due
        if stamp is not None:
            if self._offset is None:
                self._offset = due - stamp
            if self._last is not None:
                time_s = self._placed(stamp, following, due)
        self._last = time_s
        return time_s

    def _placed(self, stamp: float, following: float | None, due: float) -> float:
        last, time_s = self._last, stamp + self._offset
        if self._left is not None:
            before = stamp + self._left
            if before > last and abs(before - due) < abs(time_s - due):
                self._offset, self._left, time_s = self._left, None, before
            self._frames += 1
            if self._frames == REORDERED_FRAMES:
                self._left = None
        next_s = None if following is None else following + self._offset
        if self._begins_anew(time_s, next_s):
            self._offset, self._left, self._frames = due - stamp, self._offset, 0
            return due
        if time_s > last and (next_s is None or next_s >= time_s):
            return time_s
        if time_s <= last and next_s is not None and last < next_s < due + self._step:
            return (last + next_s) / 2  # two frames of one stamp, say: the room before the next
        return due

    def _begins_anew(self, time_s: float, next_s: float | None) -> bool:
        reordered = REORDERED_FRAMES * self._step
        if time_s < self._last - reordered:
            return next_s is None or next_s <= self._last
        ahead = time_s > self._last + LONGEST_STEP_S
        return self._pace.joins and ahead and (next_s is None or next_s >= time_s)
