"""A folder of numbered images as a video."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, Self, overload

import av

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.opening import opened, reason
from pipeline.errors import DecodeError
from pipeline.remote import AnyPath, RemotePath

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


def decoded_images(folder: AnyPath, damage: Damage | None) -> Iterator[av.VideoFrame | None]:
    """The images in order.

    Args:
        folder: folder of numbered images.
        damage: where damage is counted; None makes it an error.

    Yields:
        The image; None for one that cannot be read.

    Raises:
        DecodeError: there are no images, or one cannot be read and damage is not counted.
    """
    images: Sequence[AnyPath] = image_files(folder)
    for index, path in enumerate(images):
        try:
            yield read_image(path, index)
        except DecodeError as error:
            if damage is None:
                raise
            damage.note(index, str(error))
            yield None


@overload
def image_files(folder: Path) -> list[Path]: ...


@overload
def image_files(folder: RemotePath) -> list[RemotePath]: ...


def image_files(folder: AnyPath) -> list[Path] | list[RemotePath]:
    """The images of a folder by the numbers in their names: 2.jpg before 10.jpg. Hidden files are left out.

    Raises DecodeError for a folder that cannot be read or has no images.
    """

    def key(path: AnyPath) -> tuple[list[str | int], str]:
        name = _Name.of(path.name)
        return name.parts(), path.name

    found: list[Any]
    try:
        if isinstance(folder, RemotePath):
            found = [path for path in folder.iterdir() if _names_image(path.name) and path.is_file()]
        else:
            with os.scandir(folder) as entries:
                found = [folder / entry.name for entry in entries if _is_image(entry)]
    except OSError as error:
        raise DecodeError(f"{folder}: cannot be read: {error.strerror or error}") from error
    if not found:
        raise DecodeError(f"{folder}: expected a folder of images ({', '.join(IMAGE_SUFFIXES)}), found none")
    return sorted(found, key=key)


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether it has an image's name and is no folder. A link that leads nowhere is an image that cannot be read."""
    if not _names_image(entry.name):
        return False
    try:
        return not entry.is_dir()
    except OSError:  # a link in a circle
        return True


def _names_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def missing_numbers(images: Sequence[AnyPath]) -> list[range]:
    """The numbers that are left out between a folder's images, in order.

    Nothing where the names differ in more than one number, or where most numbers do not follow each other in one step
    (of 5, say, where every fifth frame was kept): then nothing is known of what should be there.
    """
    names = [_Name.of(path.stem) for path in images]
    differing = [
        place
        for place in range(len(names[0].numbers))
        if len({name.numbers[place] for name in names if len(name.numbers) > place}) > 1
    ]
    if len(differing) != 1:
        return []
    (place,) = differing
    if len({name.without(place) for name in names}) != 1:
        return []
    numbers = sorted({name.numbers[place] for name in names})
    step, count = Counter(b - a for a, b in pairwise(numbers)).most_common(1)[0]
    if 2 * count <= len(numbers) - 1:
        return []
    return [range(a + step, b, step) for a, b in pairwise(numbers) if b - a > step]


def doubled_names(images: Sequence[AnyPath]) -> list[str]:
    """Names that several images share but for the ending, such as 001 of 001.jpg and 001.png; each image is a frame."""
    return [name for name, count in Counter(path.stem for path in images).items() if count > 1]


@dataclass(frozen=True)
class _Name:
    """A file name taken apart into text, number, text, number, ..., text; texts may be empty."""

    texts: tuple[str, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, name: str) -> Self:
        parts = re.split(r"([0-9]+)", name)
        return cls(tuple(parts[::2]), tuple(map(int, parts[1::2])))

    def parts(self) -> list[str | int]:
        """Texts and numbers in turn."""
        pairs = zip_longest(self.texts, self.numbers)
        return [part for pair in pairs for part in pair if part is not None]

    def without(self, place: int) -> _Name:
        """The name without one of its numbers."""
        return _Name(self.texts, self.numbers[:place] + self.numbers[place + 1 :])


def first_image(images: Sequence[AnyPath]) -> av.VideoFrame:
    """The first of a folder's images that can be read. Raises DecodeError where none can."""
    failure = None
    for index, path in enumerate(images):
        try:
            return read_image(path, index)
        except DecodeError as error:
            failure = failure or error
    raise DecodeError(f"{images[0].parent}: none of its images could be decoded: {failure}") from failure


def read_image(path: AnyPath, index: int) -> av.VideoFrame:
    """Decode one image.

    Args:
        path: the image.
        index: its frame number, for errors.

    Raises:
        DecodeError: it cannot be decoded.
    """
    with opened(path) as (container, stream):
        try:
            frame = next(container.decode(stream), None)
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(f"{path}: frame {index} cannot be decoded: {reason(error)}", frame=index) from error
    if frame is None:
        raise DecodeError(f"{path}: frame {index} cannot be decoded")
    frame.pts = None
    return frame
