"""Headers of many videos.

Counting packets reads whole files, so a journal keeps the headers; each is used again as long as its file is unchanged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.data.decoding.decode import VideoHeader
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.errors import DecodeError
from pipeline.remote import AnyPath, RemotePath, common_folder, folder_version, is_web, path_of
from pipeline.remote import Facts as RemoteFacts

__all__ = ["file_facts", "files_facts", "read_headers"]

Facts = tuple[int, int | str]
FORM = 2  # of the journal's lines; raised when a header is read differently, so that older lines are ignored


def file_facts(path: AnyPath) -> Facts:
    """As `files_facts`, of one video."""
    return files_facts([path])[0]


def files_facts(paths: Sequence[AnyPath]) -> list[Facts]:
    """(bytes, mtime_ns) of videos; -1 and -1 for what is not there.

    A folder of images has the sum of its files' sizes and the newest of their times. A link that leads nowhere has the
    size and time of the link itself. Of a video of a storage the second is the version, a text, see
    `pipeline.remote.Facts`; one listing tells it of all. Raises StorageError.
    """
    remote = [path for path in paths if isinstance(path, RemotePath)]
    told = _remote_facts(remote) if remote else {}
    return [told[path] if isinstance(path, RemotePath) else _file_facts(path) for path in paths]


def _remote_facts(paths: Sequence[RemotePath]) -> dict[RemotePath, Facts]:
    if is_web(paths[0]) or len(paths) == 1:
        return {path: _asked(path) for path in paths}
    top = common_folder(paths)
    listed = top.files()
    inside: dict[str, list[tuple[str, RemoteFacts]]] = {}
    for name, facts in listed.items():
        folder, _, own = name.rpartition("/")
        inside.setdefault(folder, []).append((own, facts))
    found: dict[RemotePath, Facts] = {}
    for path in paths:
        below = path.relative_to(top).as_posix()
        if below in listed:
            found[path] = (listed[below].st_size, listed[below].version)
        else:
            found[path] = _of_folder(inside[below]) if below in inside else (-1, -1)
    return found


def _asked(path: RemotePath) -> Facts:
    if path.is_dir():
        return _of_folder([(file.name, file.stat()) for file in path.iterdir() if file.is_file()])
    return (path.stat().st_size, path.version()) if path.exists() else (-1, -1)


def _of_folder(files: Sequence[tuple[str, RemoteFacts]]) -> Facts:
    return sum(facts.st_size for _, facts in files), folder_version(files)


def _file_facts(path: Path) -> Facts:
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                inside = [_stat(entry) for entry in entries]
            return sum(stat.st_size for stat in inside), max((stat.st_mtime_ns for stat in inside), default=-1)
        own = path.stat()
    except (OSError, ValueError):  # ValueError: a path with a NUL
        return -1, -1
    return own.st_size, own.st_mtime_ns


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def read_headers(
    paths: Sequence[AnyPath],
    workers: DecodeWorkers,
    journal: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[VideoHeader | DecodeError]:
    """The header of every video in order, or why it cannot be read.

    Args:
        paths: videos that exist.
        workers: what reads them.
        journal: a file of JSON lines. Headers found there are not read again, new ones are added at once. Videos whose
            header could not be read are not in it, so they are tried every time.
        progress: called as progress(done, total).
    """
    facts = files_facts(paths)
    known = _load(journal) if journal else {}
    found: dict[int, VideoHeader | DecodeError] = {}
    for index, (path, fact) in enumerate(zip(paths, facts, strict=True)):
        if (str(path), fact) in known:
            found[index] = replace(known[str(path), fact], path=path)
    missing = [index for index in range(len(paths)) if index not in found]
    for index, header in zip(missing, workers.headers(paths[index] for index in missing), strict=True):
        found[index] = header
        if journal and isinstance(header, VideoHeader):
            _append(journal, header, facts[index])
        if progress:
            progress(len(found), len(paths))
    return [found[index] for index in range(len(paths))]


def _load(journal: Path) -> dict[tuple[str, Facts], VideoHeader]:
    known = {}
    try:
        lines = journal.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            entry = json.loads(line)
            if entry.pop("form", 1) != FORM:
                continue
            facts = entry.pop("facts")
            known[entry["path"], (facts[0], facts[1])] = VideoHeader(**entry | {"path": path_of(entry["path"])})
        except (ValueError, TypeError, KeyError, IndexError):
            continue  # the last line of a process that was killed: that video is read again
    return known


def _append(journal: Path, header: VideoHeader, facts: Facts) -> None:
    """One write of one line: processes that append at the same time do not mix."""
    line = json.dumps(asdict(header) | {"path": str(header.path), "facts": facts, "form": FORM})
    with journal.open("ab", buffering=0) as stream:
        stream.write(f"\n{line}\n".encode())  # a line break first: the line before may have been cut off
