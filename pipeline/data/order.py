"""Lists that name the videos in a file of many, in order: one video per line, by its id or a file name."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from pipeline.data.frame_counts import PUBLISHED, SUFFIX
from pipeline.errors import ManifestError

__all__ = ["read_order"]


def read_order(file: Path, known: Collection[str] = (), suffix: str = "") -> tuple[str, ...]:
    """The ids of a list, in its order.

    Args:
        file: a text file. A line is an id or a file name, with or without folders and ending. In a published list that
            states frames, only the first cell is used.
        known: ids; a line that is one of them is used as it is.
        suffix: end of the file names that is not part of the id.

    Raises:
        ManifestError: the file cannot be read, is empty, or has a video twice.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file}: the list of videos cannot be read: {error}") from error
    ids = tuple(line if line in known else _id(line, suffix) for line in lines)
    twice = next((video_id for video_id in ids if ids.count(video_id) > 1), None) if len(set(ids)) < len(ids) else None
    if not ids or twice is not None:
        got = f"{twice} twice" if twice else "nothing"
        raise ManifestError(f"{file}: expected one video per line, each once, got {got}")
    return ids


def _id(line: str, suffix: str) -> str:
    match = next((match for pattern in PUBLISHED if (match := pattern.fullmatch(line))), None)
    name = PurePosixPath(match["name"] if match else line).name
    return SUFFIX.sub("", name).removesuffix(suffix)
