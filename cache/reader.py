"""Reading one video's features: what is returned is what was written, or an error."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import zarr

from cache.catalog import Catalog
from cache.errors import DamagedPayload, ReadFailed
from cache.record import CommitRecord
from cache.writer import extend_crc32c

__all__ = ["FeatureReader"]

READ_CLIPS = 64  # two full chunks, decompressed in parallel
LARGE_BYTES = 2**28  # an array that declares more is compared with what is stored before memory is allocated
EXPANSION = 2**16  # a chunk unpacks to at most this many times its size: zstd needs 4 bytes for 128 KiB of one value


class FeatureReader:
    """Features of one committed video.

    Every chunk that is read is checked against its own checksum, and a whole array or view also against the checksum of
    its values in the commit record. All methods raise DamagedPayload if the stored data is not what was written, and
    ReadFailed if it cannot be read.

    Args:
        catalog: the store.
        record: the video's commit record.

    Attributes:
        record: its commit record.
        shape: (V, T, H, W, D).
    """

    def __init__(self, catalog: Catalog, record: CommitRecord) -> None:
        self.record = record
        self.shape = record.shapes["features"]
        self._objects, self._folder = catalog.objects, f"{record.namespace}/{record.payload}"
        self._where = f"{record.namespace}/{record.video_id}"
        self._arrays: dict[str, zarr.Array] = {}
        self._check_metadata("zarr.json")

    def features(self, view: int) -> np.ndarray:
        """All maps of a view, (T, H, W, D)."""
        values = self.read("features", (view,))
        self._check_values("features", view, extend_crc32c(0, values))
        return values

    def iter_clips(self, view: int, clips: int = READ_CLIPS) -> Iterator[tuple[int, np.ndarray]]:
        """The maps of a view in pieces, in order.

        Args:
            view: 0 to V - 1.
            clips: of a piece, rounded up to whole chunks; the last piece can be shorter.

        Yields:
            (first clip, maps (n, H, W, D)).
        """
        chunk, crc = self.record.chunk_clips, 0
        step = -(-clips // chunk) * chunk
        for start in range(0, self.shape[1], step):
            values = self.read("features", (view, slice(start, start + step)))
            crc = extend_crc32c(crc, values)
            yield start, values
        self._check_values("features", view, crc)

    def cue(self) -> np.ndarray:
        """Maximum over clips and positions of the values as stored, (V, D) float32."""
        return self._whole("cue")

    def frames(self) -> np.ndarray:
        """Frame indices of every clip, (V, T, L) int64."""
        return self._whole("frames")

    def times(self) -> np.ndarray:
        """Presentation times of all decoded frames, (N,) float64 seconds."""
        return self._whole("times")

    def read(self, name: str, selection: tuple) -> np.ndarray:
        """A part of an array; `selection` indexes its first axes. Every chunk that it touches is checked."""
        array = self._array(name)
        with self._reading(f"array {name}"):
            values = np.asarray(array[(*selection, ...)])
        # Written values are never NaN, nor negative where they are integers: one value per clip shows a missing chunk.
        witness = values[..., 0, 0, 0] if name == "features" else values
        if (np.isnan(witness) if values.dtype.kind == "f" else witness < 0).any():
            raise DamagedPayload(f"{self._where}: array {name} has missing chunks (fill values were read)")
        return values

    def _whole(self, name: str) -> np.ndarray:
        values = self.read(name, ())
        self._check_values(name, 0, extend_crc32c(0, values))
        return values

    def _array(self, name: str) -> zarr.Array:
        """An array; its metadata is checked on first use."""
        if name not in self._arrays:
            checked = {"zarr.json": self._check_metadata(f"{name}/zarr.json")}
            with self._reading(f"array {name}"):
                store = self._objects.zarr_store(f"{self._folder}/{name}", checked)
                array = zarr.open_array(store, mode="r", zarr_format=3)
            if tuple(array.shape) != tuple(self.record.shapes[name]):
                expected = self.record.shapes[name]
                raise DamagedPayload(f"{self._where}: array {name}: expected shape {expected}, got {array.shape}")
            self._check_stored(name, array)
            self._arrays[name] = array
        return self._arrays[name]

    def check_stored(self) -> None:
        """Check the declared size of the features against what is stored, before planning with that size."""
        self._array("features")

    def _check_stored(self, name: str, array: zarr.Array) -> None:
        """Check that a large array, or one of large chunks, has all its chunks and that they can hold its values."""
        declared = max(array.nbytes, math.prod(array.chunks) * array.dtype.itemsize)
        if declared <= LARGE_BYTES:
            return
        with self._reading(f"array {name}"):
            files = self._objects.files(f"{self._folder}/{name}")
        sizes = [size for path, (size, _) in files.items() if not path.endswith("zarr.json")]
        expected = math.prod(-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True))
        if len(sizes) < expected:
            raise DamagedPayload(f"{self._where}: array {name} declares {expected} chunks, {len(sizes)} are there")
        if declared > sum(sizes) * EXPANSION:
            raise DamagedPayload(
                f"{self._where}: array {name} declares {declared} bytes, which {sum(sizes)} stored ones cannot hold"
            )

    def _check_metadata(self, name: str) -> bytes:
        with self._reading(name):
            data = self._objects.read(f"{self._folder}/{name}")
        if hashlib.sha256(data).hexdigest() != self.record.metadata_sha256[name]:
            raise DamagedPayload(f"{self._where}: {name} is not what was written (SHA-256 differs)")
        return data

    def _check_values(self, name: str, view: int, crc: int) -> None:
        expected = self.record.values_crc32c[name][view]
        if f"{crc:08x}" != expected:
            raise DamagedPayload(
                f"{self._where}: array {name}, view {view}: expected values of CRC-32C {expected}, got {crc:08x}"
            )

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Tell damage from a failure to read: zarr raises ValueError or RuntimeError if a checksum or codec fails."""
        try:
            yield
        except FileNotFoundError as error:
            raise DamagedPayload(f"{self._where}: {name} is missing from its payload") from error
        except OSError as error:  # ReadFailed of `objects` among them
            raise ReadFailed(f"{self._where}: {name} cannot be read: {error}") from error
        except (KeyError, ValueError, RuntimeError) as error:
            raise DamagedPayload(f"{self._where}: {name} is not what was written: {error}") from error
