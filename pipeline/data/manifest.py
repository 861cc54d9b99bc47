"""The manifest: which videos there are, what is known of them, and the annotated intervals of the test split.

Labels are keyed by video id, never by position. The true length of a video is known only after decoding, so intervals
are checked against it when the frame labels are made (`frame_labels`).

On disk the ground truth of the test split, its labels and intervals, lies in a folder of its own, `truth`. `load` reads
it only on request: without it the labels of test videos and the intervals are None, and using them is an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.entries import SPLITS, Interval, Origin, SourceFile, VideoEntry
from pipeline.data.problems import Problems
from pipeline.errors import ManifestError
from pipeline.remote import AnyPath, path_of

__all__ = ["SPLITS", "Interval", "Manifest", "Origin", "SourceFile", "VideoEntry", "check_splits", "load", "save"]

SCHEMA_VERSION = 2
TRUTH = "truth"
VIDEOS, LABELS, INTERVALS = "videos.parquet", f"{TRUTH}/labels.parquet", f"{TRUTH}/intervals.parquet"
TYPES = {
    "video_id": pa.string(),
    "path": pa.string(),
    "split": pa.string(),
    "labels": pa.list_(pa.string()),
    "source": pa.string(),
    "width": pa.int64(),
    "height": pa.int64(),
    "fps": pa.float64(),
    "packets": pa.int64(),
    "bytes": pa.int64(),
    "label": pa.string(),
    "start_frame": pa.int64(),
    "end_frame": pa.int64(),
}


@dataclass(frozen=True)
class Manifest:
    """All videos and intervals of a data set.

    Attributes:
        root: folder, of this machine or of a storage, that the videos' paths are relative to.
        classes: the anomaly classes in the order of the outputs 1..C.
        videos: of both splits.
        intervals: of the test split; None in a manifest that was loaded without the ground truth.
        origin: what it was made of.
    """

    root: AnyPath
    classes: tuple[str, ...]
    videos: tuple[VideoEntry, ...]
    intervals: tuple[Interval, ...] | None
    origin: Origin = Origin()

    @cached_property
    def _by_id(self) -> dict[str, VideoEntry]:
        return {entry.video_id: entry for entry in self.videos}

    def video(self, video_id: str) -> VideoEntry:
        """The entry of a video id. Raises ManifestError for an unknown one."""
        try:
            return self._by_id[video_id]
        except KeyError:
            raise ManifestError(f"{video_id}: no such video in the manifest of {len(self.videos)} videos") from None

    def video_path(self, video_id: str) -> AnyPath:
        """The path of a video's file or folder. Raises ManifestError for an unknown id."""
        path: AnyPath = self.root / self.video(video_id).path
        return path

    def split(self, name: str) -> tuple[VideoEntry, ...]:
        """The videos of `train` or `test`."""
        if name not in SPLITS:
            raise ManifestError(f"split: expected one of {', '.join(SPLITS)}, got {name!r}")
        return tuple(entry for entry in self.videos if entry.split == name)

    def without(self, video_ids: Sequence[str]) -> Manifest:
        """The manifest without some videos that could not be read. Raises ManifestError when too little is left."""
        if not video_ids:
            return self
        gone = set(video_ids)
        rest = replace(
            self,
            videos=tuple(entry for entry in self.videos if entry.video_id not in gone),
            intervals=None
            if self.intervals is None
            else tuple(interval for interval in self.intervals if interval.video_id not in gone),
        )
        problems = Problems()
        check_splits(rest.videos, problems)
        if problems.lines:
            problems.add("quarantine", f"{len(gone)} unreadable video(s) left out: {', '.join(sorted(gone))}")
        problems.raise_any()
        return rest

    def video_labels(self, entry: VideoEntry) -> np.ndarray:
        """Multi-hot label (1 + C,) float32 of a video; index 0 is Normal and is set when no anomaly is.

        Raises ManifestError for a test video of a manifest that was loaded without the ground truth.
        """
        shown = entry.known_labels
        labels = np.array([0.0, *(label in shown for label in self.classes)], dtype=np.float32)
        labels[0] = 1.0 - labels.max()
        return labels

    def frame_labels(self, video_id: str, n_frames: int) -> np.ndarray:
        """The ground truth of a test video.

        Args:
            video_id: a video of the test split.
            n_frames: decoded frames, N.

        Returns:
            (N, C) bool, True where a frame shows a class.

        Raises:
            ManifestError: the video is unknown or for training; an interval begins past the last decoded frame, or
                ends past it and `Origin.clip_past_end` is not set; or the manifest was loaded without the ground truth.
        """
        truth = np.zeros((n_frames, len(self.classes)), dtype=bool)
        for interval in self._intervals(video_id):
            end = n_frames if interval.end_frame is None else interval.end_frame
            if end > n_frames and not (self.origin.clip_past_end and interval.start_frame < n_frames):
                raise ManifestError(
                    f"{video_id}: the {interval.label} interval [{interval.start_frame}, {end}) ends past the "
                    f"{n_frames} frames that were decoded"
                )
            truth[interval.start_frame : end, self.classes.index(interval.label)] = True
        return truth

    def clipped(self, video_id: str, n_frames: int) -> list[str]:
        """What `frame_labels` cuts off, one line per interval. Arguments and errors as there."""
        cut = f"is cut to the {n_frames} decoded frames"
        return [
            f"{video_id}: the {interval.label} interval [{interval.start_frame}, {interval.end_frame}) {cut}"
            for interval in self._intervals(video_id)
            if interval.end_frame is not None and interval.end_frame > n_frames
        ]

    @property
    def known_intervals(self) -> tuple[Interval, ...]:
        """The intervals. Raises ManifestError where the ground truth was not read."""
        if self.intervals is None:
            raise ManifestError("the ground truth of the test videos was not read")
        return self.intervals

    def _intervals(self, video_id: str) -> list[Interval]:
        if self.video(video_id).split != "test":
            raise ManifestError(f"{video_id}: a training video has no frame labels")
        if self.intervals is None:
            raise ManifestError(f"{video_id}: the ground truth of the test videos was not read")
        return [interval for interval in self.intervals if interval.video_id == video_id]


