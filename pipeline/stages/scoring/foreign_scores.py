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

from cache.errors import InvalidName
from cache.names import escape, unescape
from pipeline.data.order import read_order
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.stages.scoring.score_arrays import ARRAYS, Scores, arrays_in, one_array, shape_scores
from pipeline.stages.scoring.score_columns import TABLES, open_table, rows_by_video, table_scores
from pipeline.stages.scoring.score_form import ScoreForm

__all__ = ["FORMS", "FoundScores", "check_same_videos", "read_score_file", "read_score_files", "score_paths"]

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


def score_paths(
    folder: Path, video_ids: Collection[str] | None, form: ScoreForm
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The score file of every wanted video in a folder.

    Args:
        folder: where the files lie.
        video_ids: the wanted videos; None to take every file as that of the video with its name.
        form: how the files are named.

    Returns:
        Video id -> its file, sorted by id; and notes of what was not read.

    Raises:
        PipelineError: a video has no file or several, or a file belongs to no video.
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
    found: dict[str, Path] = {}
    problems = []
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


def read_score_file(video_id: str, path: Path, classes: Sequence[str], frames: int | None, form: ScoreForm) -> Scores:
    """The scores of a file of one video.

    Args:
        video_id: of the video.
        path: the file.
        classes: C anomaly classes.
        frames: of the video; None where the number is not known.
        form: how the file is to be read.

    Raises:
        PipelineError: the file cannot be read, or holds no scores in a form that is read.
    """
    if path.suffix in TABLES:
        return table_scores(video_id, path, open_table(video_id, path), classes)
    array = one_array(path, form, video_id)
    return shape_scores(video_id, path, array.load(), classes, frames, form)


def check_same_videos(source: Path, found: Collection[str], wanted: Collection[str]) -> None:
    """Check that there are scores of exactly the wanted videos.

    Args:
        source: where the scores are from, for the message.
        found: ids of the videos with scores.
        wanted: ids of the videos that should have scores.

    Raises:
        PipelineError: naming the videos without scores, and those with scores that are not wanted.
    """
    problems = [f"{video_id}: no scores" for video_id in sorted(set(wanted) - set(found))]
    problems += [
        f"{video_id}: scores of a video that is not in the test split" for video_id in sorted(set(found) - set(wanted))
    ]
    _raise(source, problems)


def _folder(folder: Path, classes: Sequence[str], frames: Mapping[str, int], form: ScoreForm) -> FoundScores:
    paths, notes = score_paths(folder, frames, form)
    scores = {v: read_score_file(v, path, classes, frames[v], form) for v, path in paths.items()}
    return FoundScores(scores, notes)


def _video_id(stem: str) -> str:
    """The id whose escaped form a stem is; the stem itself if it is none."""
    try:
        return unescape(stem)
    except InvalidName:
        return stem


def _long_table(path: Path, classes: Sequence[str], frames: Mapping[str, int]) -> dict[str, Scores]:
    """The scores of a table of all videos."""
    table, rows = rows_by_video(path)
    check_same_videos(path, rows, frames)
    return {video_id: table_scores(video_id, path, table.take(rows[video_id]), classes) for video_id in frames}


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
    check_same_videos(order_file, order, frames)
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


def _raise(source: Path, problems: Sequence[str]) -> None:
    if problems:
        raise PipelineError(f"{source}: {len(problems)} problem(s)\n  " + "\n  ".join(problems))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
