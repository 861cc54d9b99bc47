"""What the cache needs of a file system: objects below one root, on a local disk or behind any fsspec URL."""

from __future__ import annotations

import datetime
import errno
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from cache.errors import InvalidSetting, MissingExtra, ReadFailed, WriteFailed
from cache.limits import LISTING, limit_s, within
from cache.zarr_loop import end_loop_in_time
from cache.zarr_stores import KnownStore, RemoteStore, as_os_errors

__all__ = ["Objects", "reading", "writing"]

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
end_loop_in_time()
logger = logging.getLogger(__name__)
Result = TypeVar("Result")
MODIFIED = ("mtime", "LastModified", "last_modified", "updated", "created")


class Objects:
    """Reads, writes and lists objects by their path relative to the root.

    Attributes:
        url: the root.
        local: whether it is a folder of this machine, which has locks and renames.

    Raises:
        InvalidSetting: a URL of a storage that fsspec does not know.
        MissingExtra: a storage whose package is not installed.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self._options = _in_one_piece(url) | dict(storage_options or {})
        # A listing that fsspec remembers would hide what other processes have committed since.
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **self._options)
        except ValueError as error:
            raise InvalidSetting(
                f"{url}: expected a folder or a URL of a storage that fsspec knows: {error}"
            ) from error
        except ImportError as error:
            raise MissingExtra(f"{url}: {error}") from error
        self._limit_s = limit_s()
        self._root = root.rstrip("/")
        self.local = isinstance(self._fs, LocalFileSystem)

    def path(self, relative: str) -> str:
        """The path of an object as the file system has it."""
        return f"{self._root}/{relative}" if relative else self._root

    def names(self, folder: str) -> list[str]:
        """Names directly in a folder, sorted; none when it is not there. Raises ReadFailed."""
        try:
            with reading(self.path(folder)):
                entries = self._ask(lambda: self._fs.ls(self.path(folder), detail=False), LISTING)
                return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        except FileNotFoundError:
            return []

    def exists(self, relative: str) -> bool:
        """Whether there is such an object or folder. Raises ReadFailed."""
        with reading(self.path(relative)):
            return bool(self._ask(lambda: self._fs.exists(self.path(relative))))

    def read(self, relative: str) -> bytes:
        """An object's content. Raises FileNotFoundError or ReadFailed."""
        with reading(self.path(relative)):
            content: bytes = self._ask(lambda: self._fs.cat_file(self.path(relative)))
            return content

    def files(self, folder: str) -> dict[str, tuple[int, float | None]]:
        """All objects below a folder, by their path relative to it: size in bytes and time of the last change.

        The time is in seconds since 1970; None where the file system does not tell it. Raises ReadFailed.
        """
        base = self.path(folder).strip("/") + "/"
        with reading(self.path(folder)):
            found = self._ask(lambda: self._fs.find(self.path(folder), detail=True), LISTING)
        return {name.split(base, 1)[-1]: (info["size"], _modified(info)) for name, info in sorted(found.items())}

    def write_whole(self, relative: str, data: bytes, beside: str) -> None:
        """Write an object in one step: on a local disk to `beside`, which is then renamed; elsewhere in one put.

        Raises WriteFailed.
        """
        with writing(self.path(relative)):
            if self.local:
                self._replace(Path(self.path(relative)), Path(self.path(beside)), data)
            else:
                try:
                    self._ask(lambda: self._fs.pipe_file(self.path(relative), data))
                except FileNotFoundError:  # a storage that has folders; object stores would be asked in vain
                    self._ask(lambda: self._fs.makedirs(self.path(relative).rsplit("/", 1)[0], exist_ok=True))
                    self._ask(lambda: self._fs.pipe_file(self.path(relative), data))

    def remove(self, relative: str) -> None:
        """Remove an object, or a folder and all below it; nothing happens when it is not there. Raises WriteFailed."""
        with writing(self.path(relative)), suppress(FileNotFoundError):
            self._ask(lambda: self._fs.rm(self.path(relative), recursive=True), LISTING)

    @contextmanager
    def held(self, relative: str) -> Iterator[None]:
        """Hold a new lock file while the block runs, and remove it afterwards.

        The operating system releases the lock when the process dies. Only local disks have locks: elsewhere this does
        nothing.
        """
        if not self.local:
            yield
            return
        path = Path(self.path(relative))
        with _open_held(path):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def unheld(self, relative: str) -> Iterator[bool]:
        """Whether no living process holds a lock file; if none does, none can take it while the block runs."""
        path = Path(self.path(relative))
        if not self.local or not path.exists():
            yield True
            return
        with path.open("ab") as lock:
            try:
                _flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def zarr_store(self, relative: str, metadata: Mapping[str, bytes] | None = None) -> Store:
        """The zarr store below a folder; its errors are OSError.

        Args:
            relative: the folder.
            metadata: documents, by their path relative to the folder, that were read from there already.
        """
        if self.local:
            return LocalStore(self.path(relative))
        url = self._fs.unstrip_protocol(self.path(relative))
        store = RemoteStore(FsspecStore.from_url(url, storage_options=self._options))
        return KnownStore(store, dict(metadata)) if metadata else store

    def fresh_store(self, relative: str) -> KnownStore:
        """The zarr store of a folder that is new, and that nobody else writes to; its errors are OSError."""
        return KnownStore(self.zarr_store(relative), {}, fresh=True)

    def _ask(self, call: Callable[[], Result], times: int = 1) -> Result:
        """Call the file system; a remote one must answer within `times` times the limit."""
        return call() if self.local else within(times * self._limit_s, call)

    @staticmethod
    def _replace(final: Path, partial: Path, data: bytes) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, final)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Raises FileNotFoundError for what is not there, and ReadFailed for every other failure."""
    try:
        with as_os_errors():
            yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, "not there", path) from error
    except OSError as error:
        raise ReadFailed(f"{path} cannot be read: {error}") from error


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Raises WriteFailed for every failure."""
    try:
        with as_os_errors():
            yield
    except OSError as error:
        raise WriteFailed(f"{path} cannot be written: {error}") from error


def _open_held(path: Path) -> IO[bytes]:
    """Open and lock a new file; again, where a collector removed it between the two."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
        _flock(lock.fileno(), fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()


def _flock(descriptor: int, operation: int) -> None:
    """Lock a file. On a file system without locks only its age protects what is being written."""
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn_of_no_locks()


@cache
def _warn_of_no_locks() -> None:
    logger.warning(
        "warning: the cache lies on a file system without locks: run `gig cache gc` only while nothing writes to it"
    )


def _in_one_piece(url: str) -> dict[str, Any]:
    """Options for s3fs, which would ask for the size of each object before it reads it, to read large ones in parts."""
    return {"max_concurrency": 1} if url.lower().startswith(("s3://", "s3a://")) else {}


def _modified(info: Mapping[str, Any]) -> float | None:
    value = next((info[key] for key in MODIFIED if info.get(key)), None)
    return value.timestamp() if isinstance(value, datetime.datetime) else value
