"""Output folders that appear whole or not at all, made by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import CacheError
from pipeline.errors import OutputError, PipelineError

__all__ = ["locked", "make_folder"]

Report = Callable[[str], None]


def make_folder(final: Path, build: Callable[[Path], object], report: Report | None = None) -> None:
    """Fill a working folder beside `final` and rename it to that; nothing is done when `final` is there.

    Only one process works on a folder: another one waits, and finds it done. A process that was killed leaves its working
    folder, `<final>.partial`, and the next one goes on with what is in it; after an error it is removed.

    Args:
        final: the output.
        build: called with the working folder.
        report: told whom this process waits for.

    Raises:
        OutputError: the disk is full, read-only, or the like.
    """
    if final.is_dir():
        return
    with locked(final, report), _named(final):
        if final.is_dir():
            return  # another process made it meanwhile
        partial = final.with_name(f"{final.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        try:
            build(partial)
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        os.rename(partial, final)


@contextmanager
def locked(output: Path, report: Report | None = None) -> Iterator[None]:
    """Hold the lock of an output; the system releases it when the process ends, however it does.

    Raises OutputError when the lock cannot be made.
    """
    folder = output.parent / ".locks"
    with _named(output):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / output.name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if report:
                owner = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
                report(f"waiting for {owner}, which is making {output}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M:%S')}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _named(output: Path) -> Iterator[None]:
    """Say which output a bare error of the system belongs to."""
    try:
        yield
    except (PipelineError, CacheError):
        raise
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise OutputError(f"{output} cannot be made: {error.strerror or error}{place}") from error
