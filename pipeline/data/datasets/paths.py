"""Paths as people write them into lists, and hints for those that do not exist."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

from pipeline.data.problems import folded, look_alike
from pipeline.remote import AnyPath, RemotePath

__all__ = ["below_root", "missing_hint"]


def below_root(root: AnyPath, path: str) -> str:
    """A listed path relative to the root.

    Args:
        root: folder of the data set.
        path: relative to it, absolute, or beginning with `~`.

    Returns:
        The part below the root; a path that does not lie below it unchanged, as is any below a root of a storage.
    """
    if isinstance(root, RemotePath):
        return path
    if path.startswith("~") and not os.path.lexists(root / path):
        path = os.path.expanduser(path)
    if not PurePosixPath(path).is_absolute():
        return path
    for top in (os.path.abspath(root), os.path.realpath(root)):
        if path.startswith(top.rstrip("/") + "/") and ".." not in PurePosixPath(path).parts:
            return PurePosixPath(path).relative_to(top).as_posix()
    return path


def missing_hint(root: AnyPath, path: str, listings: dict[AnyPath, dict[str, str]]) -> str:
    """A hint for a path that does not exist: another spelling of it that does.

    Args:
        root: folder of the data set.
        path: relative to it.
        listings: keeps the names in the folders that were read, for the next call.

    Returns:
        The end of a message; empty if nothing is known.
    """
    if "\\" in path:
        turned = path.replace("\\", "/")
        if not PurePosixPath(turned).is_absolute() and _lies_at(root / turned):
            return f"; folders are separated by '/': write {turned!r}"
        return "; folders are separated by '/', and paths are relative to the root: a path of Windows is none here"
    place: AnyPath = root
    spelled, form = PurePosixPath(), False
    for part in PurePosixPath(path).parts:
        if not _lies_at(place / part):
            if place not in listings:
                try:
                    listings[place] = {folded(name): name for name in _names(place)}
                except OSError:
                    return ""
            other = listings[place].get(folded(part))
            if other is None:
                return ""
            form = form or look_alike(part, [other]) is not None
            part = other
        place, spelled = place / part, spelled / part
    if form:
        what = "looks the same and is there, in another Unicode form: copy the name of the file, or rename it"
        return f"; {str(spelled)!r} {what}"
    return f"; did you mean {str(spelled)!r}?"


def _lies_at(path: AnyPath) -> bool:
    return path.exists() if isinstance(path, RemotePath) else os.path.lexists(path)


def _names(folder: AnyPath) -> list[str]:
    return [path.name for path in folder.iterdir()] if isinstance(folder, RemotePath) else os.listdir(folder)
