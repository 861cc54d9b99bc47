"""Output folders that appear whole or not at all, made by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import CacheError
from pipeline.errors import OutputError, PipelineError

__all__ = ["check_space", "locked", "make_folder", "whole_file"]

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
    with locked(final, report):
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
def whole_file(final: Path) -> Iterator[Path]:
    """A path beside `final` to write to; the file gets its name when the block ends, and is removed after an error."""
    partial = final.with_name(f"{final.name}.partial")
    try:
        yield partial
        os.replace(partial, final)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise OutputError when the disk of `folder` has not that much room left."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OutputError(f"{folder}: expected {needed_bytes / 2**20:.1f} MiB of free space, got {free / 2**20:.1f} MiB")


@contextmanager
def locked(output: Path, report: Report | None = None) -> Iterator[None]:
    """Hold the lock of an output; the system releases it when the process ends, however it does.

    Raises OutputError for every error of the system, also in the block.
    """
    folder = output.parent / ".locks"
    with _named(output):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / output.name).open("a+b") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if report:
                    lock.seek(0)
                    report(f"waiting for {lock.read().decode() or 'another process'}, which is making {output}")
                fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            lock.flush()
            yield


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
