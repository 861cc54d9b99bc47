"""A folder of numbered images as a video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av

from pipeline.data.damage import Damage
from pipeline.data.opening import opened, reason
from pipeline.errors import DecodeError

__all__ = ["IMAGE_SUFFIXES", "decoded_images", "image_files", "read_image"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def decoded_images(folder: Path, damage: Damage | None) -> Iterator[av.VideoFrame | None]:
    """The images in order; one that cannot be read is a DecodeError, or, where damage is counted, None."""
    for index, path in enumerate(image_files(folder)):
        try:
            yield read_image(path, index)
        except DecodeError as error:
            if damage is None:
                raise
            damage.note(index, str(error))
            yield None


def image_files(folder: Path) -> list[Path]:
    """Images of a folder by the numbers in their names: 2.jpg before 10.jpg. Hidden files are none."""

    def key(path: Path) -> tuple[list[str | int], str]:
        parts = re.split(r"(\d+)", path.name)  # text and digits in turn
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name

    found = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    images = sorted(found, key=key)
    if not images:
        raise DecodeError(f"{folder}: expected a folder of images ({', '.join(IMAGE_SUFFIXES)}), found none")
    return images


def read_image(path: Path, index: int) -> av.VideoFrame:
    """Frame `index` of a folder. Raises DecodeError."""
    with opened(path) as (container, stream):
        try:
            frame = next(container.decode(stream), None)
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(f"{path}: frame {index} cannot be decoded: {reason(error)}", frame=index) from error
    if frame is None:
        raise DecodeError(f"{path}: frame {index} cannot be decoded")
    frame.pts = None
    return frame
