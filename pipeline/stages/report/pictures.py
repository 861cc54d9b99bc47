"""Pictures of chosen frames, decoded as the backbone's frames were, each made once, in bounded memory and time."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cache.names import escape
from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.data.decoding.image_folder import image_files, read_image
from pipeline.data.decoding.orientation import Upright
from pipeline.data.decoding.seeking import sought_frames
from pipeline.errors import PipelineError
from pipeline.remote import AnyPath
from pipeline.stages.common.outputs import whole_file

__all__ = ["Patience", "TooLong", "picture_path", "write_pictures"]

WIDTH = 320


class TooLong(PipelineError):
    """The time for pictures is used up."""


class Patience:
    """How long may be decoded for pictures.

    Args:
        video_s: seconds for one video at a time; None for as long as it takes.
        all_s: seconds for all videos together.
    """

    def __init__(self, video_s: float | None = None, all_s: float | None = None) -> None:
        self._video_s, self._all_s, self._used_s, self._began = video_s, all_s, 0.0, 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._used_s += time.monotonic() - self._began

    def check(self) -> None:
        """Raise TooLong when the time of this video, or of all, is used up."""
        here_s = time.monotonic() - self._began
        if self._video_s is not None and here_s > self._video_s:
            raise TooLong(f"decoding up to its pictures takes more than {self._video_s:g} s")
        if self._all_s is not None and self._used_s + here_s > self._all_s:
            raise TooLong(f"{self._all_s:g} s were spent on pictures in all")


def picture_path(folder: Path, video_id: str, frame: int) -> Path:
    """Where the picture of a frame lies.

    Args:
        folder: of the pictures.
        video_id: of the video.
        frame: its number.
    """
    return folder / f"{escape(video_id)}-{frame}.jpg"


def write_pictures(
    folder: Path,
    video_id: str,
    path: AnyPath,
    frames: Collection[int],
    times_s: np.ndarray | None = None,
    patience: Patience | None = None,
) -> None:
    """Write those that are not there yet.

    They are found by seeking where the times of the frames allow it; for the others the video is decoded once, up to
    the last of them.

    Args:
        folder: of the pictures.
        video_id: of the video.
        path: of the video.
        frames: numbers of frames. One that was lost, or lies past the end, gets no picture.
        times_s: (N,) float64, when each frame is shown; None where that is not known.
        patience: how long may be decoded; those that were finished are kept.

    Raises:
        DecodeError, OSError: the video cannot be read.
        TooLong: it would take longer than there is patience.
    """
    patience, made = patience or Patience(), 0
    wanted = {frame for frame in frames if not picture_path(folder, video_id, frame).exists()}
    if not wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with patience:
            for number, image in _pictured(path, wanted, times_s, patience):
                _write(picture_path(folder, video_id, number), image)
                made += 1
    except TooLong as error:
        raise TooLong(
            f"{video_id}: {len(wanted) - made} of {len(wanted)} not made, since {error}; --all-pictures makes them"
        ) from error


def _pictured(
    path: AnyPath, wanted: set[int], times_s: np.ndarray | None, patience: Patience
) -> Iterator[tuple[int, np.ndarray]]:
    if path.is_dir():
        yield from _images(path, wanted)
        return
    left = set(wanted)
    if times_s is not None:
        for number, image in sought_frames(path, times_s, wanted, patience.check):
            left.discard(number)
            yield number, image
    if not left:
        return
    last = max(left)
    for number, frame in enumerate(iter_raw_frames(path, wanted=frozenset(left), damage=Damage())):
        patience.check()
        if number in left and frame.image is not None:
            yield number, frame.image
        if number >= last:
            return


def _images(folder: AnyPath, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Some images of a folder."""
    files = image_files(folder)
    for number in sorted(number for number in wanted if number < len(files)):
        upright, image = Upright(), read_image(files[number], number)
        yield number, np.ascontiguousarray(upright.image(image, *upright.size(image)))


def _write(final: Path, image: np.ndarray) -> None:
    picture = Image.fromarray(image)
    picture.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    with whole_file(final) as partial:
        picture.save(partial, format="jpeg", quality=80, optimize=True)
