"""Score tables, ours or those of any other system, as arrays by video id.

Our own folders have an index.json that says which table belongs to which video, and how many frames were decoded. Files
of other systems are read by `pipeline.stages.scoring.foreign_scores`. Nothing is cut, padded or left out unless it was
asked for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.data.frame_counts import read_frame_counts
from pipeline.data.problems import Problems
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.stages.scoring.foreign_scores import read_score_files
from pipeline.stages.scoring.score_columns import columns_of, open_table
from pipeline.stages.scoring.score_form import ScoreForm, per_frame

__all__ = [
    "ScoreForm",
    "ScoreTables",
    "end_with_videos",
    "per_frame",
    "quarantine_note",
    "read_index",
    "read_lengths",
    "read_quarantined",
    "read_scores",
    "read_tables",
    "resolve_thresholds",
]

T = TypeVar("T")


@dataclass(frozen=True)
class ScoreTables:
    """Scores of some videos, one value per frame.

    Attributes:
        general: video id -> (N,) float64, how anomalous a frame is.
        classwise: video id -> (N, C) float64; None where the tables hold no classes.
        thresholds: (C,) chosen with the head on a validation split, None for a class that the split could not judge;
            None where there was no validation split.
        notes: what was not read, or what was done to the scores, one sentence each.
        video_frames: video id -> frames of the video, where scores may end before the video; None where every frame has
            a score.
        lost: video id -> ranges [first, one after the last) of frames that could not be decoded and have the score of
            the frame before them; only videos that have any.
        quarantined: video id -> why it could not be read, of the videos that were asked for and have no scores for that
            reason.
    """

    general: dict[str, np.ndarray]
    classwise: dict[str, np.ndarray] | None
    thresholds: tuple[float | None, ...] | None = None
    notes: tuple[str, ...] = ()
    video_frames: Mapping[str, int] | None = None
    lost: dict[str, list[list[int]]] = field(default_factory=dict)
    quarantined: Mapping[str, str] = field(default_factory=dict)

    def without(self, video_ids: Collection[str]) -> ScoreTables:
        """The tables without those of some videos; ids of videos that have none are ignored."""

        return replace(
            self,
            general=_without(self.general, video_ids),
            classwise=None if self.classwise is None else _without(self.classwise, video_ids),
            video_frames=None if self.video_frames is None else _without(self.video_frames, video_ids),
            lost=_without(self.lost, video_ids),
        )


def _without(by_video: Mapping[str, T], video_ids: Collection[str]) -> dict[str, T]:
    return {video_id: value for video_id, value in by_video.items() if video_id not in video_ids}


def read_scores(folder: Path, classes: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The tables of a folder that has an index.

    Returns:
        Class scores (N, C) float64 and the decoded frame count of every video, by id.

    Raises:
        LengthMismatch: a table does not have one row per decoded frame.
        PipelineError: a table or the index is missing, or the classes differ.
    """
    _, scores, counts = _indexed(folder, classes)
    return scores, counts


def _indexed(
    folder: Path, classes: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, int]]:
    """As `read_scores`, and before the class scores the anomaly scores (N,) of every video."""
    index = read_index(folder)
    if tuple(index["classes"]) != tuple(classes):
        expected, got = ", ".join(classes), ", ".join(index["classes"])
        raise PipelineError(f"{folder / 'index.json'}: expected the classes {expected}, got {got}")
    general, scores, counts = {}, {}, {}
    for video_id, facts in index["videos"].items():
        path = folder / "frames" / facts["file"]
        table = open_table(video_id, path)
        if table.num_rows != facts["decoded_frames"]:
            raise LengthMismatch(
                f"{video_id}: {table.num_rows} scores for {facts['decoded_frames']} decoded frames ({path})"
            )
        scores[video_id] = columns_of(video_id, path, table, classes)
        own = "score" in table.column_names
        general[video_id] = columns_of(video_id, path, table, ["score"])[:, 0] if own else scores[video_id].max(axis=1)
        counts[video_id] = facts["decoded_frames"]
    return general, scores, counts


def read_tables(
    source: Path, classes: Sequence[str], lengths: Mapping[str, int], form: ScoreForm | None = None
) -> ScoreTables:
    """The tables of a folder with an index, or the scores of any other system.

    Args:
        source: the folder, or a file.
        classes: C anomaly classes.
        lengths: video id -> frames; exactly the videos to evaluate. An index knows the lengths better and takes
            precedence, unless `form` says that scores are of whole clips. Videos that an index names as quarantined are
            left out, and a note says so.
        form: what the scores stand for and how they are read; None means one score per frame.

    Raises:
        LengthMismatch: there are too few or too many scores.
        PipelineError: scores are missing, surplus, not finite, or in a form that is not read; the message names the
            video.
    """
    form = form or ScoreForm()
    if (source / "index.json").is_file():
        return _own(source, classes, lengths, form)
    found = read_score_files(source, classes, lengths, form)
    general, classwise = {}, {}
    for video_id, (one, several) in found.scores.items():
        both = np.column_stack([one, several]) if several is not None else one[:, None]
        both = form.to_frames(video_id, both, lengths[video_id])
        general[video_id] = both[:, 0]
        if several is not None:
            classwise[video_id] = both[:, 1:]
    if len(classes) == 1 and not classwise:
        classwise = {video_id: scores[:, None] for video_id, scores in general.items()}
    if classwise and len(classwise) < len(general):
        missing = sorted(set(general) - set(classwise))
        raise PipelineError(f"{source}: the tables of {', '.join(missing)} hold no classes, those of other videos do")
    tables = ScoreTables(general, classwise or None, notes=found.notes)
    return end_with_videos(tables, lengths) if form.clip_frames else tables


