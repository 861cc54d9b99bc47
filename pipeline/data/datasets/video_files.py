"""The videos below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from pipeline.data.decoding.image_folder import IMAGE_SUFFIXES
from pipeline.data.problems import Problems
from pipeline.remote import AnyPath, Facts, RemotePath

__all__ = ["VIDEO_SUFFIXES", "video_files"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".m4v", ".ts")
MOST_NESTED = 64


@overload
def video_files(
    folder: Path,
    problems: Problems,
    ignored: Sequence[str] = (),
    passed_over: Callable[[Path], object] | None = None,
) -> list[Path]: ...


@overload
def video_files(
    folder: RemotePath,
    problems: Problems,
    ignored: Sequence[str] = (),
    passed_over: Callable[[RemotePath], object] | None = None,
) -> list[RemotePath]: ...


def video_files(
    folder: AnyPath,
    problems: Problems,
    ignored: Sequence[str] = (),
    passed_over: Callable[[Any], object] | None = None,
) -> list[Path] | list[RemotePath]:
    """Video files and folders of images below a folder, sorted.

    Links are followed, except those back to a folder on the way: its videos are found already.

    Args:
        folder: where to look.
        problems: told of a folder that is missing, cannot be read or lies very deep.
        ignored: names of folders to pass over, like those of hidden folders.
        passed_over: told every file that is no part of a video, and every folder that is not looked into; of a storage
            every file in such a folder.

    Raises StorageError where a storage cannot be listed.
    """
    if isinstance(folder, RemotePath):
        return _remote_videos(folder, problems, ignored, passed_over)

    def unreadable(error: OSError) -> None:
        problems.add(str(error.filename), f"the folder cannot be read: {error.strerror}")

    found = []
    for place, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        names = [name for name in folders if not name.startswith(".") and name not in ignored]
        kept = sorted(name for name in names if not _loops(Path(place, name), folder))
        left_out = [name for name in folders if name not in kept]
        folders[:] = kept
        if folders and len(Path(place).relative_to(folder).parts) == MOST_NESTED:
            problems.add(place, f"expected folders nested at most {MOST_NESTED} deep below {folder}")
            folders.clear()
        visible = [name for name in files if not name.startswith(".")]
        found += [Path(place, name) for name in visible if name.lower().endswith(VIDEO_SUFFIXES)]
        of_images = any(name.lower().endswith(IMAGE_SUFFIXES) for name in visible) and Path(place) != folder
        if of_images:
            found.append(Path(place))
        if passed_over:
            taken = (*VIDEO_SUFFIXES, *(IMAGE_SUFFIXES if of_images else ()))
            left_out += [name for name in files if name.startswith(".") or not name.lower().endswith(taken)]
            for name in left_out:
                passed_over(Path(place, name))
    return sorted(found)


def _remote_videos(
    folder: RemotePath, problems: Problems, ignored: Sequence[str], passed_over: Callable[[RemotePath], object] | None
) -> list[RemotePath]:
    """As `video_files`. One listing tells all; a storage has no links."""
    found: dict[RemotePath, None] = {}
    listed = folder.files()
    if not listed:
        problems.add(str(folder), "the folder cannot be read: nothing lies there")
    left_out = []
    for name, facts in listed.items():
        *folders, own = name.split("/")
        hidden = any(part.startswith(".") for part in (*folders, own)) or any(part in ignored for part in folders)
        if not hidden and own.lower().endswith(VIDEO_SUFFIXES):
            found[folder.known(name, facts)] = None
        elif not hidden and folders and own.lower().endswith(IMAGE_SUFFIXES):
            found[folder.known("/".join(folders), Facts(0, "", folder=True))] = None
        else:
            left_out.append(folder.known(name, facts))
    if passed_over:
        for path in left_out:
            passed_over(path)
    return sorted(found)


def _loops(path: Path, top: Path) -> bool:
    """Whether a folder is a link to one that the walk from `top` came through, or to one above that."""
    if not path.is_symlink():
        return False
    target = os.path.join(os.path.realpath(path), "")
    through = [place for place in path.parents if place == top or place.is_relative_to(top)]
    return any(os.path.join(os.path.realpath(place), "").startswith(target) for place in through)
