"""What one listing tells of many paths, so that the storage is not asked for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from pipeline.remote.path import AnyPath, Facts, RemotePath
from pipeline.remote.storage import WEB, scheme_of

__all__ = ["common_folder", "is_web", "looked_up"]


def looked_up(paths: Sequence[AnyPath]) -> list[AnyPath]:
    """The same paths; one listing tells the facts of all those of a storage, which is then not asked for each.

    Raises StorageError.
    """
    remote = [path for path in paths if isinstance(path, RemotePath)]
    if len(remote) < 2 or is_web(remote[0]):
        return list(paths)
    top = common_folder(remote)
    files = top.files()
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents}

    def told(path: RemotePath) -> RemotePath:
        below = path.relative_to(top).as_posix()
        facts = files.get(below) or (Facts(0, "", folder=True) if below in folders else None)
        return path if facts is None else top.known(below, facts)

    return [told(path) if isinstance(path, RemotePath) else path for path in paths]


def common_folder(paths: Sequence[RemotePath]) -> RemotePath:
    """The lowest folder that holds all of some paths of one root."""
    shared = paths[0].parent
    while not all(path.is_relative_to(shared) for path in paths):
        shared = shared.parent
    return shared


def is_web(path: RemotePath) -> bool:
    """Whether it lies on the web, where folders have no listing."""
    return scheme_of(path.root) in WEB
