"""The feature store: namespaces of videos, each visible exactly when its commit record is there.

`FeatureStore` is the main class of the library: the catalog of records, with methods that read, write, check and remove
what the records name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache.catalog import Catalog
from cache.collect import Garbage, collect
from cache.names import check_namespace
from cache.reader import FeatureReader
from cache.verify import Finding, verify
from cache.writer import FeatureWriter

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

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


class FeatureStore(Catalog):
    """Feature maps of many videos. Make one with `open`.

    Examples:
        Write the maps of one video, one view of two clips of four frames, and read them again:

        >>> import numpy as np
        >>> store = FeatureStore.open("memory://example")
        >>> with store.writer("street", "v1", views=1, rows=7, columns=7, channels=3, frames_per_clip=4) as writer:
        ...     writer.append(0, np.ones((2, 7, 7, 3), dtype=np.float32), np.arange(8).reshape(2, 4))
        ...     writer.set_times(np.arange(8) / 25)
        ...     record = writer.commit({"source": {"path": "v1.mp4"}})
        >>> sorted(store.video_ids("street"))
        ['v1']
        >>> store.reader("street", "v1").features(0).shape
        (2, 7, 7, 3)
    """

    @classmethod
    def open(cls, url: str | os.PathLike, storage_options: Mapping[str, Any] | None = None) -> FeatureStore:
        """A store at a folder or fsspec URL (`s3://bucket/prefix`, `memory://name`); it need not exist yet.

        `storage_options` go to the fsspec file system, such as `{"endpoint_url": ...}` of s3.
        """
        return cls(str(url), storage_options)

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
        """A context manager that writes one video; nothing is visible before its `commit`.

        Args:
            namespace: where the video goes.
            video_id: its id; a video of that id is replaced by the commit.
            views, rows, columns, channels: V, H, W and D of the maps.
            frames_per_clip: frames that each clip was made of.
            dtype: float16 or float32, as which the maps are stored.
        """
        check_namespace(namespace)
        return FeatureWriter(
            self, namespace, video_id, (views, rows, columns, channels), frames_per_clip=frames_per_clip, dtype=dtype
        )

    def dask(self, namespace: str, video_id: str, array: str = "features") -> da.Array:
        """A lazy array of a video: features (V, T, H, W, D), cue (V, D) or frames (V, T, L), in the stored chunks."""
        from cache.views import stack

        lazy: da.Array = stack(self, namespace, [video_id], array)[0]
        return lazy

    def stack(self, namespace: str, video_ids: Sequence[str], array: str = "features") -> da.Array:
        """A lazy array of many videos along a new first axis.

        Args:
            namespace: of the videos.
            video_ids: N of them.
            array: features (N, V, T, H, W, D), cue (N, V, D) or frames (N, V, T, L).

        Raises:
            ShapeMismatch: the videos differ in shape, as the features of test videos usually do; their cues do not.
        """
        from cache.views import stack

        return stack(self, namespace, video_ids, array)

    def to_xarray(self, namespace: str, video_id: str) -> xr.Dataset:
        """A video's arrays with named axes; features are lazy, coordinates are the frames and times of every clip."""
        from cache.views import to_xarray

        return to_xarray(self, namespace, video_id)

    def verify(self, namespace: str, repair: bool = False) -> list[Finding]:
        """Read and check everything in a namespace; with `repair` damaged videos are withdrawn."""
        return list(verify(self, namespace, repair=repair))

    def gc(self, namespace: str, older_than_s: float = 86400.0, dry_run: bool = False) -> list[Garbage]:
        """Remove what interrupted writers left and what was replaced or withdrawn; see `cache.collect`."""
        return collect(self, namespace, older_than_s, dry_run)
