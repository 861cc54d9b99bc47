"""Score tables of any system, a video at a time, with the time of every frame.

Folders with an index (ours, and those of `gig score`) hold times and say where the videos lie. Tables of other systems
may have a column `time_s`; else their frames are timed by the frame rate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.errors import LengthMismatch, PipelineError
from pipeline.stages.scoring.foreign_scores import (
    FORMS,
    check_same_videos,
    read_score_file,
    read_score_files,
    score_paths,
)
from pipeline.stages.scoring.score_columns import TABLES, columns_of, open_table, rows_by_video, table_scores
from pipeline.stages.scoring.score_form import ScoreForm

__all__ = ["KnownVideos", "ScoredVideo", "ScoredVideos", "open_scores"]


@dataclass(frozen=True)
class ScoredVideo:
    """The scores of one video of N frames.

    Attributes:
        video_id: of the video.
        source: where it lies or comes from; "" where that is not known.
        general: (N,) float64, how anomalous a frame is.
        classwise: (N, C) float64; None where the tables hold no classes.
        times_s: (N,) float64, presentation times.
    """

    video_id: str
    source: str
    general: np.ndarray
    classwise: np.ndarray | None
    times_s: np.ndarray


@dataclass(frozen=True)
class KnownVideos:
    """What is known of the videos apart from their scores.

    Attributes:
        frames: video id -> number of frames of all videos that have scores; None where that is not known: then every
            file is of one video, and as long as its scores.
        fps: video id -> frames per second, where that is stated.
        same_fps: frames per second of all videos, which takes the place of `fps`.
        sources: video id -> path or origin.
        ends: video id -> number of frames of a video whose scores are of whole clips, such as those of imported
            features, and can reach past its last frame. From tables with an index only scores of these frames are
            taken. 0 where the number is not known.
    """

    frames: Mapping[str, int] | None = None
    fps: Mapping[str, float] = field(default_factory=dict)
    same_fps: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)

    def times(self, video_id: str, frames: int) -> np.ndarray:
        """(frames,) float64, of a constant frame rate. Raises PipelineError where none is known."""
        fps = self.same_fps or self.fps.get(video_id)
        if not fps:
            raise PipelineError(
                f"{video_id}: nothing says when its frames are shown: expected a column time_s in its score table, or "
                "frames per second (--fps, a manifest, or a column fps in the table of frame counts)"
            )
        return np.arange(frames) / fps


@dataclass(frozen=True)
class ScoredVideos:
    """Scored videos, read one after the other while they are gone through.

    Attributes:
        classes: anomaly classes, the columns of class scores; none where there are only scores of anomaly in general.
        count: how many videos there are.
        videos: goes through them once, by sorted id.
        notes: what was not read, a sentence each.
        head_sha256: of the head that made the scores, where the tables say so.
    """

    classes: tuple[str, ...]
    count: int
    videos: Iterator[ScoredVideo]
    notes: tuple[str, ...] = ()
    head_sha256: str | None = None


def open_scores(
    source: Path, classes: Sequence[str], known: KnownVideos | None = None, form: ScoreForm | None = None
) -> ScoredVideos:
    """Open score tables of any system.

    Args:
        source: a folder with an index, or a folder or file as `pipeline.stages.scoring.foreign_scores` reads them.
        classes: of tables without an index, which says its own.
        known: what is known of the videos.
        form: what scores stand for, of tables without an index.

    Raises:
        LengthMismatch, PipelineError: scores are missing, surplus or in no form that is read, or nothing says when
            frames are shown. Also while going through the videos; the message names the video.
    """
    known, form = known or KnownVideos(), form or ScoreForm()
    if (source / "index.json").is_file():
        if form != ScoreForm():
            raise PipelineError(
                f"{source}: these tables hold a score for every frame; how scores are read is for others"
            )
        index = _index(source / "index.json")
        names = tuple(index["classes"])
        videos = _indexed(source, names, index["videos"], known)
        head = index["made_with"].get("head", {}).get("sha256")
        return ScoredVideos(names, len(index["videos"]), videos, head_sha256=head)
    names = tuple(classes)
    if source.is_dir():
        paths, notes = score_paths(source, known.frames, form)
        if not paths:
            raise PipelineError(f"{source}: no score tables in this folder")
        return ScoredVideos(names, len(paths), _of_files(paths, names, known, form), notes)
    if source.is_file() and source.suffix in TABLES:
        table, rows = rows_by_video(source)
        if known.frames is not None:
            check_same_videos(source, rows, known.frames)
        return ScoredVideos(names, len(rows), _of_rows(source, table, rows, names, known, form))
    if known.frames is None:
        raise PipelineError(
            f"{source}: expected {FORMS}; scores in other forms need the videos' lengths (--truth, --lengths)"
        )
    found = read_score_files(source, names, known.frames, form)
    videos = (
        _to_frames(video_id, general, several, None, known, form)
        for video_id, (general, several) in sorted(found.scores.items())
    )
    return ScoredVideos(names, len(found.scores), videos, found.notes)


def _index(path: Path) -> dict:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        return {key: index[key] for key in ("classes", "videos")} | {"made_with": index.get("made_with", {})}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{path}: not an index of score tables ({error!r})") from error


def _indexed(
    folder: Path, classes: tuple[str, ...], videos: Mapping[str, dict], known: KnownVideos
) -> Iterator[ScoredVideo]:
    for video_id in sorted(videos):
        facts = videos[video_id]
        path = folder / "frames" / facts["file"]
        table = open_table(video_id, path)
        if table.num_rows != facts["decoded_frames"]:
            raise LengthMismatch(
                f"{video_id}: {table.num_rows} scores for {facts['decoded_frames']} decoded frames ({path})"
            )
        general, several = table_scores(video_id, path, table, classes)
        source = known.sources.get(video_id) or (facts.get("source") or {}).get("path", "")
        times = _times_of(video_id, path, table)
        times = known.times(video_id, len(general)) if times is None else times
        end = known.ends.get(video_id) or None
        yield ScoredVideo(video_id, source, general[:end], several if several is None else several[:end], times[:end])


def _of_files(
    paths: Mapping[str, Path], classes: tuple[str, ...], known: KnownVideos, form: ScoreForm
) -> Iterator[ScoredVideo]:
    for video_id, path in paths.items():
        if path.suffix in TABLES:
            yield _of_table(video_id, path, open_table(video_id, path), classes, known, form)
        else:
            frames = known.frames[video_id] if known.frames else None
            general, several = read_score_file(video_id, path, classes, frames, form)
            yield _to_frames(video_id, general, several, None, known, form)


def _of_rows(
    path: Path,
    table: pa.Table,
    rows: Mapping[str, Sequence[int]],
    classes: tuple[str, ...],
    known: KnownVideos,
    form: ScoreForm,
) -> Iterator[ScoredVideo]:
    for video_id in sorted(rows):
        yield _of_table(video_id, path, table.take(rows[video_id]), classes, known, form)


def _of_table(
    video_id: str, path: Path, table: pa.Table, classes: tuple[str, ...], known: KnownVideos, form: ScoreForm
) -> ScoredVideo:
    general, several = table_scores(video_id, path, table, classes)
    return _to_frames(video_id, general, several, _times_of(video_id, path, table), known, form)


def _times_of(video_id: str, path: Path, table: pa.Table) -> np.ndarray | None:
    return columns_of(video_id, path, table, ["time_s"])[:, 0] if "time_s" in table.column_names else None


def _to_frames(
    video_id: str,
    general: np.ndarray,
    several: np.ndarray | None,
    times: np.ndarray | None,
    known: KnownVideos,
    form: ScoreForm,
) -> ScoredVideo:
    """Scores as they stand in a file, as scores of frames."""
    if known.frames is not None:
        frames = known.frames[video_id]
    elif form.equal_parts:
        raise PipelineError(f"{video_id}: scores of equal parts of a video need its length (--truth or --lengths)")
    else:
        frames = len(general) * form.stride
    both = np.column_stack([general, several]) if several is not None else general[:, None]
    both = form.to_frames(video_id, both, frames)[:frames]
    if times is None or len(times) < len(both) or form.stride > 1 or form.equal_parts:
        times = known.times(video_id, len(both))
    times = times[: len(both)]  # surplus scores of a last clip have times too
    classwise = both[:, 1:] if several is not None else None
    return ScoredVideo(video_id, known.sources.get(video_id, ""), both[:, 0], classwise, times)
