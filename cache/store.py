"""The feature store: namespaces of videos, each visible exactly when its commit record is there.

    <root>/<namespace>/commits/<key>.json            commit records
    <root>/<namespace>/payloads/<key>/<fresh name>/  immutable zarr groups

The same code serves a local folder and any fsspec URL: a record is the only object that is ever replaced, in one step.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
from fsspec.implementations.local import LocalFileSystem
from zarr.storage import FsspecStore, LocalStore

from cache.errors import InvalidRecord, NotCached
from cache.names import check_namespace, escape, is_hashed, unescape
from cache.record import CommitRecord

if TYPE_CHECKING:
    from cache.reader import FeatureReader
    from cache.writer import FeatureWriter

__all__ = ["FeatureStore"]


class FeatureStore:
    """Feature maps of many videos. Make one with `open`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, root = fsspec.core.url_to_fs(url)
        self._local = isinstance(self._fs, LocalFileSystem)
        self._root = root.rstrip("/")

    @classmethod
    def open(cls, url: str | os.PathLike) -> FeatureStore:
        """A store at a folder or fsspec URL (`s3://bucket/prefix`, `memory://name`); it need not exist yet."""
        return cls(str(url))

    def namespaces(self) -> list[str]:
        """All namespaces, sorted."""
        return sorted(entry.rsplit("/", 1)[-1] for entry in self._names(self._root))

    def list(self, namespace: str) -> set[str]:
        """Ids of all committed videos: one listing of the records."""
        keys = (name.removesuffix(".json") for name in self._names(self._commits(namespace)) if name.endswith(".json"))
        return {self._read(namespace, key).video_id if is_hashed(key) else unescape(key) for key in keys}

    def has(self, namespace: str, video_id: str) -> bool:
        """Whether a video is committed."""
        return self._fs.exists(self._commit_path(namespace, video_id))

    def record(self, namespace: str, video_id: str) -> CommitRecord:
        """The commit record of a video. Raises NotCached, or InvalidRecord when it is damaged."""
        record = self._read(namespace, escape(video_id))
        if (record.namespace, record.video_id) != (namespace, video_id):
            raise InvalidRecord(f"{namespace}/{video_id}: the record is that of {record.namespace}/{record.video_id}")
        return record

    def records(self, namespace: str) -> Iterator[CommitRecord]:
        """All records of a namespace, by id."""
        for video_id in sorted(self.list(namespace)):
            yield self.record(namespace, video_id)

    def reader(self, namespace: str, video_id: str) -> FeatureReader:
        """Open a video's features. Raises NotCached or DamagedPayload."""
        from cache.reader import FeatureReader

        return FeatureReader(self, self.record(namespace, video_id))

    def writer(
        self,
        namespace: str,
        video_id: str,
        *,
        views: int,
        rows: int,
        columns: int,
        channels: int,
        frames_per_clip: int,
        dtype: str = "float16",
    ) -> FeatureWriter:
        """A context manager that writes one video under a fresh name; nothing is visible before its `commit`."""
        from cache.writer import FeatureWriter

        check_namespace(namespace)
        return FeatureWriter(
            self, namespace, video_id, (views, rows, columns, channels), frames_per_clip=frames_per_clip, dtype=dtype
        )

    def withdraw(self, namespace: str, video_id: str) -> None:
        """Make a video invisible, then remove its payloads. Raises NotCached."""
        if not self.has(namespace, video_id):
            raise NotCached(f"{namespace}/{video_id}: not in the cache {self.url}")
        self._fs.rm_file(self._commit_path(namespace, video_id))
        self._fs.rm(f"{self._root}/{namespace}/payloads/{escape(video_id)}", recursive=True)

    def gc(self, namespace: str, older_than_s: float = 3600.0) -> list[str]:
        """Remove payloads that no record refers to and that were begun longer ago than `older_than_s`; returns their names.

        The age protects what a live writer is writing: a payload's name holds the time it was begun.
        """
        removed = []
        base = f"{self._root}/{check_namespace(namespace)}/payloads"
        referred = {record.payload for record in self.records(namespace)}
        for key in self._names(base):
            for name in self._names(f"{base}/{key}"):
                payload = f"payloads/{key}/{name}"
                begun = int(name.split("-")[0], 16) / 1e3 if "-" in name else 0.0
                if payload not in referred and time.time() - begun > older_than_s:
                    self._fs.rm(f"{base}/{key}/{name}", recursive=True)
                    removed.append(payload)
        return removed

    def zarr_store(self, namespace: str, payload: str) -> LocalStore | FsspecStore:
        """The zarr store of one payload."""
        path = f"{self._root}/{namespace}/{payload}"
        if self._local:
            return LocalStore(path)
        return FsspecStore.from_url(self._fs.unstrip_protocol(path))

    def fresh_payload(self, video_id: str) -> str:
        """A name no other writer has, relative to the namespace: milliseconds since 1970 in hex, then random digits."""
        return f"payloads/{escape(video_id)}/{int(time.time() * 1e3):011x}-{uuid.uuid4().hex[:16]}"

    def read_bytes(self, namespace: str, relative: str) -> bytes:
        """An object below a namespace. Raises FileNotFoundError."""
        return self._fs.cat_file(f"{self._root}/{namespace}/{relative}")

    def find(self, namespace: str, relative: str) -> list[str]:
        """All objects below a folder of a namespace, relative to that folder."""
        base = f"{self._root}/{namespace}/{relative}"
        return sorted(name.split(base.strip("/") + "/", 1)[-1] for name in self._fs.find(base))

    def remove(self, namespace: str, relative: str) -> None:
        """Remove a payload that will not be committed."""
        path = f"{self._root}/{namespace}/{relative}"
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def publish(self, record: CommitRecord) -> None:
        """Write a commit record in one step: a rename on a local disk, one put elsewhere."""
        path = self._commit_path(record.namespace, record.video_id)
        data = record.to_json().encode()
        if not self._local:
            self._fs.makedirs(self._commits(record.namespace), exist_ok=True)
            self._fs.pipe_file(path, data)
            return
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f"{uuid.uuid4().hex}.partial")
        try:
            with partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, final)
        finally:
            partial.unlink(missing_ok=True)

    def _read(self, namespace: str, key: str) -> CommitRecord:
        where = f"{self._commits(namespace)}/{key}.json"
        try:
            text = self._fs.cat_file(where).decode()
        except FileNotFoundError as error:
            raise NotCached(f"{namespace}/{key}: not in the cache {self.url}") from error
        return CommitRecord.from_json(text, where)

    def _commits(self, namespace: str) -> str:
        return f"{self._root}/{check_namespace(namespace)}/commits"

    def _commit_path(self, namespace: str, video_id: str) -> str:
        return f"{self._commits(namespace)}/{escape(video_id)}.json"

    def _names(self, folder: str) -> list[str]:
        try:
            self._fs.invalidate_cache(folder)
            return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._fs.ls(folder, detail=False))
        except FileNotFoundError:
            return []
