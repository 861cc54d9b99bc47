"""What every data set must satisfy, whichever adapter read it; all problems are listed at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import ManifestError

if TYPE_CHECKING:
    from pipeline.data.manifest import Interval, Manifest, VideoEntry

__all__ = ["SPLITS", "Problems", "check_splits", "escapes", "nearest", "validate"]

SPLITS = ("train", "test")


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
    splits: Sequence[str] = SPLITS,
    normal_label: str = "Normal",
    video_places: Sequence[str] = (),
    interval_places: Sequence[str] = (),
    notes: list[str] | None = None,
) -> None:
    """Check what every data set must satisfy, whichever adapter read it.

    Args:
        manifest: the tables to check; nothing on disk is looked at.
        problems: what the adapter has found already; raised with the rest.
        splits: those that must be there.
        normal_label: the name that no class may have.
        video_places: where each video was listed ("videos.csv, row 3"), parallel to manifest.videos.
        interval_places: the same for manifest.intervals.
        notes: what is told of overlapping intervals of one class, which count once; without it they are problems.

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
    _check_overlaps(manifest.intervals, interval_places, problems, notes)
    annotated = {(interval.video_id, interval.label) for interval in manifest.intervals}
    for place, entry in first.values():
        bare = [label for label in entry.labels if (entry.video_id, label) not in annotated]
        if entry.split == "test" and bare:
            problems.add(place, f"{entry.video_id} is a test video of {', '.join(bare)} without an interval of it")
    check_splits(manifest.videos, problems, splits)
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


def _check_overlaps(intervals: Sequence[Interval], places: Sequence[str], problems: Problems, notes: list[str] | None) -> None:
    """Sound intervals of one video and class that share frames."""
    groups: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    for interval, place in zip(intervals, places, strict=True):
        start, end = interval.start_frame, interval.end_frame
        if end is not None and 0 <= start < end:
            groups.setdefault((interval.video_id, interval.label), []).append((start, end, place))
    for (video_id, label), group in groups.items():
        start, reach, _ = min(group)
        for next_start, next_end, place in sorted(group)[1:]:
            if next_start < reach:
                what = f"{video_id}: the {label} interval [{next_start}, {next_end}) overlaps [{start}, {reach})"
                if notes is None:
                    problems.add(place, what)
                else:
                    notes.append(f"{place}: {what}; their frames count once")
            if next_end > reach:
                start, reach = next_start, next_end


def check_splits(videos: Sequence[VideoEntry], problems: Problems, splits: Sequence[str] = SPLITS) -> None:
    """The splits are there, and that for training has something to learn from."""
    for split in splits:
        if not any(entry.split == split for entry in videos):
            problems.add("split", f"no {split} video")
    train = [bool(entry.labels) for entry in videos if entry.split == "train"]
    if train and not any(train):
        problems.add("split", "no anomalous training video: nothing can be learnt")
    if train and all(train):
        problems.add("split", "no normal training video: nothing can be learnt")
