"""Arrays of scores in .npy, .npz and .mat files, and what their axes mean."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cache.arrays import LazyArray, npy_array, npz_arrays
from cache.errors import CacheError
from pipeline.errors import PipelineError
from pipeline.stages.scoring.score_form import ScoreForm

__all__ = ["ARRAYS", "Scores", "arrays_in", "one_array", "shape_scores"]

ARRAYS = (".npy", ".npz", ".mat")
SHAPES = "(n,), (n, 1), (1, n), (n, {classes}) with one column per class, or with --crops mean (n, crops) or (crops, n)"
DAMAGED = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, MemoryError, zlib.error)

Scores = tuple[np.ndarray, np.ndarray | None]
"""How anomalous, (n,) float64, and class scores (n, C) where there are any."""


def arrays_in(path: Path) -> list[LazyArray]:
    """The arrays of numbers in a .npy, .npz or .mat file. Raises PipelineError when it cannot be read."""
    try:
        if path.suffix == ".mat":
            return _mat_arrays(path)
        return [npy_array(path)] if path.suffix == ".npy" else [a for a in npz_arrays(path) if a.dtype.kind in "fiub"]
    except (*DAMAGED, CacheError) as error:
        raise PipelineError(f"{path.stem}: {path} cannot be read ({error})") from error


def one_array(path: Path, form: ScoreForm, what: str) -> LazyArray:
    """The only array of a file, or the one that `form` names.

    Args:
        path: the file.
        form: may name the array.
        what: the array is of, for messages.

    Raises:
        PipelineError: the file cannot be read, or has none or several such arrays.
    """
    arrays = arrays_in(path)
    wanted = arrays if path.suffix == ".npy" else [array for array in arrays if form.array in (None, array.name)]
    if len(wanted) != 1:
        names = ", ".join(array.name for array in arrays) or "none"
        raise PipelineError(f"{what}: {path}: expected one array of scores, got {names}: name it (--array)")
    return wanted[0]


def shape_scores(
    video_id: str, path: Path, array: np.ndarray, classes: Sequence[str], frames: int | None, form: ScoreForm
) -> Scores:
    """General and class scores of an array.

    Args:
        video_id: for messages.
        path: for messages.
        array: the scores.
        classes: C anomaly classes.
        frames: of the video; None where the array is of several videos.
        form: how the array is to be read.

    Raises:
        PipelineError: the shape is none of those that are read, or could be two of them.
    """
    try:
        values = np.asarray(array).astype(np.float64)
    except (ValueError, TypeError) as error:
        raise PipelineError(f"{video_id}: {path}: expected numbers, got {np.asarray(array).dtype}") from error
    counts = form.counts(frames) if frames is not None else ()
    if values.ndim == 2 and form.crops:
        ways = [axis for axis in (0, 1) if values.shape[axis] in counts] if counts else [0]
        if len(ways) == 1:
            return values.mean(axis=1 - ways[0]), None
    elif values.ndim == 2 and values.shape[0] == 1 and (values.shape[1] != len(classes) or values.shape[1] in counts):
        return values[0], None
    elif values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0], None
    elif values.ndim == 2 and values.shape[1] == len(classes):
        return values.max(axis=1), values
    elif values.ndim == 1:
        return values, None
    expected = SHAPES.format(classes=len(classes))
    if counts:
        expected += f", n of {' or '.join(map(str, sorted(set(counts))))}"
    raise PipelineError(f"{video_id}: {path}: expected shape {expected}, got {values.shape}")


def _mat_arrays(path: Path) -> list[LazyArray]:
    import h5py

    if h5py.is_hdf5(path):  # MATLAB 7.3, with the axes in reverse
        from cache.hdf5 import datasets, opened

        with opened(path) as file:
            values = {name: np.asarray(item).T for name, item in datasets(file, path) if not name.startswith("#")}
    else:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        try:
            values = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
        except MatReadError as error:
            raise ValueError(str(error)) from error
    return [
        _in_memory(name, path, value)
        for name, value in values.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    ]


def _in_memory(name: str, path: Path, values: np.ndarray) -> LazyArray:
    return LazyArray(name, path, values.shape, values.dtype, lambda: values)
