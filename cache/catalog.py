"""The catalog: which videos of a namespace are committed, and their records. Everything else in the cache builds on it.

    <root>/<namespace>/commits/<key>.json              commit records
    <root>/<namespace>/payloads/<key>/<fresh name>/    immutable zarr groups
    <root>/<namespace>/payloads/<key>/<fresh name>.lock, .json   while it is being written, on a local disk

Records are the only objects that are ever replaced, each in one step. The same code works on a local folder and on any
fsspec URL.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from cache.errors import InvalidRecord, NotCached
from cache.names import check_namespace, escape, is_hashed, unescape
from cache.objects import Objects
from cache.record import CommitRecord

__all__ = ["Catalog"]


class Catalog:
    """The commit records below one root.

    Args:
        url: a folder or fsspec URL; it need not exist yet.
        storage_options: for the fsspec file system.

    Attributes:
        url: the root.
        objects: reads, writes and lists the objects below it.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self.objects = Objects(url, storage_options)

    def namespaces(self) -> list[str]:
        """All namespaces, sorted."""
        return self.objects.names("")

    def video_ids(self, namespace: str) -> set[str]:
        """Ids of all committed videos: one listing of the records."""
        return {
            self.record_of_key(namespace, key).video_id if is_hashed(key) else unescape(key)
            for key in self.keys(namespace)
        }

    def keys(self, namespace: str) -> list[str]:
        """Names of the commit records, without `.json`."""
        return [
            name.removesuffix(".json") for name in self.objects.names(_commits(namespace)) if name.endswith(".json")
        ]

    def has(self, namespace: str, video_id: str) -> bool:
        """Whether a video is committed."""
        return self.objects.exists(_commit(namespace, escape(video_id)))

    def record(self, namespace: str, video_id: str) -> CommitRecord:
        """The commit record of a video. Raises NotCached, InvalidRecord or UnsupportedRecord."""
        record = self.record_of_key(namespace, escape(video_id))
        if record.video_id != video_id:
            raise InvalidRecord(f"{namespace}/{video_id}: the record is that of {record.namespace}/{record.video_id}")
        return record

    def record_of_key(self, namespace: str, key: str) -> CommitRecord:
        """The commit record under a key, as `keys` lists them. Raises as `record` does."""
        where = _commit(namespace, key)
        try:
            data = self.objects.read(where)
        except FileNotFoundError as error:
            raise NotCached(f"{namespace}/{key}: not in the cache {self.url}") from error
        try:
            record = CommitRecord.from_json(data.decode(), f"{self.url}/{where}")
        except UnicodeDecodeError as error:
            raise InvalidRecord(f"{self.url}/{where}: not a commit record ({error})") from error
        if (record.namespace, escape(record.video_id)) != (namespace, key):
            raise InvalidRecord(f"{namespace}/{key}: the record is that of {record.namespace}/{record.video_id}")
        return record

    def records(self, namespace: str) -> Iterator[CommitRecord]:
        """All records of a namespace, by id."""
        for video_id in sorted(self.video_ids(namespace)):
            yield self.record(namespace, video_id)

    def withdraw(self, namespace: str, video_id: str) -> None:
        """Make a video invisible; `gc` frees its space. Raises NotCached."""
        if not self.has(namespace, video_id):
            raise NotCached(f"{namespace}/{video_id}: not in the cache {self.url}")
        self.withdraw_key(namespace, escape(video_id))

    def withdraw_key(self, namespace: str, key: str) -> None:
        """Remove a commit record, readable or not, by its key."""
        self.objects.remove(_commit(namespace, key))

    def discard(self, namespace: str, video_id: str) -> None:
        """Withdraw a video and free its space at once; only for a store that nobody else reads. Raises NotCached."""
        payload = self.record(namespace, video_id).payload
        self.withdraw(namespace, video_id)
        self.objects.remove(f"{namespace}/{payload}")

    def fresh_payload(self, video_id: str) -> str:
        """A new payload name, relative to the namespace: milliseconds since 1970 in hex, then random digits."""
        return f"payloads/{escape(video_id)}/{int(time.time() * 1e3):011x}-{uuid.uuid4().hex[:16]}"

    def publish(self, record: CommitRecord) -> None:
        """Write a commit record in one step: a rename on a local disk, one put elsewhere."""
        final = _commit(record.namespace, escape(record.video_id))
        self.objects.write_whole(final, record.to_json().encode(), beside=f"{record.namespace}/{record.payload}.json")


def _commits(namespace: str) -> str:
    return f"{check_namespace(namespace)}/commits"


def _commit(namespace: str, key: str) -> str:
    return f"{_commits(namespace)}/{key}.json"
