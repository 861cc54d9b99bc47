"""Score files of other systems: a file a video, or one file of all, in the forms in which they are written.

A folder holds a file a video, named by its id (or the id as the cache escapes it) and a suffix: Parquet or CSV with the
column `score`, columns named like the classes, or both; or .npy, .npz, .mat with an array of scores. A single file is
an array of all videos' scores one after the other, with a list of their order; a .npz or .mat file with an array for
every video; or a Parquet or CSV table with a column video_id.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from cache.arrays import LazyArray, npy_array, npz_arrays
from cache.errors import CacheError, InvalidName
from cache.names import escape, unescape
from pipeline.data.order import read_order
from pipeline.data.tables import read_cell
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.stages.scoring.score_form import ScoreForm

__all__ = [
    "FORMS",
    "TABLES",
    "FoundScores",
    "check_same_videos",
    "columns_of",
    "open_table",
    "read_score_file",
    "read_score_files",
    "rows_by_video",
    "score_paths",
    "table_scores",
]

TABLES, ARRAYS = (".parquet", ".csv"), (".npy", ".npz", ".mat")
FORMS = (
    "a folder with a file a video, .parquet, .csv, .npy, .npz or .mat, named by its id and --suffix; one .npy, .npz or .mat file "
    "of all scores one after the other with --order; one .npz or .mat file with an array a video; or one .parquet or .csv file "
    "with a column video_id"
)
SHAPES = "(n,), (n, 1), (1, n), (n, {classes}) with a column a class, or with --crops mean (n, crops) or (crops, n)"
DAMAGED = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, MemoryError, zlib.error)

Scores = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class FoundScores:
    """Scores as they were found.

    Attributes:
        scores: video id -> how anomalous, (n,) float64, and class scores (n, C) where there are any.
        notes: what was not read, a sentence each.
    """

    scores: dict[str, Scores]
    notes: tuple[str, ...] = ()


def read_score_files(source: Path, classes: Sequence[str], frames: Mapping[str, int], form: ScoreForm) -> FoundScores:
    """The scores of all wanted videos.

    Args:
        source: a folder or a file.
        classes: C anomaly classes.
        frames: video id -> number of frames of all wanted videos.
        form: how the files are to be read.

    Raises:
        PipelineError: scores are missing, surplus, or in no form that is read; the message names the video or the file.
        LengthMismatch: scores of all videos one after the other are more or fewer than the videos need.
    """
    if source.is_dir():
        return _folder(source, classes, frames, form)
    if not source.is_file():
        raise PipelineError(f"{source}: no such folder or file of scores")
    if source.suffix in TABLES:
        return FoundScores(_long_table(source, classes, frames))
    if source.suffix not in ARRAYS:
        raise PipelineError(f"{source}: expected {FORMS}")
    if form.order:
        return FoundScores(_concatenated(source, classes, frames, form))
    if source.suffix == ".npy":
        raise PipelineError(f"{source}: one array of all videos needs their order (--order); else expected {FORMS}")
    arrays = {
        array.name.removesuffix(form.suffix): array for array in _arrays(source) if array.name.endswith(form.suffix)
    }
    by_id = {
        video_id: arrays.pop(name) for video_id in frames for name in (video_id, escape(video_id)) if name in arrays
    }
    problems = [f"{video_id}: no array of scores" for video_id in sorted(set(frames) - set(by_id))]
    problems += [f"{name}: an array of a video that is not in the test split" for name in arrays]
    _raise(source, problems)
    return FoundScores(
        {v: shape_scores(v, source, array.load(), classes, frames[v], form) for v, array in by_id.items()}
    )


def shape_scores(
    video_id: str, path: Path, array: np.ndarray, classes: Sequence[str], frames: int | None, form: ScoreForm
) -> Scores:
    """General and class scores of an array. Raises PipelineError for a shape that is none of those read, or two of
    them.

    `frames` are those of the video; None where the array is of several.
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
    expected = SHAPES.format(classes=len(classes)) + (
        f", n of {' or '.join(map(str, sorted(set(counts))))}" if counts else ""
    )
    raise PipelineError(f"{video_id}: {path}: expected shape {expected}, got {values.shape}")


