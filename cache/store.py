"""The feature store: namespaces of videos, each visible exactly when its commit record is there.

    <root>/<namespace>/commits/<key>.json              commit records
    <root>/<namespace>/payloads/<key>/<fresh name>/    immutable zarr groups
    <root>/<namespace>/payloads/<key>/<fresh name>.lock, .json   while it is being written, on a local disk

The same code serves a local folder and any fsspec URL: a record is the only object that is ever replaced, in one step.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache.errors import InvalidRecord, NotCached
from cache.names import check_namespace, escape, is_hashed, unescape
from cache.objects import Objects
from cache.record import CommitRecord

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    from cache.collect import Garbage
    from cache.reader import FeatureReader
    from cache.verify import Finding
    from cache.writer import FeatureWriter

__all__ = ["FeatureStore", "NamespaceStats"]


@dataclass(frozen=True)
class NamespaceStats:
    """What a namespace holds.

    Attributes:
        videos, clips: counts; clips of all views.
        feature_bytes: of the committed features, uncompressed.
        stored_bytes, files: of everything that lies there, records and garbage too.
        dtypes: of the features.
        map_shapes: (H, W, D).
    """

    videos: int
    clips: int
    feature_bytes: int
    stored_bytes: int
    files: int
    dtypes: tuple[str, ...]
    map_shapes: tuple[tuple[int, ...], ...]


class FeatureStore:
    """Feature maps of many videos. Make one with `open`."""

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self.objects = Objects(url, storage_options)

    @classmethod
    def open(cls, url: str | os.PathLike, storage_options: Mapping[str, Any] | None = None) -> FeatureStore:
        """A store at a folder or fsspec URL (`s3://bucket/prefix`, `memory://name`); it need not exist yet.

        `storage_options` go to the fsspec file system, such as `{"endpoint_url": ...}` of s3.
        """
        return cls(str(url), storage_options)

    def namespaces(self) -> list[str]:
        """All namespaces, sorted."""
        return self.objects.names("")

    def list(self, namespace: str) -> set[str]:
        """Ids of all committed videos: one listing of the records."""
        return {self.record_of_key(namespace, key).video_id if is_hashed(key) else unescape(key) for key in self.keys(namespace)}

    def keys(self, namespace: str) -> list[str]:
        """Names of the commit records, without `.json`."""
        return [name.removesuffix(".json") for name in self.objects.names(_commits(namespace)) if name.endswith(".json")]

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
        for video_id in sorted(self.list(namespace)):
            yield self.record(namespace, video_id)

    def stats(self, namespace: str) -> NamespaceStats:
        """Counts and sizes of a namespace; reads all its records and lists all its objects."""
        records = tuple(self.records(namespace))
        files = self.objects.files(check_namespace(namespace))
        return NamespaceStats(
            videos=len(records),
            clips=sum(record.shapes["features"][0] * record.shapes["features"][1] for record in records),
            feature_bytes=sum(record.feature_bytes for record in records),
            stored_bytes=sum(size for size, _ in files.values()),
            files=len(files),
            dtypes=tuple(sorted({record.dtype for record in records})),
            map_shapes=tuple(sorted({record.shapes["features"][2:] for record in records})),
        )

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

    def dask(self, namespace: str, video_id: str, array: str = "features") -> da.Array:
        """A video's array, lazily: features (V, T, H, W, D), cue (V, D) or frames (V, T, L), in chunks as they are stored."""
        from cache.views import stack

        return stack(self, namespace, [video_id], array)[0]

    def stack(self, namespace: str, video_ids: Sequence[str], array: str = "features") -> da.Array:
        """One array of many videos along a new first axis, lazily: features (N, V, T, H, W, D), cue (N, V, D) or frames.

        Raises ShapeMismatch where the videos differ in shape: test videos have cues in common, not numbers of windows.
        """
        from cache.views import stack

        return stack(self, namespace, video_ids, array)

    def to_xarray(self, namespace: str, video_id: str) -> xr.Dataset:
        """A video's arrays with named axes, features lazily, and the frames and times of every clip as coordinates."""
        from cache.views import to_xarray

        return to_xarray(self, namespace, video_id)

    def verify(self, namespace: str, repair: bool = False) -> list[Finding]:
        """Read and check everything in a namespace; `repair` withdraws the videos that are damaged."""
        from cache.verify import verify

        return list(verify(self, namespace, repair=repair))

    def withdraw(self, namespace: str, video_id: str) -> None:
        """Make a video invisible; `gc` frees its space. Raises NotCached."""
        if not self.has(namespace, video_id):
            raise NotCached(f"{namespace}/{video_id}: not in the cache {self.url}")
        self.withdraw_key(namespace, escape(video_id))

    def withdraw_key(self, namespace: str, key: str) -> None:
        """Remove a commit record, readable or not, by its key."""
        self.objects.remove(_commit(namespace, key))

    def discard(self, namespace: str, video_id: str) -> None:
        """Withdraw a video and free its space at once: for a store that nobody else reads. Raises NotCached."""
        payload = self.record(namespace, video_id).payload
        self.withdraw(namespace, video_id)
        self.objects.remove(f"{namespace}/{payload}")

    def gc(self, namespace: str, older_than_s: float = 86400.0, dry_run: bool = False) -> list[Garbage]:
        """Remove what interrupted writers left and what was replaced or withdrawn; see `cache.collect`."""
        from cache.collect import collect

        return collect(self, namespace, older_than_s, dry_run)

    def fresh_payload(self, video_id: str) -> str:
        """A name no other writer has, relative to the namespace: milliseconds since 1970 in hex, then random digits."""
        return f"payloads/{escape(video_id)}/{int(time.time() * 1e3):011x}-{uuid.uuid4().hex[:16]}"

    def publish(self, record: CommitRecord) -> None:
        """Write a commit record in one step: a rename on a local disk, one put elsewhere."""
        final = _commit(record.namespace, escape(record.video_id))
        self.objects.write_whole(final, record.to_json().encode(), beside=f"{record.namespace}/{record.payload}.json")


def _commits(namespace: str) -> str:
    return f"{check_namespace(namespace)}/commits"


def _commit(namespace: str, key: str) -> str:
    return f"{_commits(namespace)}/{key}.json"
