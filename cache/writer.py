"""Writing one video's features: a fresh payload, filled in whole chunks, then one commit record."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from cache.errors import CacheError, NonFiniteFeatures, ShapeMismatch, WriteFailed
from cache.record import CommitRecord

if TYPE_CHECKING:
    from cache.store import FeatureStore

__all__ = ["CHUNK_CLIPS", "FeatureWriter"]

CHUNK_CLIPS = 8
AXES = {
    "features": ("view", "clip", "row", "column", "channel"),
    "cue": ("view", "channel"),
    "frames": ("view", "clip", "position"),
    "times": ("frame",),
}


class FeatureWriter:
    """Writer of one video; use it in a `with` block. Leaving the block without `commit` leaves nothing visible."""

    def __init__(
        self,
        store: FeatureStore,
        namespace: str,
        video_id: str,
        shape: tuple[int, int, int, int],
        *,
        frames_per_clip: int,
        dtype: str,
    ) -> None:
        views, rows, columns, channels = shape
        self._store, self._namespace, self._video_id = store, namespace, video_id
        self._map_shape, self._views, self._length = (rows, columns, channels), views, frames_per_clip
        self._dtype = np.dtype(dtype)
        self._pending: list[list[np.ndarray]] = [[] for _ in range(views)]
        self._written = [0] * views
        self._frames: list[list[np.ndarray]] = [[] for _ in range(views)]
        self._cue = np.full((views, channels), -np.inf, dtype=np.float32)
        self._times = np.empty(0, dtype=np.float64)
        self._payload = store.fresh_payload(video_id)
        self._committed = False
        chunk = (1, CHUNK_CLIPS, *self._map_shape)
        with self._writing():
            self._group = zarr.create_group(store.zarr_store(namespace, self._payload), zarr_format=3)
            self._features = self._array("features", (views, 0, *self._map_shape), chunk, self._dtype, np.nan)

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._committed:
            with suppress(OSError):  # what cannot be removed now, `gc` removes
                self._store.remove(self._namespace, self._payload)

    def append(self, view: int, features: np.ndarray, frames: np.ndarray) -> None:
        """Add n clips of one view, in order.

        Args:
            view: 0 to V - 1.
            features: (n, H, W, D) float.
            frames: (n, L) integers, the frames each clip was made of.

        Raises:
            NonFiniteFeatures: a value is NaN or infinite, also after conversion to the stored type.
            ShapeMismatch: a shape differs from what the writer was opened with.
            WriteFailed: the store cannot be written to.
        """
        if features.shape[1:] != self._map_shape or frames.shape != (len(features), self._length):
            raise ShapeMismatch(
                f"{self._where}: expected features (n, {', '.join(map(str, self._map_shape))}) and frames (n, {self._length}), "
                f"got {features.shape} and {frames.shape}"
            )
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(features, dtype=self._dtype)
        for clip, (maps, original) in enumerate(zip(stored, features, strict=True)):
            if not np.isfinite(maps).all():
                number = self._written[view] + sum(map(len, self._pending[view])) + clip
                value = original[~np.isfinite(maps)][0]
                raise NonFiniteFeatures(
                    f"{self._where}: view {view}, clip {number}: expected finite {self._dtype} features, got {value}"
                )
        if len(stored):
            np.maximum(self._cue[view], stored.max(axis=(0, 1, 2)), out=self._cue[view])
        self._pending[view].append(stored)
        self._frames[view].append(np.asarray(frames, dtype=np.int64))
        with self._writing():
            self._flush(view, whole_chunks=True)

    def set_times(self, times_s: np.ndarray) -> None:
        """Presentation times of all decoded frames, (N,) seconds from the first."""
        self._times = np.asarray(times_s, dtype=np.float64)

    def commit(self, provenance: Mapping[str, Any]) -> CommitRecord:
        """Write what is left and make the video visible; a record it had before is replaced.

        Raises:
            ShapeMismatch: the views hold different numbers of clips, or none.
            WriteFailed: the store cannot be written to; nothing is visible then.
        """
        with self._writing():
            return self._commit(provenance)

    def _commit(self, provenance: Mapping[str, Any]) -> CommitRecord:
        for view in range(self._views):
            self._flush(view, whole_chunks=False)
        if len(set(self._written)) != 1 or not self._written[0]:
            raise ShapeMismatch(f"{self._where}: expected the same number of clips in every view, got {self._written}")
        frames = np.stack([np.concatenate(clips) for clips in self._frames])
        for name, values, fill in (("cue", self._cue, np.nan), ("frames", frames, -1), ("times", self._times, np.nan)):
            chunk = tuple(max(1, size) for size in values.shape)
            self._array(name, values.shape, chunk, values.dtype, fill)[...] = values
        names = [n for n in self._store.find(self._namespace, self._payload) if n.endswith("zarr.json")]
        digests = {n: hashlib.sha256(self._store.read_bytes(self._namespace, f"{self._payload}/{n}")).hexdigest() for n in names}
        record = CommitRecord(
            video_id=self._video_id,
            namespace=self._namespace,
            payload=self._payload,
            shapes={name: tuple(self._group[name].shape) for name in AXES},
            dtype=self._dtype.name,
            metadata_sha256=digests,
            provenance=dict(provenance),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        self._store.publish(record)
        self._committed = True
        return record

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except CacheError:
            raise
        except OSError as error:
            raise WriteFailed(f"{self._where}: cannot be written to the cache {self._store.url}: {error}") from error

    @property
    def _where(self) -> str:
        return f"{self._namespace}/{self._video_id}"

    def _array(self, name: str, shape: tuple[int, ...], chunk: tuple[int, ...], dtype: np.dtype, fill: float) -> zarr.Array:
        return self._group.create_array(
            name,
            shape=shape,
            chunks=chunk,
            dtype=dtype,
            fill_value=fill,
            filters=None,
            serializer=BytesCodec(endian="little"),
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
            dimension_names=AXES[name],
            config={"write_empty_chunks": True},
        )

    def _flush(self, view: int, whole_chunks: bool) -> None:
        waiting = sum(map(len, self._pending[view]))
        count = waiting // CHUNK_CLIPS * CHUNK_CLIPS if whole_chunks else waiting
        if not count:
            return
        maps = np.concatenate(self._pending[view])
        start = self._written[view]
        if self._features.shape[1] < start + count:
            self._features.resize((self._views, start + count, *self._map_shape))
        self._features[view, start : start + count] = maps[:count]
        self._written[view] = start + count
        self._pending[view] = [maps[count:]] if waiting > count else []
