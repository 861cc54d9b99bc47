"""Output folders that appear whole or not at all, made by one process at a time.

A folder of a mirror is there when it is stored at the mirror's URL, and its lock is held there too.
"""

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
from pipeline.stages.common.leases import leases_at
from pipeline.stages.common.mirror import discard_withdrawn, fetch, is_made, place_of, publish, remote_lock, withdraw

__all__ = [
    "check_space",
    "fetch_folder",
    "fill_folder",
    "growing_folder",
    "keep_if_made_from",
    "locked",
    "make_folder",
    "try_lock",
    "whole_file",
]

INPUTS = ".made-from"
logger = logging.getLogger(__name__)
_without_locks: set[Path] = set()


def make_folder(final: Path, build: Callable[[Path], object], report: Say | None = None) -> None:
    """Fill a working folder beside `final` and rename it to that; nothing is done when `final` is there.

    Only one process works on a folder: another one waits, and then finds it done. After an error or a kill the working
    folder, `<final>.partial`, stays with every finished file, and the next process continues with it. The name of
    `final` contains the digest of its recipe, so whatever lies there was made by the same recipe.

    Args:
        final: the output.
        build: called with the working folder. Files that it reuses must be written by `whole_file`, or otherwise appear
            in one step.
        report: told which process this one waits for.

    Raises:
        OutputError: the disk is full, read-only, or the like.
    """
    if is_made(final):
        return
    with locked(final, report):
        fill_folder(final, build)


def fill_folder(final: Path, build: Callable[[Path], object]) -> None:
    """As `make_folder`, for a caller that holds the lock of `final`."""
    if is_made(final):
        return  # another process made it meanwhile
    discard_withdrawn(final)
    if not final.is_dir():  # it is, where only the last attempt to store it failed
        _fill(final, build)
    publish(final)


def fetch_folder(final: Path, report: Say | None = None) -> None:
    """Bring an output to this machine that is stored at a URL, whole or not at all; any other is left alone.

    Raises:
        CacheError: the store cannot be read.
        OutputError: what is stored is damaged, or this machine's disk fails.
    """
    if remote_lock(final):
        with _named(final), _local_lock(final, report, f"a copy of {place_of(final)}", wait=True):
            fetch(final, report)


@contextmanager
def growing_folder(folder: Path, report: Say | None = None) -> Iterator[None]:
    """Add files to a folder that is never finished, such as one of copies, during the block.

    One process does so at a time. Where the folder is stored at a URL, it has what other machines have added, and is
    stored again when there are other files than before, also after an error.

    Raises:
        CacheError, OutputError: the store or this machine's disk fails.
    """
    with locked(folder, report):
        fetch(folder, report)
        before = _names(folder)
        try:
            yield
        finally:
            if _names(folder) != before:
                withdraw(folder)
                publish(folder)


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _fill(final: Path, build: Callable[[Path], object]) -> None:
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
    """Empty a working folder that was begun with other inputs, and note these inputs.

    For a stage that reuses finished files although an input can change under the same recipe, such as a head that is
    trained again.

    Args:
        folder: the working folder that `make_folder` gives to `build`.
        inputs: identifies what the files are made from, such as a checksum.
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
    """Remove a folder that holds only folders and the note of its inputs."""
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
    """Hold the lock of an output during the block; the system releases it when the process ends, however it does.

    On a file system without locks nothing is held, and a warning says so.

    Args:
        output: what the lock is for.
        report: told which process this one waits for.
        what: what that process is making, in words; by default the path.

    Raises:
        OutputError: for every error of the system, also one in the block.
    """
    with _named(output), _lock(output, report, what, wait=True):
        yield


@contextmanager
def try_lock(output: Path) -> Iterator[bool]:
    """As `locked`, without waiting; gives whether this process holds the lock now."""
    with _named(output), _lock(output, None, None, wait=False) as held:
        yield held


@contextmanager
def _lock(output: Path, report: Say | None, what: str | None, wait: bool) -> Iterator[bool]:
    """The lock of this machine, and then that of all machines, where the output is stored at a URL."""
    with _local_lock(output, report, what, wait) as held:
        lease = remote_lock(output)
        if not held or not lease:
            yield held
            return
        url, name = lease
        with leases_at(url).hold(name, what or place_of(output), report, wait) as held_by_all:
            yield held_by_all


@contextmanager
def _local_lock(output: Path, report: Say | None, what: str | None, wait: bool) -> Iterator[bool]:
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
                continue  # the process that held it before has removed it
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            lock.flush()
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)  # before it is released: a process that waited finds that it is gone
            return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _flock(lock: IO[bytes], folder: Path, report: Say | None, options: int = 0) -> bool:
    """Lock a file; returns whether that worked. Without locks in the file system it always does, with one warning."""
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
    """Turn an error of the system into an OutputError that names the output."""
    try:
        yield
    except (PipelineError, CacheError):
        raise
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise OutputError(f"{output} cannot be made: {error.strerror or error}{place}") from error
