"""Turning stored pictures upright, as the container's display matrix says."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import av
import numpy as np
from av.sidedata.sidedata import SideData, Type
from av.video.reformatter import Interpolation, VideoReformatter

__all__ = ["Orientation", "Upright", "orientation"]

COLLECT_AFTER = 32


def _unnamed(cls: type[Type], value: int) -> Type:
    """A kind of side data that PyAV has no name for, such as EXIF, or the view of a stereo picture.

    Without this, one such kind beside a picture raises a ValueError, and none of the others can be read.
    """
    kind = object.__new__(cls)
    kind._value_, kind._name_ = value, f"UNNAMED_{value}"  # type: ignore[assignment]  # the stub takes members for values
    return kind


Type._missing_ = classmethod(_unnamed)  # type: ignore[assignment,method-assign]  # the hook of Enum, set from outside


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes an upright one: rows and columns exchanged, then columns or rows reversed."""

    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False


def orientation(frame: av.VideoFrame) -> Orientation:
    """The orientation that a frame's display matrix states. Angles between quarter turns are rounded.

    The matrix takes a stored point (x, y) to (a x + c y, b x + d y).
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, c < 0, b < 0)
    return Orientation(False, a < 0, d < 0)


class Upright:
    """Turns the frames of one video upright.

    Once its side data are read, PyAV ties a frame to itself, and the picture stays in memory until the garbage
    collector runs: hundreds of MiB at 1080p. So only key frames are asked; the others are as the key frame before them.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._turn: Orientation | None = None
        self._asked = 0

    def size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(width, height) after rotation."""
        return (frame.height, frame.width) if self._orientation(frame).transposed else (frame.width, frame.height)

    def image(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        """(height, width, 3) uint8 RGB: resized in the frame's own orientation, then turned and mirrored."""
        turn = self._orientation(frame)
        if turn.transposed:
            width, height = height, width
        # At an odd width, as 16:9 comes to, libswscale has one chroma value per pixel in either format and filters
        # planes faster. Where it enlarges or keeps a side, its planes differ from its packed pixels. One thread: videos
        # are decoded side by side.
        planar = width % 2 and width < frame.width and height < frame.height
        image = self._reformatter.reformat(
            frame, width, height, "gbrp" if planar else "rgb24", interpolation=Interpolation.BILINEAR, threads=1
        ).to_ndarray()
        if turn.transposed:
            image = image.transpose(1, 0, 2)
        if turn.left_right:
            image = image[:, ::-1]
        return image[::-1] if turn.upside_down else image

    def _orientation(self, frame: av.VideoFrame) -> Orientation:
        if self._turn is None or frame.key_frame:
            self._turn, self._asked = orientation(frame), self._asked + 1
            if self._asked % COLLECT_AFTER == 0:  # videos of key frames alone
                gc.collect()
        return self._turn
