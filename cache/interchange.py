"""Export to HDF5 and .npy, and import from them.

What this library exports contains the commit record and can be imported again bit for bit. Arrays of other origin, such
as the published I3D features, have no record: they become maps with H = W = 1, and a `PlainLayout` says what their rows
stand for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from cache.errors import CacheError, WriteFailed
from cache.importing import ImportReport, import_features, import_hdf5, import_npy
from cache.names import escape
from cache.progress import Progress
from cache.store import FeatureStore

__all__ = ["ImportReport", "export_hdf5", "export_npy", "import_features", "import_hdf5", "import_npy"]


def export_hdf5(store: FeatureStore, namespace: str, path: Path, progress: Progress | None = None) -> list[str]:
    """Write a namespace to one HDF5 file; returns the video ids.

    The file has one group per video, named by its key, with the datasets features, cue, frames and times and the commit
    record as attribute `record`. It appears when it is complete. Raises WriteFailed, and what reading a video raises.
    """
    import h5py

    ids = sorted(store.video_ids(namespace))
    with _whole(path) as partial, h5py.File(partial, "w") as file:
        for number, video_id in enumerate(ids):
            if progress:
                progress(number, len(ids), video_id)
            reader = store.reader(namespace, video_id)
            group = file.create_group(escape(video_id))
            group.attrs["video_id"] = video_id
            group.attrs["record"] = reader.record.to_json()
            features = group.create_dataset(
                "features", reader.shape, reader.record.dtype, chunks=(1, reader.record.chunk_clips, *reader.shape[2:])
            )
            for view in range(reader.shape[0]):
                for start, maps in reader.iter_clips(view):
                    features[view, start : start + len(maps)] = maps
            for name, values in (("cue", reader.cue()), ("frames", reader.frames()), ("times", reader.times())):
                group[name] = values
    return ids


def export_npy(store: FeatureStore, namespace: str, folder: Path, progress: Progress | None = None) -> list[str]:
    """Write a namespace to a folder; returns the video ids.

    Each video becomes <key>.npy with the features (V, T, H, W, D) and <key>.json with record, frames and times. Raises
    WriteFailed, and what reading a video raises.
    """
    ids = sorted(store.video_ids(namespace))
    for number, video_id in enumerate(ids):
        if progress:
            progress(number, len(ids), video_id)
        reader = store.reader(namespace, video_id)
        base = folder / escape(video_id)
        with _whole(base.with_name(f"{base.name}.npy")) as partial:
            features = np.lib.format.open_memmap(partial, "w+", reader.record.dtype, reader.shape)
            for view in range(reader.shape[0]):
                for start, maps in reader.iter_clips(view):
                    features[view, start : start + len(maps)] = maps
            features.flush()
            del features
        with _whole(base.with_name(f"{base.name}.json")) as partial:
            facts = {
                "record": reader.record.to_json(),
                "frames": reader.frames().tolist(),
                "times": reader.times().tolist(),
            }
            partial.write_text(json.dumps(facts), encoding="utf-8")
    return ids


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it is renamed to `path` if the block ends without error. Raises WriteFailed."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except CacheError:  # from reading the features
        raise
    except OSError as error:
        raise WriteFailed(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
