"""A folder of numbered images as a video."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import av

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.opening import opened, reason
from pipeline.errors import DecodeError

__all__ = [
    "IMAGE_SUFFIXES",
    "decoded_images",
    "doubled_names",
    "first_image",
    "image_files",
    "missing_numbers",
    "read_image",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


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
    """Images of a folder by the numbers in their names: 2.jpg before 10.jpg. Hidden files are none. Raises
    DecodeError."""

    def key(path: Path) -> tuple[list[str | int], str]:
        return _parts(path.name), path.name

    try:
        with os.scandir(folder) as entries:
            found = [folder / entry.name for entry in entries if _is_image(entry)]
    except OSError as error:
        raise DecodeError(f"{folder}: cannot be read: {error.strerror}") from error
    if not found:
        raise DecodeError(f"{folder}: expected a folder of images ({', '.join(IMAGE_SUFFIXES)}), found none")
    return sorted(found, key=key)


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether its name is an image's; folders are none, a link that leads nowhere is an image that cannot be read."""
    if not entry.name.lower().endswith(IMAGE_SUFFIXES) or entry.name.startswith("."):
        return False
    try:
        return not entry.is_dir()
    except OSError:  # a link in a circle
        return True


def missing_numbers(images: Sequence[Path]) -> list[range]:
    """The numbers that are left out between a folder's images, in order.

    Only where the names differ in one number alone, and most follow each other in one step (of 5, say, where every
    fifth frame was kept). Else nothing is known of what should be there.
    """
    names = [_parts(path.stem) for path in images]
    places = [
        place for place in range(1, len(names[0]), 2) if len({name[place] for name in names if len(name) > place}) > 1
    ]
    shapes = {tuple(part for place, part in enumerate(name) if [place] != places) for name in names}
    if len(places) != 1 or len(shapes) != 1:
        return []
    numbers = sorted({name[places[0]] for name in names})
    step, count = Counter(b - a for a, b in pairwise(numbers)).most_common(1)[0]
    if 2 * count <= len(numbers) - 1:
        return []
    return [range(a + step, b, step) for a, b in pairwise(numbers) if b - a > step]


def doubled_names(images: Sequence[Path]) -> list[str]:
    """Names that several of a folder's images have, but for the ending: 001 of 001.jpg and 001.png. Each image is a
    frame."""
    return [name for name, count in Counter(path.stem for path in images).items() if count > 1]


def _parts(name: str) -> list[str | int]:
    """Text and numbers in turn."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", name))]


def first_image(images: Sequence[Path]) -> av.VideoFrame:
    """The first of a folder's images that can be read; the rest are looked at only for want of it. Raises
    DecodeError."""
    failure = None
    for index, path in enumerate(images):
        try:
            return read_image(path, index)
        except DecodeError as error:
            failure = failure or error
    raise DecodeError(f"{images[0].parent}: none of its images could be decoded: {failure}") from failure


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
