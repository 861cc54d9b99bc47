"""Small files that all machines of an experiment share, such as the records of a quarantine.

Where results are stored at a URL, each is one object, put in one step. Elsewhere it is a file and nothing more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.stages.common.mirror import at_once, mirrored

__all__ = ["forget_listings", "has_shared", "put_shared", "read_shared", "remove_shared", "shared_journal", "sync"]

PARTIAL = ".partial"
"""Ends the name of a file that is being written, by this process or another one."""

_listed: dict[tuple[int, Path], dict[str, str]] = {}
"""What each folder of a mirror holds: by process and folder, the version of each object when it was fetched."""
_current: set[tuple[int, Path]] = set()
"""The folders that need not be listed again."""


def read_shared(path: Path) -> bytes | None:
    """The content of a file; None if it is not there."""
    if place := mirrored(path):
        return place.bucket.read_or_none(place.name)
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def has_shared(path: Path) -> bool:
    """Whether a file is there."""
    place = mirrored(path)
    return place.bucket.has(place.name) if place else path.exists()


def put_shared(path: Path, content: bytes) -> None:
    """Store a file that is about to be written here too."""
    if place := mirrored(path):
        place.bucket.put(place.name, content)


def remove_shared(path: Path) -> None:
    """Remove a file, here and where it is stored."""
    if place := mirrored(path):
        place.bucket.discard(place.name)
    path.unlink(missing_ok=True)


def sync(folder: Path, again: bool) -> None:
    """Make a folder of small files what it is where it is stored.

    Args:
        folder: a folder; one that is in no mirror is left alone.
        again: also if this process has looked since the last `forget_listings`.
    """
    place, key = mirrored(folder), (os.getpid(), folder)
    if not place or (key in _current and not again):
        return
    folder.mkdir(parents=True, exist_ok=True)
    # Seen before what is stored: another process of this machine may add to both, there first and then here.
    here = [path for path in folder.iterdir() if path.is_file() and path.suffix != PARTIAL]
    there, known = place.bucket.versions(place.name), _listed.get(key, {})
    for path in here:
        if path.name not in there:
            path.unlink(missing_ok=True)

    def get(name: str) -> None:
        content = place.bucket.read_or_none(f"{place.name}/{name}")
        if content is not None:
            _replace(folder / name, content)

    changed = [name for name in there if known.get(name) != there[name] or not (folder / name).exists()]
    at_once(get, [name for name in changed if "/" not in name])
    _listed[key] = there
    _current.add(key)


def forget_listings() -> None:
    """Have `sync` ask again, because another machine may have changed what is stored."""
    _current.clear()


@contextmanager
def shared_journal(path: Path) -> Iterator[None]:
    """A file that saves work and is no result: fetched if it is not here, and stored if the block changed it."""
    place = mirrored(path)
    if not place:
        yield
        return
    if not path.exists() and (content := place.bucket.read_or_none(place.name)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    before = path.stat().st_size if path.exists() else 0
    try:
        yield
    finally:
        if path.exists() and path.stat().st_size != before:
            place.bucket.put(place.name, path.read_bytes())


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    partial.write_bytes(content)
    os.replace(partial, path)
