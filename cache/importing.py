"""Import of features from files: what this library exported, bit for bit, and arrays of other origin.

An interrupted import can be continued: videos that are there already, from the same files, are not imported again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.arrays import LazyArray, npy_array
from cache.errors import CacheError, DamagedPayload, InvalidImport
from cache.layouts import read_layout
from cache.plain import Incoming, PlainLayout, from_plain, provenance_of
from cache.plain_files import arrays_of_hdf5, npy_files
from cache.progress import Progress
from cache.record import CommitRecord
from cache.store import FeatureStore
from cache.writer import extend_crc32c

if TYPE_CHECKING:
    import h5py

__all__ = ["ImportReport", "import_features", "import_hdf5", "import_npy"]

CLIPS_AT_ONCE = 64


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        imported: ids of the videos that were written.
        present: ids of those that were there already, unchanged.
        notes: sentences on how the files were understood where nothing said so, and on arrays that are no features.
    """

    imported: tuple[str, ...]
    present: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def video_ids(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.imported, *self.present)


@dataclass(frozen=True)
class _Candidate:
    """A video that can be imported.

    Attributes:
        video_id: its id.
        is_current: whether a record is that of this video, from the same file, read in the same way.
        load: reads it.
    """

    video_id: str
    is_current: Callable[[CommitRecord], bool]
    load: Callable[[], Incoming]


