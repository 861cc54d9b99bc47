"""The arrays in files of other origin, described by their headers; and the lengths of the videos in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cache.arrays import LazyArray, npy_array, npz_arrays
from cache.errors import InvalidImport
from cache.layouts import Reading, read_layout
from cache.plain import CLIP_AXIS, PlainLayout

if TYPE_CHECKING:
    import h5py

__all__ = ["ClipCounts", "NpyFiles", "arrays_of_hdf5", "clip_counts", "features_in", "npy_files"]


@dataclass(frozen=True)
class NpyFiles:
    """What .npy and .npz files hold.

    Attributes:
        arrays: of other origin.
        exported: .npy files that this library exported, each with the .json file of its record.
        notes: sentences on arrays that are no features.
    """

    arrays: tuple[LazyArray, ...]
    exported: tuple[tuple[Path, Path], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ClipCounts:
    """The lengths of videos in clips.

    Attributes:
        clips: by video id.
        notes: sentences on how the files were understood.
    """

    clips: dict[str, int]
    notes: tuple[str, ...]


def npy_files(source: Path) -> NpyFiles:
    """All .npy and .npz files below a folder, or one such file.

    A .npz file in a folder holds one video; a .npz file that is itself `source` holds an array for every video.

    Raises:
        InvalidImport: a file is no array, or a .npz file holds no features, or those of several videos.
    """
    notes: list[str] = []
    arrays: list[LazyArray] = []
    exported: list[tuple[Path, Path]] = []
    if source.suffix == ".npz" and source.is_file():
        arrays = features_in(npz_arrays(source), source, notes)
    for path in [source] if source.suffix == ".npy" else sorted(p for p in source.rglob("*.np[yz]") if p.is_file()):
        facts = path.with_suffix(".json")
        if path.suffix == ".npz":
            arrays.append(_only(path, notes))
        elif facts.exists():
            exported.append((path, facts))
        else:
            arrays.append(npy_array(path))
    return NpyFiles(tuple(arrays), tuple(exported), tuple(notes))


def arrays_of_hdf5(found: Sequence[tuple[str, h5py.Dataset]], path: Path, notes: list[str]) -> list[LazyArray]:
    """The datasets of a file that can be features, each with its name. Raises InvalidImport where none is."""
    arrays = [LazyArray(name, path, item.shape or (), item.dtype, partial(_itself, item)) for name, item in found]
    return features_in(arrays, path, notes)


def features_in(arrays: Sequence[LazyArray], where: Path, notes: list[str]) -> list[LazyArray]:
    """The arrays of a file that can be features. Raises InvalidImport where none is."""
    kept = [array for array in arrays if array.dtype.kind == "f" and len(array.shape) > 1]
    aside = [f"{array.name} ({array.dtype}, {array.shape})" for array in arrays if array not in kept]
    if not kept:
        raise InvalidImport(f"{where}: expected arrays of features, found {', '.join(aside) or 'none'}")
    if aside:
        notes.append(f"{where.name}: no features, left aside: {', '.join(aside)}")
    return kept


def clip_counts(source: Path, layout: PlainLayout) -> ClipCounts:
    """How many clips each video has in files of other origin. No values are read.

    Args:
        source: a folder of .npy or .npz files, one such file, or an HDF5 file.
        layout: what the arrays hold.

    Raises:
        InvalidImport: there are no arrays of other origin, or they cannot be understood.
    """
    if not (source.is_dir() or source.suffix in (".npy", ".npz")):
        from cache.hdf5 import datasets, opened

        notes: list[str] = []
        with opened(source) as file:
            arrays = arrays_of_hdf5(list(datasets(file, source)), source, notes)
            return _counted(read_layout(arrays, source, layout), notes)
    files = npy_files(source)
    if not files.arrays:
        aside = f"those of {len(files.exported)} videos are of `gig cache export`, and say themselves how long they are"
        raise InvalidImport(
            f"{source}: expected arrays of features of another program, found none"
            + (f"; {aside}: import them" if files.exported else "")
        )
    return _counted(read_layout(files.arrays, source, layout), files.notes)


def _counted(reading: Reading, notes: Sequence[str]) -> ClipCounts:
    axis = CLIP_AXIS[reading.axes]
    return ClipCounts({video.video_id: video.shape[axis] for video in reading.videos}, (*notes, *reading.notes))


def _only(path: Path, notes: list[str]) -> LazyArray:
    """The features of a .npz file that holds one video, under the name of the file."""
    arrays = features_in(npz_arrays(path), path, notes)
    if len(arrays) > 1:
        raise InvalidImport(
            f"{path}: expected the features of one video, got the arrays {', '.join(a.name for a in arrays)}"
        )
    return LazyArray(path.stem, path, arrays[0].shape, arrays[0].dtype, arrays[0].load)


def _itself(item: h5py.Dataset) -> h5py.Dataset:
    return item
