"""Pictures of chosen frames, decoded as the backbone's frames were, each made once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from cache.names import escape
from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.stages.common.outputs import whole_file

__all__ = ["picture_path", "write_pictures"]

WIDTH = 320


def picture_path(folder: Path, video_id: str, frame: int) -> Path:
    """Where the picture of a frame lies in a folder of them."""
    return folder / f"{escape(video_id)}-{frame}.jpg"


def write_pictures(folder: Path, video_id: str, path: Path, frames: Collection[int]) -> None:
    """Write those that are not there yet; the video is decoded once, up to the last of them, in bounded memory.

    Args:
        folder: of the pictures.
        video_id: of the video.
        path: of the video.
        frames: numbers of frames. One that was lost, or lies past the end, gets no picture.

    Raises:
        DecodeError, OSError: the video cannot be read.
    """
    wanted = {frame for frame in frames if not picture_path(folder, video_id, frame).exists()}
    if not wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    last = max(wanted)
    for index, frame in enumerate(iter_raw_frames(path, wanted=frozenset(wanted), damage=Damage())):
        if index in wanted and frame.image is not None:
            _write(picture_path(folder, video_id, index), frame.image)
        if index >= last:
            break


def _write(final: Path, image: np.ndarray) -> None:
    picture = Image.fromarray(image)
    picture.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    with whole_file(final) as partial:
        picture.save(partial, format="jpeg", quality=80, optimize=True)
