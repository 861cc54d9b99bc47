"""A generated clip whose pictures are known: the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

__all__ = ["FPS", "busy_pictures", "drawn_pictures", "write_video"]

FPS = 10
STEP = 11
"""Levels by which the background changes, and pixels by which the square moves, from frame to frame."""


def drawn_pictures(count: int, width: int, height: int) -> np.ndarray:
    """Pictures (count, height, width, 3) uint8 RGB: a yellow square crosses a gradient that drifts.

    Neighbouring frames differ by more than a codec's rounding, so that frames in a wrong order are noticed.
    """
    rows, columns = np.mgrid[:height, :width]
    side = min(width, height) // 4
    pictures = np.empty((count, height, width, 3), np.uint8)
    for number, picture in enumerate(pictures):
        shift = STEP * number
        waves = (rows + shift, columns + shift, (rows + columns) // 2 + shift)
        picture[:] = np.stack([np.abs(wave % 510 - 255) for wave in waves], axis=-1)  # up and down, without a jump
        left = shift % (width - side)
        picture[side : 2 * side, left : left + side] = (250, 220, 40)
    return pictures


def busy_pictures(count: int, width: int, height: int) -> Iterable[np.ndarray]:
    """Pictures (height, width, 3) uint8 with noise over them, about as hard to decode as footage of a camera."""
    noise = np.random.default_rng(0).integers(-9, 10, (4, height, width, 1))
    for number, picture in enumerate(drawn_pictures(count, width, height)):
        yield np.clip(picture + noise[number % len(noise)], 0, 255).astype(np.uint8)


def write_video(path: Path, pictures: Iterable[np.ndarray], *, quantiser: int = 0) -> None:
    """Write H.264 in MP4, FPS frames per second.

    Args:
        path: the file.
        pictures: (height, width, 3) uint8 RGB, of even width and height.
        quantiser: of the codec; 0 keeps all but the rounding of colours, 23 is usual.

    Raises:
        OSError: the file cannot be written, or this FFmpeg has no encoder of H.264.
    """
    try:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"qp": str(quantiser), "preset": "ultrafast"})
            stream.pix_fmt = "yuv420p"
            for number, picture in enumerate(pictures):
                if not number:
                    stream.height, stream.width = picture.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError) as error:
        raise OSError(f"{path}: the clip of the self-check cannot be written: {error}") from error
