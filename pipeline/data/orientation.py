"""Turning stored pictures upright, as the container's display matrix says."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

__all__ = ["Orientation", "orientation", "upright_image", "upright_size"]


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes an upright one: rows and columns exchanged, then columns or rows reversed."""

    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False


def orientation(frame: av.VideoFrame) -> Orientation:
    """From the display matrix: it takes a stored point (x, y) to (a x + c y, b x + d y). Turns by other angles are rounded."""
    side = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(side), np.int32)[:5].astype(np.int64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, c < 0, b < 0)
    return Orientation(False, a < 0, d < 0)


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(width, height) after rotation."""
    return (frame.height, frame.width) if orientation(frame).transposed else (frame.width, frame.height)


def upright_image(frame: av.VideoFrame, reformatter: VideoReformatter, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8 RGB: resized in the frame's own orientation, then turned and mirrored."""
    turn = orientation(frame)
    if turn.transposed:
        width, height = height, width
    image = reformatter.reformat(
        frame, width=width, height=height, format="rgb24", interpolation=Interpolation.BILINEAR
    ).to_ndarray()
    if turn.transposed:
        image = image.transpose(1, 0, 2)
    if turn.left_right:
        image = image[:, ::-1]
    return image[::-1] if turn.upside_down else image
