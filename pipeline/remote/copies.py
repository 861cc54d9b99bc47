"""Whole files of a storage, kept on a local disk up to a number of bytes, for those who ask for it."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipeline.errors import StorageError
from pipeline.remote.file import RemoteFile

if TYPE_CHECKING:
    from pipeline.remote.path import RemotePath

__all__ = ["Copies"]

PIECE_BYTES = 1 << 20
PARTIAL = ".partial"
ABANDONED_S = 3600.0


@dataclass(frozen=True)
class Copies:
    """A folder of copies, which several processes may share.

    Attributes:
        folder: where they lie.
        most_bytes: how many bytes they may have in all; those that were used the longest time ago are removed first. A
            file that is larger is not copied.
    """

    folder: Path
    most_bytes: int

    def open(self, path: RemotePath, size: int, version: str) -> IO[bytes] | None:
        """The copy of a file, made if there is none yet; None for a file that is too large.

        Raises FileNotFoundError, and StorageError also where the folder cannot be written to.
        """
        if size > self.most_bytes or not version:
            return None
        name = hashlib.sha256(f"{path}\n{version}\n{size}".encode()).hexdigest()[:40] + path.suffix
        copy = self.folder / name
        try:
            with suppress(FileNotFoundError):
                os.utime(copy)  # it is used now
                return copy.open("rb")
            return self._make(copy, path, size, version)
        except OSError as error:
            raise StorageError(f"{self.folder}: no copy of {path} can be made: {error}") from error

    def _make(self, copy: Path, path: RemotePath, size: int, version: str) -> IO[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(size)
        partial = copy.with_name(f"{copy.name}.{os.getpid()}{PARTIAL}")
        try:
            with partial.open("wb") as sink, RemoteFile(path, size, version) as source:
                while piece := source.read(PIECE_BYTES):
                    sink.write(piece)
            made = partial.open("rb")  # before another process can remove it to make room
            os.replace(partial, copy)
        finally:
            partial.unlink(missing_ok=True)
        return made

    def _make_room(self, size: int) -> None:
        """Remove what was used the longest time ago. Processes that read it keep it until they close it."""
        found = []
        for file in self.folder.iterdir():
            with suppress(FileNotFoundError):
                facts = file.stat()
                if file.suffix == PARTIAL and time.time() - facts.st_mtime < ABANDONED_S:
                    continue  # another process writes it
                found.append((facts.st_mtime, facts.st_size, file))
        total = size + sum(bytes_ for _, bytes_, _ in found)
        for _, bytes_, file in sorted(found):
            if total <= self.most_bytes:
                return
            with suppress(FileNotFoundError):
                file.unlink()
                total -= bytes_