def check_splits(videos: Sequence[VideoEntry], problems: Problems, splits: Sequence[str] = SPLITS) -> None:
    """Add a problem for every split without videos, and for a training split from which nothing can be learnt.

    Args:
        videos: of all splits.
        problems: receives them.
        splits: the splits that must have videos.
    """
    for split in splits:
        if not any(entry.split == split for entry in videos):
            problems.add("split", f"no {split} video")
    train = [bool(entry.labels) for entry in videos if entry.split == "train"]
    if train and not any(train):
        problems.add("split", "no anomalous training video: nothing can be learnt")
    if train and all(train):
        problems.add("split", "no normal training video: nothing can be learnt")


def save(manifest: Manifest, folder: Path) -> None:
    """Write a manifest: videos.parquet, truth/labels.parquet, truth/intervals.parquet, and last of all manifest.json.

    videos.parquet does not hold the labels of test videos.

    Raises:
        ManifestError: the manifest was loaded without the ground truth.
    """
    if manifest.intervals is None:
        raise ManifestError(f"{folder}: a manifest without the ground truth cannot be saved")
    (folder / TRUTH).mkdir(parents=True, exist_ok=True)
    videos = [replace(entry, labels=None) if entry.split == "test" else entry for entry in manifest.videos]
    _write_table(folder / VIDEOS, videos, [field.name for field in fields(VideoEntry)])
    _write_table(folder / LABELS, manifest.split("test"), ["video_id", "labels"])
    _write_table(folder / INTERVALS, manifest.intervals, [field.name for field in fields(Interval)])
    facts = {
        "schema_version": SCHEMA_VERSION,
        "root": str(manifest.root),
        "classes": list(manifest.classes),
        "origin": asdict(manifest.origin),
    }
    (folder / "manifest.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def _write_table(file: Path, rows: Sequence[VideoEntry | Interval], columns: Sequence[str]) -> None:
    table = {name: pa.array([getattr(row, name) for row in rows], type=TYPES[name]) for name in columns}
    pq.write_table(pa.table(table), file)


def load(folder: Path, *, truth: bool = False) -> Manifest:
    """Read what `save` wrote.

    Args:
        folder: folder of the manifest.
        truth: read the ground truth (labels and intervals of the test videos) too. Only the evaluation does, and
            `gig explain` on request.

    Raises:
        ManifestError: it is missing, damaged or of another version.
    """
    try:
        facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        version = facts["schema_version"]
        if version != SCHEMA_VERSION:
            raise ManifestError(f"{folder}: manifest of version {version}, this code reads {SCHEMA_VERSION}")
        rows = pq.read_table(folder / VIDEOS).to_pylist()
        intervals = None
        if truth:
            labels = {row["video_id"]: row["labels"] for row in pq.read_table(folder / LABELS).to_pylist()}
            rows = [row | {"labels": labels[row["video_id"]]} if row["split"] == "test" else row for row in rows]
            intervals = tuple(Interval(**row) for row in pq.read_table(folder / INTERVALS).to_pylist())
        return Manifest(
            root=path_of(facts["root"]),
            classes=tuple(facts["classes"]),
            videos=tuple(_entry(row) for row in rows),
            intervals=intervals,
            origin=_origin(facts["origin"]),
        )
    except ManifestError:
        raise
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise ManifestError(f"{folder}: not a manifest ({error})") from error


def _entry(row: dict[str, Any]) -> VideoEntry:
    labels = row["labels"]
    return VideoEntry(**row | {"labels": None if labels is None else tuple(labels)})


def _origin(facts: dict[str, Any]) -> Origin:
    files = tuple(SourceFile(**file) for file in facts["files"])
    return Origin(**facts | {"files": files, "warnings": tuple(facts["warnings"])})
