"""A video as clips are made of it: every frame in its place and upright, converted only where its picture is wanted."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.opening import reason
from pipeline.data.decoding.orientation import Upright
from pipeline.data.decoding.placing import Placed, placed_frames
from pipeline.data.decoding.times import timed
from pipeline.errors import DecodeError
from pipeline.remote import AnyPath

__all__ = ["Shown", "shown_frames"]


class Shown:
    """One frame; its picture can be read until the next frame is decoded.

    Args:
        path: the video, for messages.
        upright: rotates the pictures of the video.
        placed: the frame as it was decoded.
        index: its number, from 0.
        time_s: seconds from the video's first frame on.

    Attributes:
        index: its number, from 0.
        time_s: seconds from the video's first frame on.
        origin_s: what the container's clock said at the first frame, as far as this frame tells; None where it has no
            stamp.
    """

    def __init__(self, path: AnyPath, upright: Upright, placed: Placed, index: int, time_s: float) -> None:
        self._path, self._upright, self._frame = path, upright, placed.frame
        self.index, self.time_s = index, time_s
        self.origin_s = None if placed.stamp_s is None else placed.stamp_s - time_s

    def size(self) -> tuple[int, int]:
        """(width, height) of its picture."""
        return self._upright.size(self._frame)

    def picture(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """The picture, upright, (height, width, 3) uint8 RGB.

        Args:
            size: (width, height) of the result; None for the video's own.

        Raises:
            DecodeError: the frame cannot be converted to RGB.
        """
        try:
            return np.ascontiguousarray(self._upright.image(self._frame, *(size or self._upright.size(self._frame))))
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(
                f"{self._path}: frame {self.index} cannot be converted to RGB: {reason(error)}", frame=self.index
            ) from error


def shown_frames(path: AnyPath, damage: Damage) -> Iterator[Shown]:
    """All frames of a video file or a folder of images, as `pipeline.data.decoding` numbers and times them.

    Args:
        path: the video.
        damage: where damage is counted.

    Raises:
        DecodeError: the video cannot be decoded at all.
    """
    upright = Upright()
    stamped = ((placed, placed.stamp_s, placed.pace) for placed in placed_frames(path, damage))
    for index, (placed, time_s) in enumerate(timed(stamped)):
        yield Shown(path, upright, placed, index, time_s)