def _folder(folder: Path, classes: Sequence[str], frames: Mapping[str, int], form: ScoreForm) -> FoundScores:
    found, notes = score_paths(folder, frames, form)
    scores = {
        video_id: read_score_file(video_id, path, classes, frames[video_id], form) for video_id, path in found.items()
    }
    return FoundScores(scores, notes)


def score_paths(
    folder: Path, video_ids: Collection[str] | None, form: ScoreForm
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The file of every wanted video in a folder, by sorted id, and notes of what was not read.

    Without `video_ids` every file is that of a video, which has its name.

    Raises PipelineError where videos have no file or several, or files no video.
    """
    if form.order:
        raise PipelineError(f"{folder}: an order is for one file of all scores, and this is a folder")
    visible = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    present = {
        path.name: path for path in visible if path.suffix in (*TABLES, *ARRAYS) and path.stem.endswith(form.suffix)
    }
    unread = [path.name for path in visible if path.name not in present]
    if video_ids is None:
        video_ids = {_video_id(path.stem.removesuffix(form.suffix)) for path in present.values()}
    found, problems = {}, []
    for video_id in sorted(video_ids):
        stems = dict.fromkeys((f"{video_id}{form.suffix}", f"{escape(video_id)}{form.suffix}"))
        paths = [
            present.pop(f"{stem}{end}") for end in (*TABLES, *ARRAYS) for stem in stems if f"{stem}{end}" in present
        ]
        if len(paths) == 1:
            found[video_id] = paths[0]
        else:
            several = ", ".join(path.name for path in paths)
            problems.append(f"{video_id}: several score tables: {several}" if paths else f"{video_id}: no score table")
    problems += [f"{name}: a score table of a video that is not in the test split" for name in present]
    if problems and unread:
        problems.append(f"not read: {_some(unread)}; expected {FORMS}")
    _raise(folder, problems)
    return found, (f"{folder.name}: not read: {_some(unread)}",) if unread else ()


def _video_id(stem: str) -> str:
    """The id of which a stem is the key, or else the stem."""
    try:
        return unescape(stem)
    except InvalidName:
        return stem


def read_score_file(video_id: str, path: Path, classes: Sequence[str], frames: int | None, form: ScoreForm) -> Scores:
    """General scores (n,) and class scores (n, C) of a file of one video, the latter where it has them.

    `frames` are those of the video; None where they are not known.
    """
    if path.suffix in TABLES:
        return table_scores(video_id, path, open_table(video_id, path), classes)
    array = _one(path, form, video_id)
    return shape_scores(video_id, path, array.load(), classes, frames, form)


def table_scores(video_id: str, path: Path, table: pa.Table, classes: Sequence[str]) -> Scores:
    """As `read_score_file`, from the rows of a video in a table that was read from `path`."""
    if "frame" in table.column_names and table["frame"].to_pylist() != list(range(table.num_rows)):
        raise PipelineError(f"{video_id}: the frames of {path} are not 0, 1, 2 and so on")
    held = [label for label in classes if label in table.column_names]
    if held and len(held) < len(classes):
        raise PipelineError(f"{video_id}: {path} has no column {', '.join(sorted(set(classes) - set(held)))}")
    several = columns_of(video_id, path, table, classes) if held else None
    if "score" in table.column_names:
        return columns_of(video_id, path, table, ["score"])[:, 0], several
    if several is None:
        names = ", ".join(table.column_names)
        raise PipelineError(f"{video_id}: {path}: expected a column score, or a column a class, got {names}")
    return several.max(axis=1), several


def _long_table(path: Path, classes: Sequence[str], frames: Mapping[str, int]) -> dict[str, Scores]:
    """The scores of a table of all videos."""
    table, rows = rows_by_video(path)
    check_same_videos(path, rows, frames)
    return {video_id: table_scores(video_id, path, table.take(rows[video_id]), classes) for video_id in frames}


def rows_by_video(path: Path) -> tuple[pa.Table, dict[str, list[int]]]:
    """A table of all videos, and the numbers of each video's rows. Raises PipelineError where it names no videos."""
    table = open_table(path.name, path)
    name = next((name for name in ("video_id", "video") if name in table.column_names), None)
    if name is None:
        raise PipelineError(
            f"{path}: one table of all videos needs a column video_id, got {', '.join(table.column_names)}"
        )
    ids = [read_cell(str(value)) for value in table[name].to_pylist()]
    rows: dict[str, list[int]] = {}
    for row, video_id in enumerate(ids):
        rows.setdefault(video_id, []).append(row)
    return table, rows


def _concatenated(path: Path, classes: Sequence[str], frames: Mapping[str, int], form: ScoreForm) -> dict[str, Scores]:
    """The scores of an array of all videos, one after the other in the order of a list."""
    order = read_order(form.order, frames, form.suffix)
    check_same_videos(form.order, order, frames)
    array = _one(path, form, path.name)
    general, several = shape_scores(path.name, path, array.load(), classes, None, form)
    for count in _ways([form.counts(frames[video_id]) for video_id in order], len(general), form):
        if sum(count) == len(general):
            ends = np.cumsum(count)[:-1]
            parts = np.split(general, ends), np.split(several, ends) if several is not None else [None] * len(order)
            return {video_id: (one, more) for video_id, one, more in zip(order, *parts, strict=True)}
    ways = _ways([form.counts(frames[video_id]) for video_id in order], len(general), form)
    needed = " or ".join(dict.fromkeys(str(sum(count)) for count in ways)) or "another number"
    raise LengthMismatch(
        f"{path}: {len(general)} scores for the {len(order)} videos of {form.order.name} with {sum(frames.values())} frames; "
        f"they need {needed} (stride {form.stride}, tail {form.tail}, clips of {form.clip_frames or 1})"
    )


def _ways(counts: Sequence[tuple[int, ...]], total: int, form: ScoreForm) -> list[list[int]]:
    """Numbers of scores of the videos, in every way in which all of them may have been made."""
    if form.equal_parts:
        return [] if total % len(counts) else [[total // len(counts)] * len(counts)]
    if not all(counts):
        return []
    return [list(way) for way in zip(*counts, strict=True)]


def _one(path: Path, form: ScoreForm, what: str) -> LazyArray:
    """The only array of a file, or the one that is named."""
    arrays = (
        [array for array in _arrays(path) if form.array in (None, array.name)]
        if path.suffix != ".npy"
        else _arrays(path)
    )
    if len(arrays) != 1:
        names = ", ".join(array.name for array in _arrays(path)) or "none"
        raise PipelineError(f"{what}: {path}: expected one array of scores, got {names}: name it (--array)")
    return arrays[0]


def _arrays(path: Path) -> list[LazyArray]:
    """The arrays of numbers in a .npy, .npz or .mat file."""
    try:
        if path.suffix == ".mat":
            return _mat_arrays(path)
        return [npy_array(path)] if path.suffix == ".npy" else [a for a in npz_arrays(path) if a.dtype.kind in "fiub"]
    except (*DAMAGED, CacheError) as error:
        raise PipelineError(f"{path.stem}: {path} cannot be read ({error})") from error


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
    numbers = {
        name: value for name, value in values.items() if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    }
    return [
        LazyArray(name, path, value.shape, value.dtype, lambda value=value: value) for name, value in numbers.items()
    ]


def open_table(video_id: str, path: Path) -> pa.Table:
    """A Parquet or CSV file. Raises PipelineError."""
    try:
        if path.suffix != ".csv":
            return pq.read_table(path)
        table = pc.read_csv(path)
        return table.rename_columns([read_cell(name) for name in table.column_names])
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(f"{video_id}: the score table {path} cannot be read ({error})") from error


def columns_of(video_id: str, path: Path, table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """(n, len(names)) float64; an empty cell is nan. Raises PipelineError where there are no numbers."""
    try:
        return np.stack([table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in names], axis=1)
    except (KeyError, ValueError) as error:
        raise PipelineError(
            f"{video_id}: the score table {path} does not hold numbers in {', '.join(names)} ({error})"
        ) from error


def check_same_videos(source: Path, found: Collection[str], wanted: Collection[str]) -> None:
    """Raise PipelineError naming the videos that lack scores, and those that have some and are not wanted."""
    problems = [f"{video_id}: no scores" for video_id in sorted(set(wanted) - set(found))]
    problems += [
        f"{video_id}: scores of a video that is not in the test split" for video_id in sorted(set(found) - set(wanted))
    ]
    _raise(source, problems)


def _raise(source: Path, problems: Sequence[str]) -> None:
    if problems:
        raise PipelineError(f"{source}: {len(problems)} problem(s)\n  " + "\n  ".join(problems))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
