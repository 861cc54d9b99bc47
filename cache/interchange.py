"""HDF5 and .npy, in and out.

What this library exports carries the commit record and comes back bit for bit. Arrays of other origin, such as the published
I3D features, carry none: they become maps with H = W = 1, and a `PlainLayout` says what their rows stand for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.errors import CacheError, DamagedPayload, InvalidImport, WriteFailed
from cache.names import escape
from cache.plain import Incoming, PlainLayout, from_plain
from cache.record import CommitRecord
from cache.writer import extend_crc32c

if TYPE_CHECKING:
    import h5py

    from cache.store import FeatureStore

__all__ = ["export_hdf5", "export_npy", "import_hdf5", "import_npy"]

CLIPS_AT_ONCE = 64
Progress = Callable[[int, int, str], None]


def export_hdf5(store: FeatureStore, namespace: str, path: Path, progress: Progress | None = None) -> list[str]:
    """Write a namespace to one HDF5 file; returns the video ids.

    One group a video, named by its key, with datasets features, cue, frames and times and the commit record as attribute
    `record`. The file appears when it is complete.
    """
    import h5py

    ids = sorted(store.list(namespace))
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
    """Write a namespace to a folder: <key>.npy, features (V, T, H, W, D), and <key>.json, record, frames and times."""
    ids = sorted(store.list(namespace))
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
            facts = {"record": reader.record.to_json(), "frames": reader.frames().tolist(), "times": reader.times().tolist()}
            partial.write_text(json.dumps(facts), encoding="utf-8")
    return ids


def import_hdf5(
    store: FeatureStore, namespace: str, path: Path, layout: PlainLayout | None = None, progress: Progress | None = None
) -> list[str]:
    """Bring an HDF5 file into a namespace: one that `export_hdf5` wrote, or one of plain datasets, one a video.

    Returns:
        The video ids: as they were exported, or the names of the datasets without the layout's suffix.

    Raises:
        InvalidImport: the file holds something else, or plain arrays and there is no layout.
        DamagedPayload: exported values are not those that were exported.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InvalidImport(f"{path}: not a readable HDF5 file ({error})") from error
    with file:
        plain: list[tuple[str, h5py.Dataset]] = []
        exported = [item for item in file.values() if isinstance(item, h5py.Group) and "record" in item.attrs]
        if not exported:
            file.visititems(lambda name, item: plain.append((name, item)) if isinstance(item, h5py.Dataset) else None)
        videos = [lambda item=item: _from_group(item, path) for item in exported]
        videos += [lambda args=args: from_plain(*args, path, layout) for args in _by_id(plain, path, layout)]
        return _import(store, namespace, videos, path, progress)


def import_npy(
    store: FeatureStore, namespace: str, folder: Path, layout: PlainLayout | None = None, progress: Progress | None = None
) -> list[str]:
    """Bring the .npy files below a folder into a namespace: those that `export_npy` wrote, or plain arrays, one a video.

    Returns and raises as `import_hdf5` does.
    """
    plain, videos = [], []
    for path in sorted(Path(folder).rglob("*.npy")):
        facts = path.with_suffix(".json")
        if facts.exists():
            videos.append(lambda path=path, facts=facts: _from_npy(path, facts))
        else:
            plain.append((path.stem, path))
    videos += [lambda args=args: from_plain(args[0], _load(args[1]), args[1], layout) for args in _by_id(plain, folder, layout)]
    return _import(store, namespace, videos, folder, progress)


def _import(
    store: FeatureStore, namespace: str, videos: Sequence[Callable[[], Incoming]], where: Path, progress: Progress | None
) -> list[str]:
    if not videos:
        raise InvalidImport(f"{where}: expected arrays of features, found none")
    ids = []
    for number, load in enumerate(videos):
        video = load()
        if progress:
            progress(number, len(videos), video.video_id)
        _write(store, namespace, video, where)
        ids.append(video.video_id)
    return ids


def _write(store: FeatureStore, namespace: str, video: Incoming, where: Path) -> None:
    views, clips, rows, columns, channels = video.features.shape
    shape = {"views": views, "rows": rows, "columns": columns, "channels": channels, "frames_per_clip": video.frames.shape[2]}
    crcs = [0] * views
    with store.writer(namespace, video.video_id, **shape, dtype=video.dtype) as writer:
        for view in range(views):
            for start in range(0, clips, CLIPS_AT_ONCE):
                maps = np.asarray(video.features[view, start : start + CLIPS_AT_ONCE])
                crcs[view] = extend_crc32c(crcs[view], maps)
                writer.append(view, maps, video.frames[view, start : start + CLIPS_AT_ONCE])
        if video.features_crc32c and video.features_crc32c != tuple(f"{crc:08x}" for crc in crcs):
            raise DamagedPayload(f"{where}: features of {video.video_id} are not those that were exported (CRC-32C differs)")
        writer.set_times(video.times)
        writer.commit(video.provenance)


def _from_group(group: h5py.Group, path: Path) -> Incoming:
    record = CommitRecord.from_json(group.attrs["record"], f"{path}:{group.name}")
    try:
        return _exported(record, group["features"], group["frames"][()], group["times"][()], path)
    except (KeyError, OSError) as error:
        raise InvalidImport(f"{path}: {record.video_id}: cannot be read: {error}") from error


def _from_npy(path: Path, facts_path: Path) -> Incoming:
    try:
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
        record = CommitRecord.from_json(facts["record"], str(facts_path))
        frames = np.array(facts["frames"], dtype=np.int64).reshape(record.shapes["frames"])
        return _exported(record, _load(path), frames, np.array(facts["times"], dtype=np.float64), path)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InvalidImport(f"{facts_path}: not what `export` writes ({error})") from error


def _exported(record: CommitRecord, features: Any, frames: np.ndarray, times: np.ndarray, path: Path) -> Incoming:
    for name, values in (("features", features), ("frames", frames), ("times", times)):
        if tuple(values.shape) != record.shapes[name]:
            raise InvalidImport(f"{path}: {name} of {record.video_id}: expected {record.shapes[name]}, got {tuple(values.shape)}")
    provenance = {**record.provenance, "imported": {"file": path.name, "namespace": record.namespace}}
    return Incoming(record.video_id, features, frames, times, record.dtype, provenance, record.values_crc32c["features"])


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InvalidImport(f"{path}: not a readable array ({error})") from error


def _by_id(items: list[tuple[str, Any]], where: Path, layout: PlainLayout | None) -> Iterator[tuple[str, Any]]:
    """(video id, what was named so) of plain arrays."""
    if items and layout is None:
        raise InvalidImport(f"{where}: arrays without a record, such as {items[0][0]}: say what their rows stand for (a layout)")
    seen: dict[str, str] = {}
    for name, item in items:
        if not name.endswith(layout.suffix):
            raise InvalidImport(f"{where}: {name}: expected names that end in {layout.suffix!r}")
        video_id = name.removesuffix(layout.suffix)
        if video_id in seen:
            raise InvalidImport(f"{where}: two arrays are named {video_id}")
        seen[video_id] = name
        yield video_id, item


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which gets its name when the block ends well. Raises WriteFailed."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except CacheError:  # of what was to be exported
        raise
    except OSError as error:
        raise WriteFailed(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
