"""Score files of other systems: one file per video, or one file of all videos, in the forms that are in use.

A folder holds one file per video, named by its id (or the id as the cache escapes it) and a suffix: Parquet or CSV with
the column `score`, columns named like the classes, or both; or .npy, .npz, .mat with an array of scores. A single file
is an array of all videos' scores one after the other, with a list of their order; a .npz or .mat file with one array
per video; or a Parquet or CSV table with a column video_id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from cache.names import escape
from pipeline.data.order import read_order
from pipeline.data.tables import read_cell
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.stages.scoring.score_arrays import ARRAYS, Scores, arrays_in, one_array, shape_scores
from pipeline.stages.scoring.score_form import ScoreForm

__all__ = ["FORMS", "FoundScores", "columns_of", "open_table", "read_score_files"]

TABLES = (".parquet", ".csv")
FORMS = (
    "a folder with one file per video, .parquet, .csv, .npy, .npz or .mat, named by its id and --suffix; "
    "one .npy, .npz or .mat file of all scores one after the other with --order; "
    "one .npz or .mat file with one array per video; or one .parquet or .csv file with a column video_id"
)


@dataclass(frozen=True)
class FoundScores:
    """Scores as they were found.

    Attributes:
        scores: video id -> general and class scores.
        notes: what was not read, one sentence each.
    """

    scores: dict[str, Scores]
    notes: tuple[str, ...] = ()


def read_score_files(source: Path, classes: Sequence[str], frames: Mapping[str, int], form: ScoreForm) -> FoundScores:
    """The scores of all wanted videos.

    Args:
        source: a folder or a file.
        classes: C anomaly classes.
        frames: video id -> number of frames; exactly the videos that are wanted.
        form: how the files are to be read.

    Raises:
        PipelineError: scores are missing, surplus, or in a form that is not read; the message names the video or file.
        LengthMismatch: an array of all videos' scores has more or fewer than the videos need.
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
        return FoundScores(_concatenated(source, form.order, classes, frames, form))
    if source.suffix == ".npy":
        raise PipelineError(f"{source}: one array of all videos needs their order (--order); else expected {FORMS}")
    return FoundScores(_array_per_video(source, classes, frames, form))


def _folder(folder: Path, classes: Sequence[str], frames: Mapping[str, int], form: ScoreForm) -> FoundScores:
    if form.order:
        raise PipelineError(f"{folder}: an order is for one file of all scores, and this is a folder")
    visible = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    present = {
        path.name: path for path in visible if path.suffix in (*TABLES, *ARRAYS) and path.stem.endswith(form.suffix)
    }
    unread = [path.name for path in visible if path.name not in present]
    found: dict[str, Path] = {}
    problems = []
    for video_id in sorted(frames):
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
    scores = {video_id: _read(video_id, path, classes, frames[video_id], form) for video_id, path in found.items()}
    return FoundScores(scores, (f"{folder.name}: not read: {_some(unread)}",) if unread else ())


def _read(video_id: str, path: Path, classes: Sequence[str], frames: int, form: ScoreForm) -> Scores:
    """General scores (n,) and class scores (n, C) of a file of one video, the latter where it has them."""
    if path.suffix in TABLES:
        return _of_table(video_id, path, open_table(video_id, path), classes)
    array = one_array(path, form, video_id)
    return shape_scores(video_id, path, array.load(), classes, frames, form)


def _of_table(video_id: str, path: Path, table: pa.Table, classes: Sequence[str]) -> Scores:
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
        raise PipelineError(f"{video_id}: {path}: expected a column score, or one column per class, got {names}")
    return several.max(axis=1), several


def _long_table(path: Path, classes: Sequence[str], frames: Mapping[str, int]) -> dict[str, Scores]:
    """The scores of a table of all videos."""
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
    _same_videos(path, rows, frames)
    return {video_id: _of_table(video_id, path, table.take(rows[video_id]), classes) for video_id in frames}


def _array_per_video(
    path: Path, classes: Sequence[str], frames: Mapping[str, int], form: ScoreForm
) -> dict[str, Scores]:
    """The scores of a file that holds one array per video."""
    arrays = {
        array.name.removesuffix(form.suffix): array for array in arrays_in(path) if array.name.endswith(form.suffix)
    }
    by_id = {
        video_id: arrays.pop(name) for video_id in frames for name in (video_id, escape(video_id)) if name in arrays
    }
    problems = [f"{video_id}: no array of scores" for video_id in sorted(set(frames) - set(by_id))]
    problems += [f"{name}: an array of a video that is not in the test split" for name in arrays]
    _raise(path, problems)
    return {v: shape_scores(v, path, array.load(), classes, frames[v], form) for v, array in by_id.items()}


def _concatenated(
    path: Path, order_file: Path, classes: Sequence[str], frames: Mapping[str, int], form: ScoreForm
) -> dict[str, Scores]:
    """The scores of an array of all videos, one after the other in the order of a list."""
    order = read_order(order_file, frames, form.suffix)
    _same_videos(order_file, order, frames)
    array = one_array(path, form, path.name)
    general, several = shape_scores(path.name, path, array.load(), classes, None, form)
    ways = _ways([form.counts(frames[video_id]) for video_id in order], len(general), form)
    for counts in ways:
        if sum(counts) == len(general):
            ends = np.cumsum(counts)[:-1]
            parts = np.split(general, ends)
            class_parts = np.split(several, ends) if several is not None else [None] * len(order)
            return {video_id: (one, more) for video_id, one, more in zip(order, parts, class_parts, strict=True)}
    needed = " or ".join(dict.fromkeys(str(sum(counts)) for counts in ways)) or "another number"
    raise LengthMismatch(
        f"{path}: {len(general)} scores for the {len(order)} videos of {order_file.name} "
        f"with {sum(frames.values())} frames; "
        f"they need {needed} (stride {form.stride}, tail {form.tail}, clips of {form.clip_frames or 1})"
    )


def _ways(counts: Sequence[tuple[int, ...]], total: int, form: ScoreForm) -> list[list[int]]:
    """How many scores each video has, for every way in which the scores may have been made."""
    if form.equal_parts:
        return [] if total % len(counts) else [[total // len(counts)] * len(counts)]
    if not all(counts):
        return []
    return [list(way) for way in zip(*counts, strict=True)]


def open_table(video_id: str, path: Path) -> pa.Table:
    """Read a Parquet or CSV file. Raises PipelineError when it cannot be read."""
    try:
        if path.suffix != ".csv":
            return pq.read_table(path)
        table = pc.read_csv(path)
        return table.rename_columns([read_cell(name) for name in table.column_names])
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(f"{video_id}: the score table {path} cannot be read ({error})") from error


def columns_of(video_id: str, path: Path, table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Columns of a table, (n, len(names)) float64; an empty cell is nan. Raises PipelineError if not numbers."""
    try:
        return np.stack([table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in names], axis=1)
    except (KeyError, ValueError) as error:
        raise PipelineError(
            f"{video_id}: the score table {path} does not hold numbers in {', '.join(names)} ({error})"
        ) from error


def _same_videos(source: Path, found: Collection[str], wanted: Collection[str]) -> None:
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
