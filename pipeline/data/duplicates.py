"""Videos of the same content under several names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from pipeline.hashing import file_sha256
from pipeline.remote import AnyPath

__all__ = ["same_content"]

END_BYTES = 1 << 16


def same_content(paths: Sequence[AnyPath], sizes: Sequence[int]) -> list[list[int]]:
    """Find files, or folders of images, with the same bytes.

    To read little, files of the same size are compared by their two ends first, and in full only where those are equal.

    Args:
        paths: N files or folders. One that cannot be read is left out: the extraction reports it.
        sizes: bytes of each; one of 0 or less is left out.

    Returns:
        Groups of two or more, each the rising positions of its files in `paths`.
    """
    groups = [[i for i, size in enumerate(sizes) if size > 0]]
    for key in (lambda i: sizes[i], lambda i: _ends(paths[i]), lambda i: _whole(paths[i])):
        found: dict[object, list[int]] = {}
        for number, group in enumerate(groups):
            for i in group:
                try:
                    found.setdefault((number, key(i)), []).append(i)
                except OSError:
                    continue
        groups = [group for group in found.values() if len(group) > 1]
    return groups


def _ends(path: AnyPath) -> bytes:
    """The first and last bytes of a file; for a folder, the number of its files."""
    if path.is_dir():
        return str(len(_files(path))).encode()
    with path.open("rb") as stream:
        first = stream.read(END_BYTES)
        stream.seek(-min(END_BYTES, path.stat().st_size), 2)
        return first + stream.read()


def _whole(path: AnyPath) -> bytes:
    """SHA-256 of a file, or of the files of a folder in the order of their names."""
    total = hashlib.sha256()
    for file in _files(path) if path.is_dir() else [path]:
        total.update(bytes.fromhex(file_sha256(file)))
    return total.digest()


def _files(folder: AnyPath) -> list[AnyPath]:
    found: Iterable[AnyPath] = folder.iterdir()
    return sorted((path for path in found if path.is_file()), key=lambda path: path.name)
