"""When frames are shown: seconds that rise, from stamps that may be missing, repeated or wrong.

The clock of a file may also begin anew, as in transport streams that were joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self, TypeVar

import av
from av.format import Flags

from pipeline.errors import DecodeError

__all__ = ["Pace", "timed"]

LONGEST_GAP_S = 10.0
LONGEST_GAP_FRAMES = 10

Shown = TypeVar("Shown")


@dataclass(frozen=True)
class Pace:
    """How a video tells its times.

    Attributes:
        fps: mean frame rate, used where there is no stamp.
        restarts: whether its clock may jump, as in transport streams that were joined: a step of more than 10 s (and
            more than 10 frames) is then not a pause.
        by_order: whether it stamps frames in the order in which they are decoded, as AVI does. FFmpeg makes up
            presentation times for it, which are wrong with B-frames.
    """

    fps: float
    restarts: bool = False
    by_order: bool = False

    @classmethod
    def of(cls, container: av.container.InputContainer, fps: float) -> Self:
        """Of an open file."""
        restarts = container.format.flags & Flags.ts_discont.value  # type: ignore[operator]  # the stub: value is a member
        return cls(fps, restarts=bool(restarts), by_order=container.format.name == "avi")

    def stamp_s(self, frame: av.VideoFrame) -> float | None:
        """A frame's stamp, seconds; None where it has none."""
        # FFmpeg puts dts in order before it gives them out.
        ticks = frame.dts if self.by_order or frame.pts is None else frame.pts
        return self.seconds(ticks, frame.time_base)

    @staticmethod
    def seconds(ticks: int | None, time_base: Fraction | None) -> float | None:
        """A stamp in seconds; None where there is none."""
        return None if ticks is None or time_base is None else float(ticks * time_base)

    @property
    def step_s(self) -> float:
        """The mean step between two frames, seconds."""
        return 1 / self.fps

    @property
    def longest_s(self) -> float:
        """The longest step between two frames that is taken for real, seconds."""
        return max(LONGEST_GAP_S, LONGEST_GAP_FRAMES * self.step_s) if self.restarts else float("inf")


def timed(frames: Iterable[tuple[Shown, float | None, Pace]]) -> Iterator[tuple[Shown, float]]:
    """Give every frame its time, rising seconds from the first frame on.

    A stamp is judged by the one after it, so one frame is held back.

    Args:
        frames: what is shown, its stamp in seconds or None, and the video's pace.

    Yields:
        What is shown, and its time in seconds.
    """
    clock, source = _Clock(), iter(frames)
    held, failure = next(source, None), None
    while held is not None:
        shown, stamp_s, pace = held
        try:
            held = next(source, None)
        except DecodeError as error:  # raised after the frames that came before it
            held, failure = None, error
        yield shown, clock.time_s(stamp_s, held[1] if held else None, pace)
    if failure:
        raise failure


class _Clock:
    """Turns stamps into times.

    `_origin_s` is the stamp of time 0; it is set at the first stamp, and moves where the video's clock begins anew.
    """

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._origin_s: float | None = None

    def time_s(self, stamp_s: float | None, following_s: float | None, pace: Pace) -> float:
        """The time of the next frame, by its stamp and that of the frame after it."""
        if self._last_s is None:
            self._last_s = 0.0
            self._origin_s = _first_origin_s(stamp_s, following_s, pace)
        else:
            self._last_s = self._next_s(self._last_s, stamp_s, following_s, pace)
        return self._last_s

    def _next_s(self, last_s: float, stamp_s: float | None, following_s: float | None, pace: Pace) -> float:
        expected_s = last_s + pace.step_s
        if stamp_s is None:
            return expected_s
        if self._origin_s is None:
            self._origin_s = stamp_s - expected_s
        time_s = stamp_s - self._origin_s
        then_s = None if following_s is None else following_s - self._origin_s
        latest_s = last_s + pace.longest_s
        if then_s is not None and last_s < then_s <= latest_s:  # the frame after goes on from the one before
            if last_s < time_s <= then_s:
                return time_s
            return min(expected_s, (last_s + then_s) / 2)  # this stamp alone is wrong
        if last_s < time_s <= latest_s:
            return time_s
        if then_s is not None and 0 < then_s - time_s <= pace.longest_s:  # two agree: the clock began anew
            self._origin_s = stamp_s - expected_s
        return expected_s


def _first_origin_s(stamp_s: float | None, following_s: float | None, pace: Pace) -> float | None:
    """The stamp of time 0 by the first frame; by the second where the first stamp does not fit to it."""
    if stamp_s is None or following_s is None or 0 <= following_s - stamp_s <= pace.longest_s:
        return stamp_s
    return following_s - pace.step_s
