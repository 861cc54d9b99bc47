"""A path below a URL, with as much of `pathlib.Path` as readers of videos and lists need.

It is a name only, so it can be pickled and used in any process: each opens the storage anew, with what the environment
and fsspec's own configuration say of addresses and credentials.
"""

from __future__ import annotations

import datetime
import fnmatch
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from pipeline.remote.copies import Copies
from pipeline.remote.file import RemoteFile, read_whole
from pipeline.remote.storage import ask, file_system, public, scheme_of

__all__ = ["AnyPath", "Facts", "RemotePath", "path_of"]

LISTING = 10
"""A listing of many objects, which takes many requests, may take this many times as long as one request."""
VERSIONS = ("ETag", "etag", "md5Hash", "version_id", "LastModified", "last_modified", "updated", "mtime", "created")
"""By what storages say that an object has changed; the first that is there counts."""


@dataclass(frozen=True)
class Facts:
    """What a storage says of an object.

    Attributes:
        st_size: bytes; called as in `os.stat_result`. 0 for a folder.
        version: changes with the content, such as an ETag or a time; empty where the storage says nothing, as of
            folders.
        folder: whether it is a folder.
    """

    st_size: int
    version: str
    folder: bool = False

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Facts:
        """From what fsspec tells."""
        if info.get("type") == "directory":
            return cls(0, "", True)
        marks = [_mark(info[key]) for key in VERSIONS if info.get(key)]
        return cls(int(info.get("size") or 0), marks[0] if marks else "")


