"""Score tables, ours or of any other system, as arrays by video id; and their form as a submission.

Our own folder has an index.json that says which table is which video's, and how many frames were decoded. Any other folder holds a
file a video, named by its id (or the id as the cache escapes it): Parquet or CSV with the column `score`, columns named like the
classes, or both; or .npy of shape (n,) or (n, C). Nothing is cut, padded or left out unless it was asked for.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from cache.names import escape
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.metrics.temporal import runs

__all__ = [
    "TAILS",
    "ScoreTables",
    "export_submission",
    "per_frame",
    "read_lengths",
    "read_scores",
    "read_tables",
    "resolve_thresholds",
]

TAILS = ("exact", "partial", "repeat")
SUFFIXES = (".parquet", ".csv", ".npy")


@dataclass(frozen=True)
class ScoreTables:
    """Scores of some videos, a value a frame.

    Attributes:
        general: video id -> (N,) float64, how anomalous a frame is.
        classwise: video id -> (N, C) float64; None where the tables hold no classes.
        thresholds: (C,) chosen with the head on a validation split, None for a class that it could not judge; None without one.
        lost: video id -> ranges (first, one after the last) of frames that could not be decoded and have the scores of those before
            them; of videos that have any, where the tables say so.
    """

    general: dict[str, np.ndarray]
    classwise: dict[str, np.ndarray] | None
    thresholds: tuple[float | None, ...] | None = None
    lost: dict[str, list[list[int]]] = field(default_factory=dict)


def read_scores(folder: Path, classes: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The tables of a folder that has an index.

    Returns:
        Class scores (N, C) float64 and the decoded frame count of every video, by id.

    Raises:
        LengthMismatch: a table has not one row for every decoded frame.
        PipelineError: a table or the index is missing, or the classes are others.
    """
    _, scores, counts = _indexed(folder, classes)
    return scores, counts


def _indexed(folder: Path, classes: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, int]]:
    """As `read_scores`, with the anomaly scores (N,) of every video before them."""
    index = _index(folder)
    if tuple(index["classes"]) != tuple(classes):
        expected, got = ", ".join(classes), ", ".join(index["classes"])
        raise PipelineError(f"{folder / 'index.json'}: expected the classes {expected}, got {got}")
    general, scores, counts = {}, {}, {}
    for video_id, facts in index["videos"].items():
        path = folder / "frames" / facts["file"]
        table = _open(video_id, path)
        if table.num_rows != facts["decoded_frames"]:
            raise LengthMismatch(f"{video_id}: {table.num_rows} scores for {facts['decoded_frames']} decoded frames ({path})")
        scores[video_id] = _columns(video_id, path, table, classes)
        own = "score" in table.column_names
        general[video_id] = _columns(video_id, path, table, ["score"])[:, 0] if own else scores[video_id].max(axis=1)
        counts[video_id] = facts["decoded_frames"]
    return general, scores, counts


def read_tables(
    folder: Path, classes: Sequence[str], lengths: Mapping[str, int], *, stride: int = 1, tail: str = "exact"
) -> ScoreTables:
    """The tables of a folder with an index, or of any other system.

    Args:
        folder: of the tables.
        classes: C anomaly classes.
        lengths: video id -> frames of all videos to evaluate. The index, where there is one, knows better.
        stride: frames that a score stands for; 1 is a score a frame.
        tail: as `per_frame`.

    Raises:
        LengthMismatch: a table has too few or too many scores.
        PipelineError: a table is missing, surplus or not one, or a score is not finite; the message names the video.
    """
    if (folder / "index.json").is_file():
        if (stride, tail) != (1, "exact"):
            raise PipelineError(f"{folder}: these tables hold a score for every frame; a stride or tail is for others")
        general, scores, _ = _indexed(folder, classes)
        _same_videos(folder, scores, lengths)
        index = _index(folder)
        thresholds = index.get("thresholds")
        lost = {video_id: facts["lost_frames"] for video_id, facts in index["videos"].items() if "lost_frames" in facts}
        return ScoreTables(general, scores, None if thresholds is None else tuple(thresholds), lost)
    general, classwise = {}, {}
    for video_id, path in _files(folder, lengths).items():
        one, several = _read(video_id, path, classes)
        both = np.column_stack([one, several]) if several is not None else one[:, None]
        both = per_frame(video_id, both, lengths[video_id], stride, tail)
        general[video_id] = both[:, 0]
        if several is not None:
            classwise[video_id] = both[:, 1:]
    if len(classes) == 1 and not classwise:
        classwise = {video_id: scores[:, None] for video_id, scores in general.items()}
    if classwise and len(classwise) < len(general):
        missing = sorted(set(general) - set(classwise))
        raise PipelineError(f"{folder}: the tables of {', '.join(missing)} hold no classes, those of other videos do")
    return ScoreTables(general, classwise or None)