def _own(folder: Path, classes: Sequence[str], lengths: Mapping[str, int], form: ScoreForm) -> ScoreTables:
    if form != ScoreForm(clip_frames=form.clip_frames):
        raise PipelineError(f"{folder}: these tables hold a score for every frame; a stride or tail is for others")
    general, scores, _ = _indexed(folder, classes)
    quarantined = {v: reason for v, reason in read_quarantined(folder).items() if v in lengths and v not in scores}
    _same_videos(folder, scores, lengths.keys() - quarantined.keys())
    if form.clip_frames:
        for video_id, values in general.items():
            form.to_frames(video_id, values, lengths[video_id])
    index = read_index(folder)
    thresholds = index.get("thresholds")
    lost = {video_id: facts["lost_frames"] for video_id, facts in index["videos"].items() if "lost_frames" in facts}
    notes = (quarantine_note(quarantined),) if quarantined else ()
    theta = None if thresholds is None else tuple(thresholds)
    tables = ScoreTables(general, scores, theta, notes, lost=lost, quarantined=quarantined)
    return end_with_videos(tables, lengths) if form.clip_frames else tables


def end_with_videos(tables: ScoreTables, lengths: Mapping[str, int]) -> ScoreTables:
    """Make scores of whole clips, which may end before or after the last frame of a video, fit the videos.

    Scores beyond the last frame are left out; frames without a score are in no metric. Notes name the videos.

    Args:
        tables: the scores.
        lengths: video id -> frames; 0 where they are not known, and then nothing is changed.
    """
    frames = {v: lengths[v] or len(scores) for v, scores in tables.general.items()}
    beyond = {v: (len(scores), frames[v]) for v, scores in tables.general.items() if len(scores) > frames[v]}
    short = {v: (len(scores), frames[v]) for v, scores in tables.general.items() if len(scores) < frames[v]}
    notes = list(tables.notes)
    for off, what in (
        (short, "frames after the last clip have no score and are in no metric"),
        (beyond, "scores after the last frame are left out"),
    ):
        if off:
            some = ", ".join(f"{v}: {n} scores, {count} frames" for v, (n, count) in list(off.items())[:5])
            notes.append(f"{what}, in {len(off)} video(s): {some}{', ...' if len(off) > 5 else ''}")
    general = {v: scores[: frames[v]] for v, scores in tables.general.items()}
    classwise = tables.classwise and {v: scores[: frames[v]] for v, scores in tables.classwise.items()}
    return replace(tables, general=general, classwise=classwise, notes=tuple(notes), video_frames=frames)


def resolve_thresholds(chosen: Sequence[float | None] | None, default: float, classes: int) -> list[float]:
    """Threshold (theta) of every class.

    Args:
        chosen: (C,) thresholds chosen on a validation split, None for a class that has none; None where there was no
            such split.
        default: for the classes without one.
        classes: their number C.
    """
    return [default if theta is None else theta for theta in chosen or [None] * classes]


def read_lengths(file: Path) -> dict[str, int]:
    """Video id -> frames, from a table of frame counts such as the per_video.csv of an evaluation.

    Raises PipelineError for a file that is no such table, see `pipeline.data.frame_counts`.
    """
    problems = Problems()
    found = {video_id: row.n_frames for video_id, row in read_frame_counts(file, problems).items()}
    problems.raise_any()
    return found


def read_index(folder: Path) -> dict[str, Any]:
    """The content of index.json: classes, videos and thresholds. Raises PipelineError when it cannot be read."""
    path = folder / "index.json"
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PipelineError(f"{path}: the index of the score tables cannot be read ({error.strerror})") from error
    return index


def read_quarantined(source: Path) -> dict[str, str]:
    """Video id -> why it could not be read, of the test videos that were in quarantine when these tables were made.

    Empty for tables of other systems, and where the index names none. Raises PipelineError as `read_index`.
    """
    return dict(read_index(source).get("quarantined", {})) if (source / "index.json").is_file() else {}


def quarantine_note(quarantined: Mapping[str, str]) -> str:
    """A sentence that names the videos that are left out, with the reason of each."""
    named = _first([f"{video_id} ({reason})" for video_id, reason in sorted(quarantined.items())])
    return f"without {len(quarantined)} video(s) that were in quarantine when these scores were made: {named}"


def _same_videos(folder: Path, scores: Collection[str], wanted: Collection[str]) -> None:
    missing, surplus = sorted(set(wanted) - set(scores)), sorted(set(scores) - set(wanted))
    lines = []
    if missing:
        lines.append(
            f"{len(missing)} test video(s) of the manifest have no scores: {_first(missing)}. A video in quarantine "
            "has none, and the index of an older version does not name it: make the scores again, or evaluate with a "
            "manifest without it (take it out of the list, then `gig manifest --out FOLDER`)"
        )
    if surplus:
        lines.append(f"{len(surplus)} video(s) with scores are not in the test split: {_first(surplus)}")
    if lines:
        raise PipelineError(f"{folder}: " + "; ".join(lines))


def _first(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
