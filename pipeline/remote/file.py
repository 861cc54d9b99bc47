"""A file of a storage, read in blocks of bounded number, with the next one on its way while one is used."""

from __future__ import annotations

import hashlib
import io
import itertools
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from pipeline.errors import StorageError
from pipeline.remote.storage import Answer, answered, ask, limit_s

if TYPE_CHECKING:
    from pipeline.remote.path import Facts, RemotePath

__all__ = ["BLOCK_BYTES", "MOST_BLOCKS", "RemoteFile", "read_whole"]

BLOCK_BYTES = 4 << 20
MOST_BLOCKS = 16
"""Blocks that a process keeps, of all files together: 64 MiB. So a smaller video is fetched once, read twice or not."""

MOST_HASHES = 16

Key = tuple[str, str, int, int]


class _RunningHash:
    """The SHA-256 of a file's first blocks; the others follow as they come by in order."""

    def __init__(self) -> None:
        self.blocks, self.digest = 0, hashlib.sha256()

    def add(self, number: int, block: bytes) -> None:
        if number == self.blocks:
            self.digest.update(block)
            self.blocks += 1


_kept: OrderedDict[Key, bytes] = OrderedDict()
_hashes: OrderedDict[tuple[str, str, int], _RunningHash] = OrderedDict()
_lock = threading.Lock()
_openings = itertools.count()


class RemoteFile(io.RawIOBase):
    """A file of a storage, for reading, at any place.

    What was read is of one version of the file: one that is replaced meanwhile is found out when this is closed, at the
    latest. A failure is kept, because libraries that read through this may take it for the end of the file.

    Args:
        path: of the file.
        size: its bytes.
        version: its version when it was first looked at.
        copy: a copy of it on a local disk, which is read instead.

    Attributes:
        failure: why it could not be read; None if nothing failed.
    """

    def __init__(self, path: RemotePath, size: int, version: str, copy: IO[bytes] | None = None) -> None:
        self._path, self._size, self._version, self._copy = path, size, version, copy
        self._identity = version or f"opened {next(_openings)}"  # without a version nobody knows whether it is the same
        self.name = path.name
        self.failure: StorageError | None = None
        self._at = 0
        self._fetched = 0
        self._next: tuple[int, Answer[bytes]] | None = None
        self._last = -1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"{self._path}: seek to {base + offset}")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file. Raises StorageError."""
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if self._copy:
            return self._read_copy(self._copy, max(0, end - self._at))
        pieces = []
        while self._at < end:
            number, first = divmod(self._at, BLOCK_BYTES)
            piece = self._block(number)[first : first + end - self._at]
            self._at += len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def sha256(self) -> str:
        """Of the whole content, 64 hex digits. Blocks that came by in order before are not read again."""
        if self._copy:
            self.seek(0)
            return hashlib.file_digest(self, "sha256").hexdigest()
        with _lock:
            running = self._hash()
        while self._length(number := running.blocks):
            block = self._block(number)
            with _lock:  # it may be no longer the one that blocks are added to
                running.add(number, block)
        return running.digest.hexdigest()

    def check(self) -> None:
        """Raise StorageError if a read has failed, or the file is not the one whose blocks were read."""
        if self.failure is None and self._fetched and self._size > BLOCK_BYTES:
            self._fetched = 0
            self._compare(self._path.look())
        if self.failure:
            raise self.failure

    def close(self) -> None:
        """Raises StorageError as `check`."""
        if self.closed:
            return
        super().close()
        if self._copy:
            self._copy.close()
        self.check()

    def _read_copy(self, copy: IO[bytes], size: int) -> bytes:
        try:
            copy.seek(self._at)
            data = copy.read(size)
        except OSError as error:
            self.failure = StorageError(f"{self._path}: its copy cannot be read: {error}")
            raise self.failure from error
        self._at += len(data)
        return data

    def _block(self, number: int) -> bytes:
        if self.failure:
            raise self.failure
        key = self._key(number)
        with _lock:
            block = _kept.get(key)
        if block is None:
            block = self._fetch(number)
        with _lock:
            _kept[key] = block
            _kept.move_to_end(key)
            while len(_kept) > MOST_BLOCKS:
                _kept.popitem(last=False)
            self._hash().add(number, block)
        if number == self._last + 1:
            self._read_ahead(number + 1)
        self._last = number
        return block

    def _fetch(self, number: int) -> bytes:
        """A block from the storage. Raises StorageError."""
        ahead, self._next = self._next, None
        try:
            answer = ahead[1] if ahead and ahead[0] == number else self._ask(number)
            block = answered(str(self._path), answer)
            self._fetched += 1
            if len(block) != self._length(number):
                what = "the storage does not read parts of files" if len(block) >= self._size else "its size changed"
                raise StorageError(f"{self._path}: got {len(block)} of {self._length(number)} bytes: {what}")
        except (FileNotFoundError, StorageError) as error:
            with suppress(StorageError):  # the first failure says it
                self._compare(self._path.look())
            if self.failure is None:
                self.failure = error if isinstance(error, StorageError) else StorageError(str(error))
            raise self.failure from error
        return block

    def _ask(self, number: int) -> Answer[bytes]:
        system, path = self._path.system()
        first = number * BLOCK_BYTES
        return Answer(lambda: system.cat_file(path, start=first, end=first + self._length(number)), limit_s())

    def _read_ahead(self, number: int) -> None:
        if self._next is None and self._length(number) > 0 and self._key(number) not in _kept:
            self._next = number, self._ask(number)

    def _compare(self, now: Facts | None) -> None:
        """Note a failure if the version is another one by now; what is kept of the file is void then."""
        if now is None or (now.st_size, now.version) != (self._size, self._version):
            what = "was removed" if now is None else "was replaced by another version"
            self.failure = StorageError(f"{self._path}: {what} while it was read; run the command again")
            with _lock:
                for key in [key for key in _kept if key[0] == str(self._path)]:
                    del _kept[key]
                _hashes.pop((str(self._path), self._identity, self._size), None)

    def _hash(self) -> _RunningHash:
        key = str(self._path), self._identity, self._size
        running = _hashes.setdefault(key, _RunningHash())
        _hashes.move_to_end(key)
        while len(_hashes) > MOST_HASHES:
            _hashes.popitem(last=False)
        return running

    def _key(self, number: int) -> Key:
        return str(self._path), self._identity, self._size, number

    def _length(self, number: int) -> int:
        return max(0, min(BLOCK_BYTES, self._size - number * BLOCK_BYTES))


def read_whole(place: str, system: Any, path: str) -> bytes:
    """The content of a small file. Raises FileNotFoundError or StorageError."""
    content: bytes = ask(place, lambda: system.cat_file(path))
    return content