def per_frame(video_id: str, scores: np.ndarray, frames: int, stride: int, tail: str) -> np.ndarray:
    """A score for every frame: score i stands for frames [i * stride, (i + 1) * stride).

    Args:
        video_id: for messages.
        scores: (n, ...) float.
        frames: N.
        stride: frames of a score.
        tail: what the last N mod stride frames get. `exact`: there are none. `partial`: they have a score of their own, the last.
            `repeat`: they have none, and get that of the frames before them.

    Returns:
        (N, ...) float.

    Raises:
        LengthMismatch: n is another number than that.
    """
    if tail not in TAILS:
        raise ValueError(f"tail: expected one of {', '.join(TAILS)}, got {tail!r}")
    if stride < 1:
        raise ValueError(f"stride: expected 1 or more, got {stride}")
    whole, rest = divmod(frames, stride)
    expected = {"exact": None if rest else whole, "partial": whole + bool(rest), "repeat": max(1, whole)}[tail]
    if len(scores) != expected:
        what = f"{len(scores)} scores for {frames} frames"
        if stride > 1 or tail != "exact":
            needed = f"{expected} scores" if expected is not None else f"a multiple of {stride} frames"
            what += f"; stride {stride} and tail {tail} need {needed}"
        raise LengthMismatch(f"{video_id}: {what}")
    return scores[np.minimum(np.arange(frames) // stride, len(scores) - 1)]


def resolve_thresholds(chosen: Sequence[float | None] | None, default: float, classes: int) -> list[float]:
    """theta of every class: the one chosen on a validation split, else the default."""
    return [default if theta is None else theta for theta in chosen or [None] * classes]


def read_lengths(file: Path) -> dict[str, int]:
    """Frames of videos from a CSV file with the columns video_id and frames, such as the per_video.csv of an evaluation."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return {row["video_id"]: int(row["frames"]) for row in csv.DictReader(stream)}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"{file}: expected a CSV file with the columns video_id and frames ({error!r})") from error


def export_submission(folder: Path, out: Path, threshold: float) -> tuple[Path, Path]:
    """Write the score tables of a folder with an index as the two CitySCENE tasks.

    task1.csv has video, frame, score: the anomaly score of every frame. task2.csv has video, class, start, end, score: the maximal
    runs of frames whose class score is at least the threshold, the end not part of them, with their mean score.

    Args:
        folder: of the score tables.
        out: where the two files go.
        threshold: theta of the classes for which none was chosen with the head.
    """
    index = _index(folder)
    classes = tuple(index["classes"])
    anomaly, scores, _ = _indexed(folder, classes)
    limits = resolve_thresholds(index.get("thresholds"), threshold, len(classes))
    out.mkdir(parents=True, exist_ok=True)
    paths = out / "task1.csv", out / "task2.csv"
    with paths[0].open("w", newline="", encoding="utf-8") as first, paths[1].open("w", newline="", encoding="utf-8") as second:
        general, specific = csv.writer(first), csv.writer(second)
        general.writerow(("video", "frame", "score"))
        specific.writerow(("video", "class", "start", "end", "score"))
        for video_id in sorted(scores):
            table = scores[video_id]
            general.writerows((video_id, i, f"{value:.6f}") for i, value in enumerate(anomaly[video_id]))
            for c, label in enumerate(classes):
                for start, end in runs(table[:, c] >= limits[c]):
                    specific.writerow((video_id, label, start, end, f"{table[start:end, c].mean():.6f}"))
    return paths


def _index(folder: Path) -> dict:
    path = folder / "index.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PipelineError(f"{path}: the index of the score tables cannot be read ({error.strerror})") from error


def _files(folder: Path, wanted: Collection[str]) -> dict[str, Path]:
    """The table of every wanted video. Raises PipelineError naming those that have none, or several, and what is surplus."""
    if not folder.is_dir():
        raise PipelineError(f"{folder}: no such folder of score tables")
    present = {path.name: path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}
    found, problems = {}, []
    for video_id in sorted(wanted):
        names = dict.fromkeys(f"{stem}{suffix}" for suffix in SUFFIXES for stem in (video_id, escape(video_id)))
        paths = [present.pop(name) for name in names if name in present]
        if len(paths) == 1:
            found[video_id] = paths[0]
        else:
            several = ", ".join(path.name for path in paths)
            problems.append(f"{video_id}: several score tables: {several}" if paths else f"{video_id}: no score table")
    problems += [f"{name}: a score table of a video that is not in the test split" for name in present]
    if problems:
        raise PipelineError(f"{folder}: {len(problems)} problem(s)\n  " + "\n  ".join(problems))
    return found


def _same_videos(folder: Path, scores: Collection[str], wanted: Collection[str]) -> None:
    missing, surplus = sorted(set(wanted) - set(scores)), sorted(set(scores) - set(wanted))
    if missing or surplus:
        raise PipelineError(f"{folder}: no scores for {missing}, scores for {surplus} not in the test split")


def _read(video_id: str, path: Path, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """General scores (n,) and class scores (n, C) of a table, the latter where it has them."""
    if path.suffix != ".npy":
        table = _open(video_id, path)
        if "frame" in table.column_names and table["frame"].to_pylist() != list(range(table.num_rows)):
            raise PipelineError(f"{video_id}: the frames of {path} are not 0, 1, 2 and so on")
        held = [label for label in classes if label in table.column_names]
        if held and len(held) < len(classes):
            raise PipelineError(f"{video_id}: {path} has no column {', '.join(sorted(set(classes) - set(held)))}")
        several = _columns(video_id, path, table, classes) if held else None
        if "score" in table.column_names:
            return _columns(video_id, path, table, ["score"])[:, 0], several
        if several is None:
            columns = ", ".join(table.column_names)
            raise PipelineError(f"{video_id}: {path}: expected a column score, or a column a class, got {columns}")
        return several.max(axis=1), several
    try:
        scores = np.load(path, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{video_id}: {path} cannot be read ({error})") from error
    if scores.ndim == 2 and scores.shape[1] == len(classes):
        return scores.max(axis=1), scores
    if scores.ndim == 1 or scores.shape == (len(scores), 1):
        return scores.reshape(-1), None
    raise PipelineError(f"{video_id}: {path}: expected shape (n,) or (n, {len(classes)}), got {scores.shape}")


def _open(video_id: str, path: Path) -> pa.Table:
    try:
        return pc.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(f"{video_id}: the score table {path} cannot be read ({error})") from error


def _columns(video_id: str, path: Path, table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """(n, len(names)) float64; an empty cell is nan."""
    try:
        return np.stack([table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in names], axis=1)
    except (KeyError, ValueError) as error:
        raise PipelineError(f"{video_id}: the score table {path} does not hold numbers in {', '.join(names)} ({error})") from error
