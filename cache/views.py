"""Lazy arrays of the cache: described at once, read when they are computed, in the chunks that are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
from dask.tokenize import tokenize

from cache.catalog import Catalog
from cache.errors import MissingExtra, NotCached, ShapeMismatch
from cache.reader import FeatureReader
from cache.record import CommitRecord
from cache.writer import AXES

if TYPE_CHECKING:
    import xarray as xr


__all__ = ["stack", "to_xarray"]

MANY_CHUNKS = 10_000  # of a video: 320,000 clips
DTYPES = {"cue": np.dtype(np.float32), "frames": np.dtype(np.int64)}


def _load(
    source: tuple[Catalog, tuple[CommitRecord, ...], str], block_info: dict[None, dict[str, list[tuple[int, int]]]]
) -> np.ndarray:
    """One block of a stack: a chunk of features, or another array, of one video."""
    catalog, records, array = source
    (video, _), *within = block_info[None]["array-location"]
    reader = FeatureReader(catalog, records[video])
    return reader.read(array, tuple(slice(*bounds) for bounds in within))[None]


def stack(catalog: Catalog, namespace: str, video_ids: Sequence[str], array: str = "features") -> da.Array:
    """One array of many videos along a new first axis; see `FeatureStore.stack`."""
    if array not in ("features", "cue", "frames"):
        raise ShapeMismatch(f"{namespace}: expected features, cue or frames, got {array!r}")
    if not video_ids:
        raise NotCached(f"{namespace}: expected at least one video to stack")
    records = [catalog.record(namespace, video_id) for video_id in video_ids]
    first = records[0]
    for record in records:
        if record.shapes["features"][1] // record.chunk_clips > MANY_CHUNKS:  # each becomes a task
            FeatureReader(catalog, record).check_stored()
        dtypes = {record.dtype, first.dtype} if array == "features" else ()
        if record.shapes[array] != first.shapes[array] or len(dtypes) > 1:
            raise ShapeMismatch(
                f"{namespace}: {array} of {record.video_id}: expected {first.shapes[array]} {first.dtype} "
                f"as of {first.video_id}, got {record.shapes[array]} {record.dtype}"
            )
    shape = (len(records), *first.shapes[array])
    chunk = (1, 1, first.chunk_clips, *shape[3:]) if array == "features" else (1, *shape[1:])
    dtype = DTYPES.get(array, np.dtype(first.dtype))
    stacked: da.Array = da.map_blocks(
        _load,
        (catalog, tuple(records), array),
        name=f"{array}-{tokenize(catalog.url, namespace, [record.payload for record in records])}",
        chunks=da.core.normalize_chunks(chunk, shape),
        dtype=dtype,
        meta=np.empty((0,) * len(shape), dtype),
    )
    return stacked


def to_xarray(catalog: Catalog, namespace: str, video_id: str) -> xr.Dataset:
    """A video as a dataset; see `FeatureStore.to_xarray`.

    Returns:
        Variables features (view, clip, row, column, channel), lazy; cue (view, channel); frames (view, clip, position),
        with coordinates first_frame and last_frame (view, clip), the lowest and highest frame index of a clip; start_s
        and end_s, their presentation times in seconds; and the indices of view and clip. Its attributes are those of
        the commit record.
    """
    try:
        import xarray as xr
    except ImportError as error:
        raise MissingExtra("to_xarray needs xarray: pip install 'gig-vad[xarray]'") from error
    reader = FeatureReader(catalog, catalog.record(namespace, video_id))
    frames, times, record = reader.frames(), reader.times(), reader.record
    first, last = frames.min(axis=2), frames.max(axis=2)
    clip = AXES["features"][:2]
    coordinates = {
        "view": np.arange(reader.shape[0]),
        "clip": np.arange(reader.shape[1]),
        "first_frame": (clip, first),
        "last_frame": (clip, last),
    }
    if len(times):
        coordinates |= {"start_s": (clip, times[first]), "end_s": (clip, times[last])}
    return xr.Dataset(
        {
            "features": (AXES["features"], stack(catalog, namespace, [video_id])[0]),
            "cue": (AXES["cue"], reader.cue()),
            "frames": (AXES["frames"], frames),
        },
        coords=coordinates,
        attrs={
            "video_id": video_id,
            "namespace": namespace,
            "created": record.created,
            "provenance": dict(record.provenance),
        },
    )
