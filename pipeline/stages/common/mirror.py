"""Results that are stored at a URL: a folder of this machine mirrors them, and all stages work on that folder.

An output is put file by file, and last the object `.complete`, which lists the files with their sizes and checksums:
without it the output is not there. Another machine fetches the files of that list, checks them, and sees the folder
when it has all. For a path in no mirror every function here does nothing, or looks at the folder itself.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.config.mirrors import url_of_mirror
from pipeline.errors import OutputError
from pipeline.hashing import file_sha256
from pipeline.progress import Say
from pipeline.stages.common.bucket import Bucket, bucket_at
from pipeline.stages.common.leases import leases_at

__all__ = [
    "Mirrored",
    "at_once",
    "check_writable",
    "discard_withdrawn",
    "fetch",
    "is_made",
    "mirrored",
    "place_of",
    "publish",
    "remote_lock",
    "withdraw",
]

MARKER = ".complete"
FORM = 1  # of the marker
AT_ONCE = 8  # files that are put or fetched at the same time
Item = TypeVar("Item")


@dataclass(frozen=True)
class Mirrored:
    """What a path of a mirror stands for.

    Attributes:
        url: the URL that is mirrored.
        name: the object or folder, relative to it.
    """

    url: str
    name: str

    @property
    def bucket(self) -> Bucket:
        return bucket_at(self.url)


def mirrored(path: Path) -> Mirrored | None:
    """What a path stands for; None if it lies in no mirror."""
    for number, part in enumerate(path.parts):
        if url := url_of_mirror(part):
            return Mirrored(url, "/".join(path.parts[number + 1 :]))
    return None


def place_of(path: Path) -> str:
    """Where a result is stored, for people: its URL, or the path itself."""
    place = mirrored(path)
    return f"{place.url}/{place.name}".rstrip("/") if place else str(path)


def is_made(final: Path) -> bool:
    """Whether an output is there: the folder, or where it is stored at a URL, its marker."""
    place = mirrored(final)
    return _marker(place) is not None if place else final.is_dir()


def publish(final: Path) -> None:
    """Put a finished folder, and last its marker.

    The caller holds the lock of `final`. An output that is stored already, by a process without the lock, stays.

    Raises:
        CacheError: the store does not take it.
        OutputError: this process has lost its lease and the output is not there.
    """
    place = mirrored(final)
    if not place or _marker(place) is not None:
        return
    bucket, leases = place.bucket, leases_at(place.url)
    files = sorted(path for path in final.rglob("*") if path.is_file())
    names = {path: path.relative_to(final).as_posix() for path in files}

    def fence() -> None:
        leases.check(_lock_name(place.name))

    fence()
    at_once(lambda path: bucket.upload(path, f"{place.name}/{names[path]}", fence), files)
    listed = {names[path]: [path.stat().st_size, file_sha256(path)] for path in files}
    marker = json.dumps({"form": FORM, "files": listed}, indent=1).encode()
    fence()
    bucket.settle(f"{place.name}/{MARKER}", marker, fence)
    _note(final, marker)


def withdraw(final: Path) -> None:
    """Remove the marker of an output, so that it is not there until it is published again."""
    if place := mirrored(final):
        _note_path(final).unlink(missing_ok=True)
        place.bucket.discard(f"{place.name}/{MARKER}")


def discard_withdrawn(final: Path) -> None:
    """Remove this machine's copy of an output that was stored and is not any more: somebody wants it made again."""
    if mirrored(final) and _noted(final) is not None and not is_made(final):
        shutil.rmtree(final, ignore_errors=True)
        _note_path(final).unlink()


def fetch(final: Path, say: Say | None = None) -> None:
    """Bring an output that is stored at a URL to the mirror, whole or not at all; one that is not there is left alone.

    Raises:
        CacheError: the store cannot be read.
        OutputError: a file is not as the marker says, or the marker is of a newer version.
    """
    place = mirrored(final)
    marker = _marker(place) if place else None
    if not place or marker is None or (final.is_dir() and _noted(final) == marker):
        return
    try:
        document = json.loads(marker)
        files = {str(name): (int(size), str(sha256)) for name, (size, sha256) in document["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(f"{place_of(final)}/{MARKER}: cannot be understood ({error!r}); remove it") from error
    if document.get("form") != FORM:
        raise OutputError(f"{place_of(final)}/{MARKER}: expected form {FORM}, got {document.get('form')!r}")
    if say:
        say(f"fetching {place_of(final)}")
    coming = final.with_name(f"{final.name}.coming")
    _sort_out(coming, files)

    def get(name: str) -> None:
        (size, sha256), target = files[name], coming / name
        if target.exists():
            return
        try:
            place.bucket.download(f"{place.name}/{name}", target, size, sha256)
        except FileNotFoundError as error:
            raise OutputError(
                f"{place_of(final)}/{name}: is not there, though {MARKER} lists it; remove {MARKER} to have this "
                "output made again"
            ) from error

    at_once(get, list(files))
    if final.is_dir():  # of another marker
        shutil.rmtree(final)
    os.rename(coming, final)
    _note(final, marker)


def remote_lock(output: Path) -> tuple[str, str] | None:
    """URL and name of the lease of an output that is stored at a URL."""
    place = mirrored(output)
    return (place.url, _lock_name(place.name)) if place else None


def check_writable(folder: Path) -> str | None:
    """Try whether results can be stored where `folder` is mirrored.

    Returns:
        What was found, for people; None for a folder of this machine.

    Raises:
        CacheError: they cannot.
    """
    place = mirrored(folder)
    if not place:
        return None
    if place.bucket.conditional():
        return f"{place.url}: can be written, and has puts under a condition"
    name = f"{place.name}/.locks/trial"
    place.bucket.put(name, b"trial")
    place.bucket.discard(name)
    return f"{place.url}: can be written; it has no puts under a condition, so run one command at a time"


def _marker(place: Mirrored) -> bytes | None:
    return place.bucket.read_or_none(f"{place.name}/{MARKER}")


def _lock_name(name: str) -> str:
    folder, _, last = name.rpartition("/")
    return f"{folder}/.locks/{last}".lstrip("/")


def _note_path(final: Path) -> Path:
    return final.parent / ".published" / final.name


def _note(final: Path, marker: bytes) -> None:
    """Keep which published output the folder is."""
    path = _note_path(final)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(marker)
    os.replace(partial, path)


def _noted(final: Path) -> bytes | None:
    try:
        return _note_path(final).read_bytes()
    except FileNotFoundError:
        return None


def _sort_out(coming: Path, files: dict[str, tuple[int, str]]) -> None:
    """Keep of an interrupted fetch the files that belong to the output."""
    coming.mkdir(parents=True, exist_ok=True)
    for path in coming.rglob("*"):
        if path.is_file():
            wanted = files.get(path.relative_to(coming).as_posix())
            if wanted is None or (path.stat().st_size, file_sha256(path)) != wanted:
                path.unlink()


def at_once(call: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Call for each item, several at the same time. After an error no other call begins, and the error is raised."""
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="objects")
    try:
        for future in [pool.submit(call, item) for item in items]:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)