def _mark(value: object) -> str:
    """As text; the times of some storages come as numbers or as dates, by what is asked."""
    if isinstance(value, datetime.datetime):
        return str((value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp())
    return str(value).strip('"')


@dataclass(frozen=True, order=True)
class RemotePath:
    """A path of a storage.

    Attributes:
        root: URL of what all paths are relative to, without a slash at its end.
        below: path relative to the root, with forward slashes; empty for the root itself.
        copies: where whole files are kept; None reads them in pieces.
    """

    root: str
    below: str = ""
    copies: Copies | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.root}/{self.below}" if self.below else self.root

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "below": self.below, "copies": self.copies}

    def __truediv__(self, other: str | PurePath) -> Any:  # a RemotePath, or a local Path where that is absolute
        """The path below this one. An absolute path is of this machine, so it stands for itself."""
        other = PurePosixPath(other)
        if other.is_absolute():
            return Path(other)
        return self._at(PurePosixPath(self.below, other))

    @property
    def name(self) -> str:
        return PurePosixPath(self.below or self.root).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The root, and the names below it."""
        return (self.root, *PurePosixPath(self.below).parts)

    @property
    def parent(self) -> RemotePath:
        """The folder; that of the root is the root."""
        return self._at(PurePosixPath(self.below).parent)

    def as_posix(self) -> str:
        return str(self)

    def absolute(self) -> RemotePath:
        """Itself."""
        return self

    def resolve(self) -> RemotePath:
        """Itself: a storage has no links."""
        return self

    def is_relative_to(self, other: object) -> bool:
        """Whether it lies below another path of the same root."""
        if not isinstance(other, RemotePath) or other.root != self.root:
            return False
        return PurePosixPath(self.below).is_relative_to(other.below)

    def relative_to(self, other: AnyPath) -> PurePosixPath:
        """The part below another path of the same root. Raises ValueError where it does not lie below that."""
        if not isinstance(other, RemotePath) or not self.is_relative_to(other):
            raise ValueError(f"{self} does not lie below {other}")
        return PurePosixPath(self.below).relative_to(other.below)

    def kept_in(self, copies: Copies | None) -> RemotePath:
        """The same path, whose whole files are kept in a folder of this machine; None reads them in pieces."""
        return replace(self, copies=copies)

    @cached_property
    def _facts(self) -> Facts | None:
        return self.look()

    def look(self) -> Facts | None:
        """What the storage says of it now; None where nothing lies there. Raises StorageError."""
        system, path = self.system()
        try:
            return Facts.of(ask(str(self), lambda: system.info(path)))
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Whether something lies there. What is found out of a path is asked for once. Raises StorageError."""
        return self._facts is not None

    def is_dir(self) -> bool:
        """Whether it is a folder. Raises StorageError."""
        return self._facts is not None and self._facts.folder

    def is_file(self) -> bool:
        """Whether it is a file. Raises StorageError."""
        return self._facts is not None and not self._facts.folder

    def stat(self) -> Facts:
        """What the storage said when it was first asked. Raises FileNotFoundError or StorageError."""
        if self._facts is None:
            raise FileNotFoundError(f"{self}: nothing lies there")
        return self._facts

    def version(self) -> str:
        """What changes with the content of the file, or with any file directly in the folder.

        Raises FileNotFoundError or StorageError.
        """
        return (
            self.stat().version
            if self.is_file()
            else folder_version((file.name, file.stat()) for file in self.iterdir() if file.is_file())
        )

    def open(self, mode: str = "rb") -> RemoteFile:
        """The file, to be read as bytes.

        Raises FileNotFoundError, and StorageError, also while it is read, for every failure of the storage and for a
        file that is replaced meanwhile.
        """
        if mode != "rb":
            raise ValueError(f"{self}: expected the mode 'rb', got {mode!r}")
        facts = self.stat()
        copy = self.copies.open(self, facts.st_size, facts.version) if self.copies else None
        return RemoteFile(self, facts.st_size, facts.version, copy)

    def read_bytes(self) -> bytes:
        """The whole content. Raises FileNotFoundError or StorageError."""
        system, path = self.system()
        return read_whole(str(self), system, path)

    def fetch(self, target: Path) -> None:
        """Copy the whole file to a file of this machine. Raises FileNotFoundError, StorageError or OSError."""
        with self.open() as source, target.open("wb") as sink:
            while piece := source.read(1 << 20):
                sink.write(piece)

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies directly in the folder, sorted. Raises FileNotFoundError or StorageError."""
        system, path = self.system()
        found = ask(str(self), lambda: system.ls(path, detail=True), times=LISTING)
        full = {str(info["name"]).rstrip("/"): Facts.of(info) for info in found}
        full.pop(path.rstrip("/"), None)  # an object that stands for the folder
        for name in sorted(full):
            yield self.known(name.rsplit("/", 1)[-1], full[name])

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What lies directly in the folder and has a name like the pattern; nothing where there is no folder."""
        try:
            yield from (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))
        except FileNotFoundError:
            return

    def files(self) -> dict[str, Facts]:
        """All files below, by their path relative to this one, sorted, by one listing. Raises StorageError.

        The web has no listings: fsspec follows links in pages there, and finds what those name.
        """
        system, path = self.system()
        try:
            found = ask(str(self), lambda: system.find(path, detail=True), times=LISTING)
        except FileNotFoundError:
            return {}
        top = path.rstrip("/") + "/"
        names = [name for name in sorted(found) if name.startswith(top) and not name.endswith("/")]
        return {name[len(top) :]: Facts.of(found[name]) for name in names}

    def known(self, below: str, facts: Facts) -> RemotePath:
        """A path below this one of which a listing has told the facts, so that the storage is not asked again."""
        path = self._at(PurePosixPath(self.below, below))
        path.__dict__["_facts"] = facts
        return path

    def _at(self, below: PurePosixPath) -> RemotePath:
        text = below.as_posix()
        return RemotePath(self.root, "" if text == "." else text, self.copies)

    def system(self) -> tuple[Any, str]:
        """fsspec's file system, and the path that it has there. Raises StorageError."""
        process, system, root = self.__dict__.get("_opened", (None, None, ""))
        if process != os.getpid():  # a forked process cannot use the connections of the one before
            system, root = ask(str(self), lambda: file_system(self.root))  # its package may take long to import
            self.__dict__["_opened"] = os.getpid(), system, root
        root = root.rstrip("/")
        return system, f"{root}/{self.below}" if self.below else root


AnyPath = Path | RemotePath
"""A file or folder of this machine or of a storage."""


def path_of(text: str) -> AnyPath:
    """The path of a text: a URL such as s3://bucket/folder, or a path of this machine.

    Raises ValueError for an incomplete URL, a chain of several, and one that holds a password.
    """
    if "::" in text and "://" in text:
        first = text.split("::")[0]
        raise ValueError(f"expected a folder, or one URL such as s3://bucket/folder, got a chain: {first}::...")
    scheme = scheme_of(text)
    if scheme is None:
        return Path(text)
    if scheme in ("file", "local"):
        return Path(re.sub(r"^[A-Za-z]+:/+", "/", text))
    example = f"a folder, or a URL such as {scheme}://bucket/folder"
    if not text[len(scheme) :].startswith("://") or not text[len(scheme) + 3 :].strip("/"):
        raise ValueError(f"expected {example}, got {text!r}")
    if public(text) != text:
        what = "and no user, password or signature in it: they come from the environment or fsspec's configuration"
        raise ValueError(f"expected {example}, {what}; got {public(text)!r} and more")
    return RemotePath(text.rstrip("/"))


def folder_version(facts: Iterable[tuple[str, Facts]]) -> str:
    """The version of a folder of images, which changes with any of them.

    Args:
        facts: names and facts of its files.
    """
    lines = sorted(f"{name}\n{fact.st_size}\n{fact.version}\n" for name, fact in facts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]
