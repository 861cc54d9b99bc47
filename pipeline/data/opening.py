"""Opening a file that may be a video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.stream import Disposition

from pipeline.errors import DecodeError

__all__ = ["opened", "reason"]


@contextmanager
def opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """An open container and its best video stream. Raises DecodeError."""
    if not path.exists():
        raise DecodeError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DecodeError(f"{path}: the file is empty")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodeError(f"{path}: not a video that FFmpeg can open: {reason(error)}") from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise DecodeError(f"{path}: expected a video stream, the file holds {kinds}")
        yield container, stream


def reason(error: Exception) -> str:
    """FFmpeg's message without its number and the path, which ours has already."""
    return str(getattr(error, "strerror", None) or error)