def import_features(
    store: FeatureStore,
    namespace: str,
    source: Path,
    layout: PlainLayout | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import features into a namespace: from a folder of .npy or .npz files, one .npy or .npz file, or an HDF5 file.

    Args:
        store: the cache that they are written to.
        namespace: where in the cache.
        source: what `export_npy` or `export_hdf5` wrote, or plain arrays.
        layout: what plain arrays hold.
        progress: called as progress(done, total, video id).

    Raises:
        InvalidImport: the files hold no features, plain arrays can be understood in more than one way, or they come
            without a layout. Nothing has been written then, unless it is a video whose values cannot be read: it is
            found when its turn comes.
        DamagedPayload: exported values are not those that were exported.
    """
    if source.is_dir() or source.suffix in (".npy", ".npz"):
        return import_npy(store, namespace, source, layout, progress)
    return import_hdf5(store, namespace, source, layout, progress)


def import_hdf5(
    store: FeatureStore, namespace: str, path: Path, layout: PlainLayout | None = None, progress: Progress | None = None
) -> ImportReport:
    """Import an HDF5 file; arguments, result and errors are those of `import_features`."""
    from cache.hdf5 import datasets, opened

    with opened(path) as file:
        found = list(datasets(file, path))  # before anything in it is opened: a link may lead anywhere
        exported = [item for item in file.values() if "record" in item.attrs]
        candidates = [_of_group(item, path) for item in exported]
        notes: list[str] = []
        if not exported:
            candidates, notes = _plain(arrays_of_hdf5(found, path, notes), path, layout, notes)
        return _import(store, namespace, candidates, path, notes, progress)


def import_npy(
    store: FeatureStore,
    namespace: str,
    source: Path,
    layout: PlainLayout | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import all .npy and .npz files below a folder, or one such file.

    A .npz file in a folder holds one video; a .npz file that is itself `source` holds an array for every video.
    Arguments, result and errors are those of `import_features`.
    """
    source = Path(source)
    files = npy_files(source)
    candidates, notes = [_of_npy(path, facts) for path, facts in files.exported], list(files.notes)
    if files.arrays:
        plain, notes = _plain(files.arrays, source, layout, notes)
        candidates += plain
    return _import(store, namespace, candidates, source, notes, progress)


def _import(
    store: FeatureStore,
    namespace: str,
    videos: Sequence[_Candidate],
    where: Path,
    notes: list[str],
    progress: Progress | None,
) -> ImportReport:
    if not videos:
        raise InvalidImport(f"{where}: expected arrays of features, found none")
    committed = store.video_ids(namespace)
    imported, present = [], []
    for number, video in enumerate(videos):
        if progress:
            progress(number, len(videos), video.video_id)
        if video.video_id in committed and _is_current(store, namespace, video):
            present.append(video.video_id)
        else:
            _write(store, namespace, video.load(), where)
            imported.append(video.video_id)
    return ImportReport(tuple(imported), tuple(present), tuple(notes))


def _is_current(store: FeatureStore, namespace: str, video: _Candidate) -> bool:
    try:
        return video.is_current(store.record(namespace, video.video_id))
    except CacheError:  # a record that cannot be read is replaced
        return False


def _write(store: FeatureStore, namespace: str, video: Incoming, where: Path) -> None:
    views, clips, rows, columns, channels = video.features.shape
    crcs = [0] * views
    with store.writer(
        namespace,
        video.video_id,
        views=views,
        rows=rows,
        columns=columns,
        channels=channels,
        frames_per_clip=video.frames.shape[2],
        dtype=video.dtype,
    ) as writer:
        for view in range(views):
            for start in range(0, clips, CLIPS_AT_ONCE):
                maps = np.asarray(video.features[view, start : start + CLIPS_AT_ONCE])
                crcs[view] = extend_crc32c(crcs[view], maps)
                writer.append(view, maps, video.frames[view, start : start + CLIPS_AT_ONCE])
        if video.features_crc32c and video.features_crc32c != tuple(f"{crc:08x}" for crc in crcs):
            raise DamagedPayload(
                f"{where}: features of {video.video_id} are not those that were exported (CRC-32C differs)"
            )
        writer.set_times(video.times)
        writer.commit(video.provenance)


def _plain(
    arrays: Sequence[LazyArray], where: Path, layout: PlainLayout | None, notes: list[str]
) -> tuple[list[_Candidate], list[str]]:
    """The videos of plain arrays, and notes on how they were understood."""
    if layout is None:
        raise InvalidImport(
            f"{where}: arrays without a record, such as {arrays[0].name}: say what their rows stand for (a layout)"
        )
    reading = read_layout(arrays, where, layout)
    candidates = []
    for video in reading.videos:
        provenance = json.loads(json.dumps(provenance_of(video, reading.axes, layout)))
        candidates.append(
            _Candidate(
                video.video_id, partial(_has_provenance, provenance), partial(from_plain, video, reading.axes, layout)
            )
        )
    return candidates, [*notes, *reading.notes]


def _has_provenance(provenance: Mapping[str, Any], record: CommitRecord) -> bool:
    return record.provenance == provenance


def _of_group(group: h5py.Group, path: Path) -> _Candidate:
    record = CommitRecord.from_json(group.attrs["record"], f"{path}:{group.name}")

    def load() -> Incoming:
        try:
            return _exported(record, group["features"], group["frames"][()], group["times"][()], path)
        except (KeyError, OSError) as error:
            raise InvalidImport(f"{path}: {record.video_id}: cannot be read: {error}") from error

    return _Candidate(record.video_id, partial(_same_values, record), load)


def _of_npy(path: Path, facts_path: Path) -> _Candidate:
    try:
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
        record = CommitRecord.from_json(facts["record"], str(facts_path))
    except (KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, CacheError):
            raise
        raise InvalidImport(f"{facts_path}: not what `export` writes ({error})") from error

    def load() -> Incoming:
        try:
            frames = np.array(facts["frames"], dtype=np.int64).reshape(record.shapes["frames"])
            times = np.array(facts["times"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidImport(f"{facts_path}: not what `export` writes ({error})") from error
        return _exported(record, npy_array(path).load(), frames, times, path)

    return _Candidate(record.video_id, partial(_same_values, record), load)


def _same_values(exported: CommitRecord, record: CommitRecord) -> bool:
    """Whether a record is that of exported features: their values, and all that was known of them."""
    known = {key: value for key, value in record.provenance.items() if key != "imported"}
    expected = {key: value for key, value in exported.provenance.items() if key != "imported"}
    return (record.shapes, record.values_crc32c, known) == (exported.shapes, exported.values_crc32c, expected)


def _exported(record: CommitRecord, features: Any, frames: np.ndarray, times: np.ndarray, path: Path) -> Incoming:
    for name, values in (("features", features), ("frames", frames), ("times", times)):
        if tuple(values.shape) != record.shapes[name]:
            raise InvalidImport(
                f"{path}: {name} of {record.video_id}: expected {record.shapes[name]}, got {tuple(values.shape)}"
            )
    provenance = {**record.provenance, "imported": {"file": path.name, "namespace": record.namespace}}
    return Incoming(
        record.video_id, features, frames, times, record.dtype, provenance, record.values_crc32c["features"]
    )
