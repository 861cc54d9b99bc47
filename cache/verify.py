"""Verification: read everything that a namespace holds and report what is not as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cache.catalog import Catalog
from cache.collect import unreferenced
from cache.errors import CacheError, DamagedPayload, InvalidName, NotCached, ReadFailed, UnsupportedRecord
from cache.names import unescape
from cache.progress import Progress
from cache.reader import FeatureReader

__all__ = ["Finding", "verify"]

Kind = Literal["damaged", "unreadable", "unsupported", "orphan"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: `damaged`, not what was written; `unreadable`, it could not be read, so its state is not known;
            `unsupported`, a record of another schema; `orphan`, a payload without a record: its writer is at work or
            was interrupted, the video was replaced or withdrawn, or its record is lost.
        namespace, video_id: what it belongs to.
        array: its name, `record` for the commit record, `zarr.json` for the payload's metadata; None for an orphan.
        problem: what was expected and what was found.
        withdrawn: whether the video was taken out of the cache, so that the next extraction makes it again.
    """

    kind: Kind
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
        findings = list(_check_video(catalog, namespace, key))
        withdrawn = repair and any(finding.kind == "damaged" for finding in findings)
        if withdrawn:
            catalog.withdraw_key(namespace, key)
        for finding in findings:
            yield replace(finding, withdrawn=withdrawn)
    for payload in sorted(orphans & set(unreferenced(catalog, namespace))):  # without what was committed meanwhile
        yield Finding(
            "orphan", namespace, _name(payload.split("/")[1]), None, f"{payload}: no commit record refers to it"
        )
    if progress:
        progress(len(keys), len(keys), "checked")


def _check_video(catalog: Catalog, namespace: str, key: str) -> Iterator[Finding]:
    """Everything of a video that is not what was written."""

    def finding(array: str, error: CacheError) -> Finding:
        return Finding(_kind(error), namespace, _name(key), array, str(error))

    try:
        record = catalog.record_of_key(namespace, key)
    except NotCached:  # withdrawn since the listing
        return
    except CacheError as error:
        yield finding("record", error)
        return
    try:
        reader = FeatureReader(catalog, record)
    except CacheError as error:
        findings = [finding("zarr.json", error)]
    else:
        findings = [finding(array, error) for array, error in _check_arrays(reader)]
    # A payload can be removed once its video is extracted again, even during this check: it is then no longer the
    # video's, and what is wrong with it does not matter.
    if (
        findings
        and catalog.has(namespace, record.video_id)
        and catalog.record_of_key(namespace, key).payload == record.payload
    ):
        yield from findings


def _kind(error: CacheError) -> Kind:
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
