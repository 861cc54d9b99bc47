"""A folder of numbered images as a video."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import av

from pipeline.data.damage import Damage
from pipeline.data.opening import MAX_PIXELS, opened, reason
from pipeline.errors import DecodeError

__all__ = ["IMAGE_SUFFIXES", "decoded_images", "first_image", "image_files", "numbering_note", "read_image"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def decoded_images(folder: Path, damage: Damage | None, max_pixels: int = MAX_PIXELS) -> Iterator[av.VideoFrame]:
    """The images in order; one that cannot be read is a DecodeError, or damage where that is counted."""
    count = 0
    for index, path in enumerate(image_files(folder)):
        try:
            frame = read_image(path, index, max_pixels)
        except DecodeError as error:
            if damage is None:
                raise
            damage.note(count, str(error))
            continue
        yield frame
        count += 1
    if not count:
        raise DecodeError(f"{folder}: none of its images could be decoded")


def image_files(folder: Path) -> list[Path]:
    """Images of a folder by the numbers in their names: 2.jpg before 10.jpg. Hidden files are none."""

    def key(path: Path) -> tuple[list[str | int], str]:
        parts = re.split(r"(\d+)", path.name)  # text and digits in turn
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name

    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_image(entry)]
    except OSError as error:
        raise DecodeError(f"{folder}: the folder cannot be read: {reason(error)}") from error
    if not names:
        raise DecodeError(f"{folder}: expected a folder of images ({', '.join(IMAGE_SUFFIXES)}), found none")
    return sorted((folder / name for name in names), key=key)


def numbering_note(folder: Path) -> str | None:
    """What is odd about the numbers in the images' names: some are missing, or stand twice; None where nothing is.

    Names that differ in one number are held to be numbered, where most of the numbers are the same distance apart (frames of a
    video, or every fifth of them). Times of day, say, are not, and nothing is said of them. Raises DecodeError.
    """
    numbered: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    for path in image_files(folder):
        parts = re.split(r"(\d+)", path.stem)
        numbered[tuple(parts[::2])].append(tuple(parts[1::2]))
    notes = [note for names in numbered.values() if (note := _odd_numbers(names))]
    return "; ".join(notes) + "; frames are the images that are there, one after the other" if notes else None


def _odd_numbers(names: Sequence[tuple[str, ...]]) -> str | None:
    """The same of names that are alike but for these numbers."""
    varying = [column for column in zip(*names, strict=True) if len(set(column)) > 1]
    if len(varying) != 1:
        return None
    numbers = Counter(map(int, varying[0]))
    found = sorted(numbers)
    steps = Counter(later - earlier for earlier, later in zip(found, found[1:], strict=False))
    step, often = min(steps.items(), key=lambda item: (-item[1], item[0])) if steps else (1, 0)
    notes = []
    if 2 * often >= len(found) - 1:
        gaps = [(a + step, b - step) for a, b in zip(found, found[1:], strict=False) if b - a >= 2 * step]
        missing = sum((last - first) // step + 1 for first, last in gaps)
        if gaps:
            verb = "is" if missing == 1 else "are"
            notes.append(f"of the images numbered {found[0]} to {found[-1]}, {missing} {verb} missing ({_listed(gaps)})")
    if twice := [number for number, count in numbers.items() if count > 1]:
        notes.append(f"{len(twice)} numbers stand twice ({_listed([(number, number) for number in sorted(twice)])})")
    return "; ".join(notes) or None


def _listed(ranges: Sequence[tuple[int, int]], most: int = 3) -> str:
    spans = [str(first) if first == last else f"{first} to {last}" for first, last in ranges[:most]]
    return ", ".join(spans) + (", ..." if len(ranges) > most else "")


def first_image(folder: Path, images: Sequence[Path], max_pixels: int = MAX_PIXELS) -> av.VideoFrame:
    """The first of a folder's images that can be decoded. Raises DecodeError, that of the first image, where none can be."""
    failure = None
    for index, path in enumerate(images):
        try:
            return read_image(path, index, max_pixels)
        except DecodeError as error:
            failure = failure or error
    raise DecodeError(f"{folder}: none of its {len(images)} images could be decoded; {failure}") from failure


def _is_image(entry: os.DirEntry) -> bool:
    visible = entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".")
    try:
        return visible and not entry.is_dir()
    except OSError:  # a link in a circle: there, and damaged
        return visible


def read_image(path: Path, index: int, max_pixels: int = MAX_PIXELS) -> av.VideoFrame:
    """Frame `index` of a folder. Raises DecodeError."""
    with opened(path, max_pixels=max_pixels, picture=True) as (container, stream):
        try:
            frame = next(container.decode(stream), None)
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(f"{path}: frame {index} cannot be decoded: {reason(error)}", frame=index) from error
    if frame is None:
        raise DecodeError(f"{path}: frame {index} cannot be decoded")
    frame.pts = frame.dts = None
    return frame
