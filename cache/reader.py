"""Reading one video's features: what is returned is what was written, or an error."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import zarr

from cache.errors import DamagedPayload
from cache.record import CommitRecord
from cache.writer import CHUNK_CLIPS

if TYPE_CHECKING:
    from cache.store import FeatureStore

__all__ = ["FeatureReader"]


class FeatureReader:
    """Features of one committed video.

    Attributes:
        record: its commit record.
        shape: (V, T, H, W, D).
    """

    def __init__(self, store: FeatureStore, record: CommitRecord) -> None:
        self.record = record
        self.shape = record.shapes["features"]
        self._where = f"{record.namespace}/{record.video_id}"
        for name, expected in record.metadata_sha256.items():
            try:
                data = store.read_bytes(record.namespace, f"{record.payload}/{name}")
            except FileNotFoundError as error:
                raise DamagedPayload(f"{self._where}: {name} is missing from its payload") from error
            if hashlib.sha256(data).hexdigest() != expected:
                raise DamagedPayload(f"{self._where}: {name} is not what was written (SHA-256 differs)")
        self._group = zarr.open_group(store.zarr_store(record.namespace, record.payload), mode="r", zarr_format=3)

    def features(self, view: int) -> np.ndarray:
        """All maps of a view, (T, H, W, D)."""
        return self._read("features", (view,))

    def iter_clips(self, view: int, clips: int = CHUNK_CLIPS) -> Iterator[tuple[int, np.ndarray]]:
        """(first clip, maps (n, H, W, D)) of a view in order; n is `clips` rounded up to whole chunks, but for the last."""
        step = -(-clips // CHUNK_CLIPS) * CHUNK_CLIPS
        for start in range(0, self.shape[1], step):
            yield start, self._read("features", (view, slice(start, start + step)))

    def cue(self) -> np.ndarray:
        """Maximum over clips and positions of the values as stored, (V, D) float32."""
        return self._read("cue", ())

    def frames(self) -> np.ndarray:
        """Frame indices of every clip, (V, T, L) int64."""
        return self._read("frames", ())

    def times(self) -> np.ndarray:
        """Presentation times of all decoded frames, (N,) float64 seconds."""
        return self._read("times", ())

    def _read(self, name: str, selection: tuple) -> np.ndarray:
        try:
            array = self._group[name]
            values = np.asarray(array[(*selection, ...)])
        except (KeyError, ValueError, OSError, RuntimeError) as error:
            raise DamagedPayload(f"{self._where}: array {name} cannot be read: {error}") from error
        if tuple(array.shape) != tuple(self.record.shapes[name]):
            raise DamagedPayload(f"{self._where}: array {name}: expected shape {self.record.shapes[name]}, got {array.shape}")
        missing = np.isnan(values).any() if values.dtype.kind == "f" else (values < 0).any()
        if missing:
            raise DamagedPayload(f"{self._where}: array {name} has missing chunks (fill values were read)")
        return values
