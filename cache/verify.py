"""Verification: read everything that a namespace holds and say what is not as it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cache.catalog import Catalog
from cache.collect import unreferenced
from cache.errors import CacheError, DamagedPayload, InvalidName, NotCached, ReadFailed, UnsupportedRecord
from cache.names import unescape
from cache.reader import FeatureReader

__all__ = ["Finding", "verify"]

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: `damaged`, not what was written; `unreadable`, it cannot be known now; `unsupported`, a record of another
            schema; `orphan`, a payload without a record: of a writer at work or interrupted, replaced or withdrawn, or
            its record is lost.
        namespace, video_id: of what.
        array: which array, `record` for the commit record, `zarr.json` for the payload's own metadata; none for an
            orphan.
        problem: what was expected and what was got.
        withdrawn: whether the video was taken out of the cache, so that the next extraction makes it again.
    """

    kind: Literal["damaged", "unreadable", "unsupported", "orphan"]
    namespace: str
    video_id: str
    array: str | None
    problem: str
    withdrawn: bool = False


def verify(
    catalog: Catalog, namespace: str, *, repair: bool = False, progress: Progress | None = None
) -> Iterator[Finding]:
    """Check every record, array and checksum of a namespace, in bounded memory.

    Args:
        catalog: the store.
        namespace: what to check.
        repair: withdraw the videos that are damaged; nothing else is withdrawn.
        progress: called once a video.
    """
    orphans = set(unreferenced(catalog, namespace))  # before the repair, which makes more of them
    keys = catalog.keys(namespace)
    for number, key in enumerate(keys):
        if progress:
            progress(number, len(keys), _name(key))
        problems = list(_check_video(catalog, namespace, key))
        withdrawn = repair and any(kind == "damaged" for _, kind, _ in problems)
        if withdrawn:
            catalog.withdraw_key(namespace, key)
        for array, kind, problem in problems:
            yield Finding(kind, namespace, _name(key), array, problem, withdrawn)
    for payload in sorted(orphans & set(unreferenced(catalog, namespace))):  # without what was committed meanwhile
        yield Finding(
            "orphan", namespace, _name(payload.split("/")[1]), None, f"{payload}: no commit record refers to it"
        )
    if progress:
        progress(len(keys), len(keys), "checked")


def _check_video(catalog: Catalog, namespace: str, key: str) -> Iterator[tuple[str, str, str]]:
    """(array, kind, problem) of everything of a video that is not what was written."""
    try:
        record = catalog.record_of_key(namespace, key)
    except NotCached:  # withdrawn since the listing
        return
    except CacheError as error:
        yield "record", _kind(error), str(error)
        return
    problems = []
    try:
        reader = FeatureReader(catalog, record)
    except CacheError as error:
        problems.append(("zarr.json", _kind(error), str(error)))
    else:
        problems += [(array, _kind(error), str(error)) for array, error in _check_arrays(reader)]
    # A payload may go once its video is extracted anew, also while it is being checked: then it is not the video's any
    # more.
    if (
        problems
        and catalog.has(namespace, record.video_id)
        and catalog.record_of_key(namespace, key).payload == record.payload
    ):
        yield from problems


def _kind(error: CacheError) -> Literal["damaged", "unreadable", "unsupported"]:
    if isinstance(error, UnsupportedRecord):
        return "unsupported"
    return "unreadable" if isinstance(error, ReadFailed) else "damaged"


def _name(key: str) -> str:
    """The id of a key, as far as the key alone tells it."""
    try:
        return unescape(key)
    except InvalidName:
        return key


def _check_arrays(reader: FeatureReader) -> Iterator[tuple[str, CacheError]]:
    """(array, error) of every array that is not what was written."""
    highest = []
    try:
        for view in range(reader.shape[0]):
            highest.append(np.max([maps.max(axis=(0, 1, 2)) for _, maps in reader.iter_clips(view)], axis=0))
    except CacheError as error:
        yield "features", error
    for name, read in (("cue", reader.cue), ("frames", reader.frames), ("times", reader.times)):
        try:
            values = read()
        except CacheError as error:
            yield name, error
            continue
        if name == "cue" and len(highest) == reader.shape[0] and not np.array_equal(values, np.stack(highest)):
            yield (
                name,
                DamagedPayload(
                    f"{reader.record.namespace}/{reader.record.video_id}: cue is not the maximum of the features"
                ),
            )
