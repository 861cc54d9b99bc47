"""Garbage: payloads that no commit record refers to. Their writer was interrupted, or the video replaced or withdrawn.

A payload is removed when no record refers to it, nothing has been written to it for `older_than_s` seconds, and on a
local disk no process holds its lock. A writer holds the lock from before its first byte until after its commit, and the
operating system releases it when the process dies, so age 0 is safe there. An object store has no locks: there the age
must exceed the longest time between two chunks of a writer, and the clocks of machine and store must differ by much
less.

Lock files and unfinished records that a writer left when it was killed right after its commit are removed too.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from cache.catalog import Catalog
from cache.errors import CacheError, NotCached
from cache.names import check_namespace, escape

__all__ = ["Garbage", "being_written", "collect", "unreferenced"]

NAME = re.compile(r"([0-9a-f]{11}-[0-9a-f]{16})(\.lock|\.json)?$")


@dataclass(frozen=True)
class Garbage:
    """One payload that was removed, or would be.

    Attributes:
        payload: its name relative to the namespace.
        bytes: its size.
    """

    payload: str
    bytes: int


def collect(catalog: Catalog, namespace: str, older_than_s: float, dry_run: bool = False) -> list[Garbage]:
    """Remove the garbage of a namespace.

    Args:
        catalog: the store.
        namespace: which.
        older_than_s: seconds since something was last written to a payload; younger ones are kept.
        dry_run: remove nothing.

    Returns:
        What was removed, or with `dry_run` would be.
    """
    removed = []
    for payload in unreferenced(catalog, namespace):
        folder = f"{namespace}/{payload}"
        with catalog.objects.unheld(f"{folder}.lock") as free:
            # Asked again, because its writer may have committed and released the lock since the listing.
            if not free or _referred(catalog, namespace, payload):
                continue
            files = _files(catalog, folder)
            if time.time() - _last_use(catalog, namespace, payload, files) <= older_than_s:
                continue
            removed.append(Garbage(payload, sum(size for size, _ in files.values())))
            if not dry_run:
                for leftover in (folder, f"{folder}.json", f"{folder}.lock"):
                    catalog.objects.remove(leftover)
    for payload, suffixes in [] if dry_run else list(_listed(catalog, namespace)):
        folder = f"{namespace}/{payload}"
        if suffixes == {""} or not _referred(catalog, namespace, payload):
            continue
        with catalog.objects.unheld(f"{folder}.lock") as free:
            for suffix in sorted(suffixes - {""}) if free else ():
                catalog.objects.remove(f"{folder}{suffix}")
    return removed


def unreferenced(catalog: Catalog, namespace: str) -> list[str]:
    """Payloads that no commit record refers to, those of live writers included.

    Payloads of a video whose record cannot be read are not among them.
    """
    return [payload for payload, _ in _listed(catalog, namespace) if not _referred(catalog, namespace, payload)]


def being_written(catalog: Catalog, namespace: str, video_id: str) -> bool:
    """Whether a living process writes a video; False where there are no locks, as on an object store."""
    base = f"{check_namespace(namespace)}/payloads/{escape(video_id)}"
    for name in catalog.objects.names(base):
        if name.endswith(".lock"):
            with catalog.objects.unheld(f"{base}/{name}") as free:
                if not free:
                    return True
    return False


def _listed(catalog: Catalog, namespace: str) -> Iterator[tuple[str, set[str]]]:
    """Payloads and the suffixes of what is there: "" the payload, ".lock" its lock, ".json" its unfinished record."""
    base = f"{check_namespace(namespace)}/payloads"
    for key in catalog.objects.names(base):
        found: dict[str, set[str]] = {}
        for name in catalog.objects.names(f"{base}/{key}"):
            if match := NAME.match(name):
                found.setdefault(match[1], set()).add(match[2] or "")
        yield from ((f"payloads/{key}/{name}", found[name]) for name in sorted(found))


def _referred(catalog: Catalog, namespace: str, payload: str) -> bool:
    try:
        return catalog.record_of_key(namespace, payload.split("/")[1]).payload == payload
    except NotCached:
        return False
    except CacheError:  # what an unreadable record refers to is not known
        return True


def _last_use(catalog: Catalog, namespace: str, payload: str, files: dict[str, tuple[int, float | None]]) -> float:
    """When a payload was begun, last written to or replaced, whichever was last, in seconds since 1970."""
    _, key, name = payload.split("/")
    times = [int(name.split("-")[0], 16) / 1e3, *(changed for _, changed in files.values() if changed)]
    with suppress(NotCached):
        times.append(datetime.datetime.fromisoformat(catalog.record_of_key(namespace, key).created).timestamp())
    return max(times)


def _files(catalog: Catalog, folder: str) -> dict[str, tuple[int, float | None]]:
    """The objects of a payload and those that its writer keeps beside it."""
    parent, name = folder.rsplit("/", 1)
    return {path: facts for path, facts in catalog.objects.files(parent).items() if path.startswith(name)}
