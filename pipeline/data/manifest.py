"""The manifest: which videos there are, what is known of them, and the annotated intervals of the test split.

Labels are keyed by video id, never by position. The true length of a video is known only after decoding, so intervals are
checked against it when the truth is made (`frame_labels`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ManifestError

__all__ = ["SPLITS", "Interval", "Manifest", "Problems", "VideoEntry", "escapes", "load", "nearest", "save", "validate"]

SPLITS = ("train", "test")
SCHEMA_VERSION = 1
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
class VideoEntry:
    """One video.

    Attributes:
        video_id: unique name; case counts.
        path: relative to the manifest's root, with forward slashes.
        split: `train` or `test`.
        labels: anomaly classes in the video; empty means normal.
        source: what the video was cut from, if known; videos of one source never lie in both parts of a split.
        width, height: pixels, after rotation; 0 where the header cannot be read.
        fps: as the container states it.
        packets: planned number of frames; the decoder may yield another. 0 where the header cannot be read.
        bytes: size on disk.
    """

    video_id: str
    path: str
    split: str
    labels: tuple[str, ...]
    source: str | None
    width: int
    height: int
    fps: float
    packets: int
    bytes: int


@dataclass(frozen=True)
class Interval:
    """Frames [start_frame, end_frame) of a test video that show `label`; end_frame None is the end of the video.

    None stands for a length that is not known before decoding: `frame_labels` puts the decoded count in its place.
    """

    video_id: str
    label: str
    start_frame: int
    end_frame: int | None


@dataclass(frozen=True)
class Manifest:
    """All videos and intervals of a data set; `classes` are the anomaly classes in the order of the outputs 1..C."""

    root: Path
    classes: tuple[str, ...]
    videos: tuple[VideoEntry, ...]
    intervals: tuple[Interval, ...]

    @cached_property
    def _by_id(self) -> dict[str, VideoEntry]:
        return {entry.video_id: entry for entry in self.videos}

    def video(self, video_id: str) -> VideoEntry:
        """The entry of an id. Raises ManifestError."""
        try:
            return self._by_id[video_id]
        except KeyError:
            raise ManifestError(f"{video_id}: no such video in the manifest of {len(self.videos)} videos") from None

    def video_path(self, video_id: str) -> Path:
        """Where the video lies."""
        return self.root / self.video(video_id).path

    def split(self, name: str) -> tuple[VideoEntry, ...]:
        """The videos of `train` or `test`."""
        if name not in SPLITS:
            raise ManifestError(f"split: expected one of {', '.join(SPLITS)}, got {name!r}")
        return tuple(entry for entry in self.videos if entry.split == name)

    def without(self, video_ids: Sequence[str]) -> Manifest:
        """The manifest without some videos, which could not be read. Raises ManifestError when too little is left."""
        if not video_ids:
            return self
        gone = set(video_ids)
        rest = replace(
            self,
            videos=tuple(entry for entry in self.videos if entry.video_id not in gone),
            intervals=tuple(interval for interval in self.intervals if interval.video_id not in gone),
        )
        problems = Problems()
        _check_splits(rest.videos, problems)
        if problems.lines:
            problems.add("quarantine", f"{len(gone)} unreadable video(s) left out: {', '.join(sorted(gone))}")
        problems.raise_any()
        return rest

    def video_labels(self, entry: VideoEntry) -> np.ndarray:
        """Multi-hot label (1 + C,) float32; index 0 is Normal, set when no anomaly is."""
        labels = np.array([0.0, *(label in entry.labels for label in self.classes)], dtype=np.float32)
        labels[0] = 1.0 - labels.max()
        return labels

    def frame_labels(self, video_id: str, n_frames: int) -> np.ndarray:
        """The truth of a test video, (N, C) bool.

        Args:
            video_id: a video of the test split.
            n_frames: decoded frames, N.

        Raises:
            ManifestError: an unknown or a training video, or an interval that reaches past the last decoded frame.
        """
        if self.video(video_id).split != "test":
            raise ManifestError(f"{video_id}: a training video has no frame labels")
        truth = np.zeros((n_frames, len(self.classes)), dtype=bool)
        for interval in self.intervals:
            if interval.video_id != video_id:
                continue
            end = n_frames if interval.end_frame is None else interval.end_frame
            if end > n_frames:
                raise ManifestError(
                    f"{video_id}: the {interval.label} interval [{interval.start_frame}, {end}) ends past the "
                    f"{n_frames} frames that were decoded"
                )
            truth[interval.start_frame : end, self.classes.index(interval.label)] = True
        return truth


@dataclass
class Problems:
    """Everything wrong with a data set, each with its place (file and row); raised together."""

    lines: list[str] = field(default_factory=list)

    def add(self, place: str, message: str) -> None:
        self.lines.append(f"{place}: {message}")

    def raise_any(self) -> None:
        """Raise ManifestError with every problem added, if there is one."""
        if self.lines:
            raise ManifestError(f"{len(self.lines)} problem(s) in the data set\n  " + "\n  ".join(self.lines))


def nearest(name: str, known: Sequence[str]) -> str:
    """What to say after an unknown name: the known one it may be a slip of, or all of them."""
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1)
    match = next((k for k in known if near and k.lower() == near[0]), None)
    return f"did you mean {match!r}?" if match else f"expected one of {', '.join(known)}"


def escapes(path: str) -> bool:
    """Whether a listed path is empty, absolute or climbs out of the root with `..`."""
    return not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts


def validate(
    manifest: Manifest,
    problems: Problems | None = None,
    *,
    normal_label: str = "Normal",
    video_places: Sequence[str] = (),
    interval_places: Sequence[str] = (),
) -> None:
    """Check what every data set must satisfy, whichever adapter read it.

    Args:
        manifest: the tables to check; nothing on disk is looked at.
        problems: what the adapter has found already; raised with the rest.
        normal_label: the name that no class may have.
        video_places: where each video was listed ("videos.csv, row 3"), parallel to manifest.videos.
        interval_places: the same for manifest.intervals.

    Raises:
        ManifestError: with every problem found.
    """
    problems = problems if problems is not None else Problems()
    video_places = video_places or [f"video {entry.video_id!r}" for entry in manifest.videos]
    interval_places = interval_places or [f"interval of {interval.video_id!r}" for interval in manifest.intervals]
    classes = manifest.classes
    if not classes or len(set(classes)) < len(classes) or normal_label in classes:
        problems.add("classes", f"expected different anomaly classes without {normal_label}, got {list(classes)}")
    first: dict[str, tuple[str, VideoEntry]] = {}
    files: dict[str, VideoEntry] = {}
    for place, entry in zip(video_places, manifest.videos, strict=True):
        if not entry.video_id:
            problems.add(place, "video_id is empty")
        elif entry.video_id in first:
            problems.add(place, f"video_id {entry.video_id!r} is taken already ({first[entry.video_id][0]})")
        first.setdefault(entry.video_id, (place, entry))
        if escapes(entry.path):
            problems.add(place, f"path: expected one below the root {manifest.root}, got {entry.path!r}")
        other = files.setdefault(entry.path, entry)
        if other.video_id != entry.video_id:  # of two splits it would be a leak, of one it would count twice
            problems.add(place, f"path: {entry.path!r} is that of {other.video_id!r} already")
        if entry.split not in SPLITS:
            problems.add(place, f"split: expected one of {', '.join(SPLITS)}, got {entry.split!r}")
        for label in entry.labels:
            if label not in classes:
                problems.add(place, f"unknown label {label!r}; {nearest(label, [*classes, normal_label])}")
    for place, interval in zip(interval_places, manifest.intervals, strict=True):
        entry = first.get(interval.video_id, (place, None))[1]
        _check_interval(place, interval, entry, classes, normal_label, problems)
    annotated = {(interval.video_id, interval.label) for interval in manifest.intervals}
    for place, entry in first.values():
        bare = [label for label in entry.labels if (entry.video_id, label) not in annotated]
        if entry.split == "test" and bare:
            problems.add(place, f"{entry.video_id} is a test video of {', '.join(bare)} without an interval of it")
    _check_splits(manifest.videos, problems)
    problems.raise_any()


def _check_interval(
    place: str,
    interval: Interval,
    entry: VideoEntry | None,
    classes: Sequence[str],
    normal_label: str,
    problems: Problems,
) -> None:
    video_id, label, end = interval.video_id, interval.label, interval.end_frame
    if interval.start_frame < 0 or (end is not None and end <= interval.start_frame):
        what = f"[{interval.start_frame}, {end}) begins before frame 0 or is empty (the end is not part of it)"
        problems.add(place, f"{video_id}: the interval {what}")
    if entry is None:
        problems.add(place, f"video {video_id!r} is not in the video list")
    elif entry.split == "train":
        problems.add(place, f"{video_id} is a training video; training has video-level labels only")
    elif label not in entry.labels:
        hint = "" if label in classes else f"; {nearest(label, classes)}"
        labels = ", ".join(entry.labels) or normal_label
        problems.add(place, f"{video_id} is labelled {labels}, its interval {label!r}{hint}")


def _check_splits(videos: Sequence[VideoEntry], problems: Problems) -> None:
    for split in SPLITS:
        if not any(entry.split == split for entry in videos):
            problems.add("split", f"no {split} video")
    train = [bool(entry.labels) for entry in videos if entry.split == "train"]
    if train and not any(train):
        problems.add("split", "no anomalous training video: nothing can be learnt")
    if train and all(train):
        problems.add("split", "no normal training video: nothing can be learnt")


def save(manifest: Manifest, folder: Path) -> None:
    """Write videos.parquet, intervals.parquet and manifest.json, the last when the tables are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows, kind in (
        ("videos", manifest.videos, VideoEntry),
        ("intervals", manifest.intervals, Interval),
    ):
        columns = {
            column.name: pa.array([getattr(row, column.name) for row in rows], type=TYPES[column.name]) for column in fields(kind)
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    facts = {"schema_version": SCHEMA_VERSION, "root": str(manifest.root), "classes": list(manifest.classes)}
    (folder / "manifest.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def load(folder: Path) -> Manifest:
    """Read what `save` wrote. Raises ManifestError when it is missing, damaged or of a newer version."""
    try:
        facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        version = facts["schema_version"]
        if version > SCHEMA_VERSION:
            raise ManifestError(f"{folder}: manifest of version {version}, this code reads up to {SCHEMA_VERSION}")
        videos = pq.read_table(folder / "videos.parquet").to_pylist()
        intervals = pq.read_table(folder / "intervals.parquet").to_pylist()
        return Manifest(
            root=Path(facts["root"]),
            classes=tuple(facts["classes"]),
            videos=tuple(VideoEntry(**row | {"labels": tuple(row["labels"])}) for row in videos),
            intervals=tuple(Interval(**row) for row in intervals),
        )
    except ManifestError:
        raise
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise ManifestError(f"{folder}: not a manifest ({error})") from error
