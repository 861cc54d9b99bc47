"""Writing one video's features: a new payload, filled in whole chunks, then one commit record."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from cache.catalog import Catalog
from cache.errors import InvalidFrames, NonFiniteFeatures, ShapeMismatch, WriteFailed
from cache.record import CommitRecord

__all__ = ["AXES", "CHUNK_CLIPS", "FeatureWriter", "extend_crc32c"]

# Measured by benchmarks/cache.py, see docs/cache-format.md. Within a chunk the channel comes before the position: most
# zeros are those of channels that are silent in a clip, and side by side they compress well at zstd's fastest levels.
CHUNK_CLIPS = 32
FLUSH_CLIPS = 2 * CHUNK_CLIPS  # chunks are compressed in parallel
ORDER_IN_CHUNK = (0, 1, 4, 2, 3)
ZSTD_LEVEL = -1
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
        catalog: Catalog,
        namespace: str,
        video_id: str,
        shape: tuple[int, int, int, int],
        *,
        frames_per_clip: int,
        dtype: str,
    ) -> None:
        views, rows, columns, channels = shape
        self._catalog, self._namespace, self._video_id = catalog, namespace, video_id
        self._map_shape, self._views, self._length = (rows, columns, channels), views, frames_per_clip
        self._dtype = np.dtype(dtype)
        self._pending: list[list[np.ndarray]] = [[] for _ in range(views)]
        self._written = [0] * views
        self._crc32c = [0] * views
        self._frames: list[list[np.ndarray]] = [[] for _ in range(views)]
        self._cue = np.full((views, channels), -np.inf, dtype=np.float32)
        self._times = np.empty(0, dtype=np.float64)
        self._payload = catalog.fresh_payload(video_id)
        self._folder = f"{namespace}/{self._payload}"
        self._features: zarr.Array | None = None
        self._published = False
        self._held = ExitStack()
        with self._writing():
            self._held.enter_context(catalog.objects.held(f"{self._folder}.lock"))
            try:
                self._store = catalog.objects.fresh_store(self._folder)
                self._group = zarr.create_group(self._store, zarr_format=3)
            except BaseException:
                self._abandon()
                raise

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._published:
            self._held.close()
        else:
            self._abandon()

    def append(self, view: int, features: np.ndarray, frames: np.ndarray) -> None:
        """Add n clips of one view, in order.

        Args:
            view: 0 to V - 1.
            features: (n, H, W, D) float.
            frames: (n, L) integers, the frames each clip was made of.

        Raises:
            NonFiniteFeatures: a value is NaN or infinite, also after conversion to the stored type.
            InvalidFrames: a frame index is negative.
            ShapeMismatch: a shape differs from what the writer was opened with.
            WriteFailed: the store cannot be written to.
        """
        if features.shape[1:] != self._map_shape or frames.shape != (len(features), self._length):
            raise ShapeMismatch(
                f"{self._where}: expected features (n, {', '.join(map(str, self._map_shape))}) and "
                f"frames (n, {self._length}), got {features.shape} and {frames.shape}"
            )
        if frames.size and frames.min() < 0:
            raise InvalidFrames(f"{self._where}: view {view}: expected frame indices from 0, got {frames.min()}")
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(features, dtype=self._dtype)
        if not _all_finite(stored):
            self._refuse(view, stored, features)
        if len(stored):
            np.maximum(self._cue[view], _highest(stored), out=self._cue[view])
        self._crc32c[view] = extend_crc32c(self._crc32c[view], stored)
        self._pending[view].append(
            stored.copy() if np.shares_memory(stored, features) else stored
        )  # callers reuse arrays
        self._frames[view].append(np.array(frames, dtype=np.int64))
        if sum(map(len, self._pending[view])) >= FLUSH_CLIPS:
            with self._writing():
                self._flush(view, whole_chunks=True)

    def set_times(self, times_s: np.ndarray) -> None:
        """Presentation times of all decoded frames, (N,) seconds. Raises InvalidFrames where one is not finite."""
        self._times = np.array(times_s, dtype=np.float64)
        if not np.isfinite(self._times).all():
            frame = int(np.argmin(np.isfinite(self._times)))
            raise InvalidFrames(f"{self._where}: time of frame {frame}: expected seconds, got {self._times[frame]}")

    def commit(self, provenance: Mapping[str, Any]) -> CommitRecord:
        """Write the remaining clips and make the video visible; a record that it had before is replaced.

        Args:
            provenance: JSON data on how the features were made; kept in the record.

        Raises:
            ShapeMismatch: the views hold different numbers of clips, or none.
            WriteFailed: the store cannot be written to; nothing is visible then.
        """
        with self._writing():
            return self._commit(provenance)

    def _commit(self, provenance: Mapping[str, Any]) -> CommitRecord:
        counts = [sum(map(len, clips)) for clips in self._frames]
        if len(set(counts)) != 1 or not counts[0]:
            raise ShapeMismatch(f"{self._where}: expected the same number of clips in every view, got {counts}")
        for view in range(self._views):
            self._flush(view, whole_chunks=False)
        assert self._features is not None  # every view has clips, and they are flushed
        frames = np.stack([np.concatenate(clips) for clips in self._frames])
        shapes = {"features": tuple(self._features.shape)}
        checksums = {"features": tuple(f"{crc:08x}" for crc in self._crc32c)}
        small = {"cue": (self._cue, np.nan), "frames": (frames, -1), "times": (self._times, np.nan)}
        with ThreadPoolExecutor(len(small)) as pool:  # a small array costs round trips, not work
            list(pool.map(lambda name: self._write_small(name, *small[name]), small))
        for name, (values, _) in small.items():
            shapes[name] = values.shape
            checksums[name] = (f"{extend_crc32c(0, values):08x}",)
        record = CommitRecord(
            video_id=self._video_id,
            namespace=self._namespace,
            payload=self._payload,
            shapes=shapes,
            dtype=self._dtype.name,
            chunk_clips=self._features.chunks[1],
            metadata_sha256={
                name: hashlib.sha256(self._store.documents[name]).hexdigest() for name in sorted(self._store.documents)
            },
            values_crc32c=checksums,
            provenance=dict(provenance),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        # From here on the record may be there even if this call fails: the answer of a store can be lost.
        self._published = True
        self._catalog.publish(record)
        return record

    def _abandon(self) -> None:
        """Remove the payload, then release its lock; `gc` removes what cannot be removed now."""
        with suppress(OSError):
            self._catalog.objects.remove(self._folder)
        self._held.close()

    def _refuse(self, view: int, stored: np.ndarray, features: np.ndarray) -> None:
        bad = ~np.isfinite(stored)
        clip = int(np.argmax(bad.any(axis=(1, 2, 3))))
        number = self._written[view] + sum(map(len, self._pending[view])) + clip
        raise NonFiniteFeatures(
            f"{self._where}: view {view}, clip {number}: expected finite {self._dtype} features, got {features[bad][0]}"
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WriteFailed(f"{self._where}: cannot be written to the cache {self._catalog.url}: {error}") from error

    @property
    def _where(self) -> str:
        return f"{self._namespace}/{self._video_id}"

    def _write_small(self, name: str, values: np.ndarray, fill: float) -> None:
        self._array(name, tuple(max(1, size) for size in values.shape), fill, data=values)

    def _array(
        self, name: str, chunk: tuple[int, ...], fill: float, order: tuple[int, ...] = (), **content: Any
    ) -> zarr.Array:
        """Create an array of the payload; `content` is `data`, or `shape` and `dtype`."""
        return self._group.create_array(
            name,
            **content,
            chunks=chunk,
            fill_value=fill,
            filters=[TransposeCodec(order=order)] if order else None,
            serializer=BytesCodec(endian="little"),
            compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
            dimension_names=AXES[name],
            config={"write_empty_chunks": True},
        )

    def _flush(self, view: int, whole_chunks: bool) -> None:
        """Write the pending clips of a view. The first call decides the size of the chunks."""
        waiting = sum(map(len, self._pending[view]))
        count = waiting // CHUNK_CLIPS * CHUNK_CLIPS if whole_chunks else waiting
        if not count:
            return
        maps = np.concatenate(self._pending[view])
        first = self._written[view]
        shape = (self._views, first + count, *self._map_shape)
        if self._features is None:
            chunk = (1, min(CHUNK_CLIPS, count), *self._map_shape)
            self._features = self._array("features", chunk, np.nan, ORDER_IN_CHUNK, shape=shape, dtype=self._dtype)
        elif self._features.shape[1] < shape[1]:
            self._features.resize(shape)
        features = self._features

        def write_chunk(start: int) -> None:
            clips = maps[start : min(start + CHUNK_CLIPS, count)]
            place = slice(first + start, first + start + len(clips))
            # zarr takes an array with the shape and memory order of a chunk as it is. It would copy and reorder any
            # other in its only event loop, which takes longer than the compression.
            ordered = np.ascontiguousarray(clips.transpose(0, 3, 1, 2))
            features[view : view + 1, place] = ordered.transpose(0, 2, 3, 1)[None]

        with ThreadPoolExecutor() as pool:
            list(pool.map(write_chunk, range(0, count, CHUNK_CLIPS)))
        self._written[view] = first + count
        self._pending[view] = [maps[count:]] if waiting > count else []


def extend_crc32c(crc: int, values: np.ndarray) -> int:
    """The CRC-32C of some values, continued with more values.

    Args:
        crc: of the values before these; 0 for none.
        values: of any shape; they count as little-endian bytes in C order.
    """
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    extended: int = google_crc32c.extend(crc, little.reshape(-1).view(np.uint8))
    return extended


def _all_finite(values: np.ndarray) -> bool:
    if values.dtype == np.float16:  # NaN and infinity have all exponent bits; numpy tests them faster as integers
        return not ((values.view(np.uint16) & 0x7C00) == 0x7C00).any()
    return bool(np.isfinite(values).all())


def _highest(values: np.ndarray) -> np.ndarray:
    """Maximum over clips and positions of (n, H, W, D), (D,)."""
    # Halves that are not negative, as after a ReLU, order as their bits do, and integers are far faster to compare.
    if values.dtype == np.float16 and (bits := values.view(np.int16)).min() >= 0:
        highest: np.ndarray = bits.max(axis=(0, 1, 2)).view(np.float16)
    else:
        highest = values.max(axis=(0, 1, 2))
    return highest
