"""Output folders that appear whole or not at all, made by one process at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cache.errors import CacheError
from cache.objects import NO_LOCKS
from pipeline.errors import OutputError, PipelineError
from pipeline.progress import Say

__all__ = ["check_space", "fill_folder", "keep_if_made_from", "locked", "make_folder", "try_lock", "whole_file"]

INPUTS = ".made-from"
logger = logging.getLogger(__name__)
_without_locks: set[Path] = set()


def make_folder(final: Path, build: Callable[[Path], object], report: Say | None = None) -> None:
    """Fill a working folder beside `final` and rename it to that; nothing is done when `final` is there.

    Only one process works on a folder: another one waits, and finds it done. After an error or a kill the working
    folder, `<final>.partial`, stays with every file that is finished, and the next process goes on with it. `final`
    carries the digest of its recipe, so what lies there was made by the same recipe.

    Args:
        final: the output.
        build: called with the working folder. A file that it finds there and does not write anew must have been written
            by `whole_file`, or in one step otherwise.
        report: told whom this process waits for.

    Raises:
        OutputError: the disk is full, read-only, or the like.
    """
    if final.is_dir():
        return
    with locked(final, report):
        fill_folder(final, build)


def fill_folder(final: Path, build: Callable[[Path], object]) -> None:
    """As `make_folder`, for a caller who holds the lock of `final`."""
    if final.is_dir():
        return  # another process made it meanwhile
    partial = final.with_name(f"{final.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    _remove_half_written(partial)  # a killed process cannot do that itself
    try:
        build(partial)
        _remove_half_written(partial)  # of a file that was not begun again, such as a checkpoint
        for note in partial.rglob(INPUTS):
            note.unlink()
    except Exception:
        _remove_half_written(partial)
        _remove_empty(partial)
        raise
    os.rename(partial, final)


def keep_if_made_from(folder: Path, inputs: str) -> None:
    """Empty a working folder that was begun with other inputs than these, and note these.

    For a stage that takes up finished files while an input can change under one recipe, such as a head that is trained
    again.

    Args:
        folder: as `make_folder` gives it to `build`.
        inputs: what the files are made from, such as a checksum.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / INPUTS
    if note.is_file() and note.read_text(encoding="utf-8") == inputs:
        return
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with whole_file(note) as partial:
        partial.write_text(inputs, encoding="utf-8")


def _remove_half_written(folder: Path) -> None:
    for path in folder.rglob("*.partial"):
        if path.is_file():
            path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but folders and the note of its inputs."""
    if any(path.is_file() and path.name != INPUTS for path in folder.rglob("*")):
        return
    shutil.rmtree(folder, ignore_errors=True)


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
        raise OutputError(
            f"{folder}: expected {needed_bytes / 2**20:.1f} MiB of free space, got {free / 2**20:.1f} MiB"
        )


@contextmanager
def locked(output: Path, report: Say | None = None, what: str | None = None) -> Iterator[None]:
    """Hold the lock of an output; the system releases it when the process ends, however it does.

    Where the file system has no locks nothing is held, and a warning says so.

    Args:
        output: whose lock.
        report: told whom this process waits for.
        what: what the one waited for is making, in words; else the path is said.

    Raises:
        OutputError: for every error of the system, also in the block.
    """
    with _named(output), _lock(output, report, what, wait=True):
        yield


@contextmanager
def try_lock(output: Path) -> Iterator[bool]:
    """As `locked`, without waiting: whether this process holds the lock now."""
    with _named(output), _lock(output, None, None, wait=False) as held:
        yield held


@contextmanager
def _lock(output: Path, report: Say | None, what: str | None, wait: bool) -> Iterator[bool]:
    path = output.parent / ".locks" / output.name
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as lock:
            if not _flock(lock, path.parent, report, fcntl.LOCK_NB):
                if not wait:
                    yield False
                    return
                if report:
                    lock.seek(0)
                    report(f"waiting for {lock.read().decode() or 'another process'}, which is making {what or output}")
                _flock(lock, path.parent, report)
            if not _is_at(lock, path):
                continue  # who held it before has removed it
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            lock.flush()
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)  # before it is released: who waited for it finds that it is gone
            return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _flock(lock: IO[bytes], folder: Path, report: Say | None, options: int = 0) -> bool:
    """Lock a file; whether it could be. On a file system without locks it always can, with one warning a folder."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | options)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        if folder not in _without_locks:
            _without_locks.add(folder)
            warning = f"warning: {folder}: this file system has no locks ({error.strerror}); run one command at a time"
            (report or logger.warning)(warning)
    return True


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
