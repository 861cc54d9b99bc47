"""Annotations that people made in another program, as a data set of the csv adapter."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.formats.facts import Numbering, VideoFacts
from pipeline.data.formats.label_studio_export import Reviewed
from pipeline.data.manifest import Interval, Manifest
from pipeline.data.problems import Problems, nearest
from pipeline.data.tables import safe_row

__all__ = ["Corrected", "correct", "write_csv"]

Stretch = tuple[int, int]


@dataclass(frozen=True)
class Corrected:
    """A data set with what people said of its videos.

    Attributes:
        manifest: with their labels and intervals in place of those before; other videos are as they were.
        reviewed: the videos of which something was said.
        changed: those of them whose labels or intervals are others now.
        notes: what was changed of what people said, or is not kept.
    """

    manifest: Manifest
    reviewed: tuple[str, ...]
    changed: tuple[str, ...]
    notes: tuple[str, ...]


def correct(
    manifest: Manifest, reviewed: Sequence[Reviewed], facts: Callable[[str], VideoFacts], problems: Problems
) -> Corrected:
    """Put what people said in the place of the labels and intervals that a data set has.

    A segment that ends past the video's last frame ends there; one that begins there, or is of no class, is a problem.
    Segments of one class that overlap are one interval. Of a training video only the classes are kept, for it has no
    intervals.

    Args:
        manifest: with its truth.
        reviewed: what people said, of videos of the manifest.
        facts: of a video with a variable frame rate: its presentation times.
        problems: told of everything that is wrong.
    """
    notes: list[str] = []
    videos = {entry.video_id: entry for entry in manifest.videos}
    before = {video_id: _intervals(manifest, video_id) for video_id in videos}
    intervals = {video_id: list(found) for video_id, found in before.items()}
    changed = []
    for review in reviewed:
        entry = videos[review.video_id]
        about = VideoFacts(entry.path, entry.packets, entry.fps) if review.steady else facts(review.video_id)
        stretches = _stretches(review, manifest.classes, about, problems, notes)
        labels = tuple(name for name in manifest.classes if name in stretches)
        found = [Interval(review.video_id, name, *stretch) for name in labels for stretch in stretches[name]]
        if entry.split != "test":
            if found:
                notes.append(f"{review.video_id}: a training video has no intervals, its classes are kept")
            found = []
        if (set(labels), set(found)) != (set(entry.labels or ()), set(before[review.video_id])):
            changed.append(review.video_id)
        videos[review.video_id] = replace(entry, labels=labels)
        intervals[review.video_id] = found
    corrected = replace(
        manifest,
        videos=tuple(videos.values()),
        intervals=tuple(interval for found in intervals.values() for interval in found),
    )
    return Corrected(corrected, tuple(review.video_id for review in reviewed), tuple(changed), tuple(notes))


def write_csv(corrected: Manifest, folder: Path, problems: Problems, normal_label: str = "Normal") -> tuple[Path, Path]:
    """Write videos.csv and annotations.csv of a data set for the csv adapter, with the root that the manifest has.

    Args:
        corrected: with its truth.
        folder: where the two files go.
        problems: those found before; names and intervals that the tables cannot hold are added.
        normal_label: the label of normal videos.

    Returns:
        The paths of the two files.

    Raises:
        ManifestError: there is a problem; then nothing is written.
    """
    rows = []
    for entry in corrected.videos:
        if bad := [name for name in (entry.labels or ()) if ";" in name]:
            problems.add(entry.video_id, f"a class with a semicolon in it cannot be written: {', '.join(bad)}")
        label = ";".join(entry.labels or ()) or normal_label
        rows.append((entry.video_id, entry.path, entry.split, label, entry.source or ""))
    annotations = [_row(corrected, interval, problems) for interval in corrected.intervals or ()]
    problems.raise_any()
    folder.mkdir(parents=True, exist_ok=True)
    videos, intervals = folder / "videos.csv", folder / "annotations.csv"
    _write(videos, ("video_id", "path", "split", "label", "source"), rows)
    _write(intervals, ("video_id", "label", "start_frame", "end_frame"), annotations)
    return videos, intervals


def _row(manifest: Manifest, interval: Interval, problems: Problems) -> tuple[str, str, int, int]:
    end = interval.end_frame or manifest.video(interval.video_id).packets
    if end <= interval.start_frame:
        problems.add(interval.video_id, "an interval to the end of a video whose length is not known")
    return interval.video_id, interval.label, interval.start_frame, end


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(safe_row(row) for row in rows)


def _intervals(manifest: Manifest, video_id: str) -> list[Interval]:
    return [interval for interval in manifest.intervals or () if interval.video_id == video_id]


def _stretches(
    review: Reviewed, classes: Sequence[str], about: VideoFacts, problems: Problems, notes: list[str]
) -> dict[str, list[Stretch]]:
    """Frames [start, end) of every class that was labelled, none of a class twice."""
    found: dict[str, list[Stretch]] = {}
    numbering = Numbering.of(about) if not review.steady else None
    for segment in review.segments:
        if segment.label not in classes:
            problems.add(segment.place, f"unknown class {segment.label!r}: {nearest(segment.label, classes)}")
            continue
        if numbering is None:
            start, end = segment.first - 1, segment.last
        elif segment.first > (numbers := numbering.numbers(0, about.frames)[1]):
            start = end = about.frames
        else:
            start, end = numbering.frames(segment.first, segment.last)
            end += segment.last > numbers  # one past the last frame, to be cut below
        if about.frames and start >= about.frames:
            problems.add(segment.place, f"the segment begins past the {about.frames} frames of the video")
            continue
        if about.frames and end > about.frames:
            notes.append(f"{segment.place}: the segment ends past the {about.frames} frames of the video, cut there")
            end = about.frames
        found.setdefault(segment.label, []).append((start, end))
    for label, stretches in found.items():
        joined = _joined(stretches)
        if len(joined) < len(stretches):
            notes.append(f"{review.place} ({review.video_id}): segments of {label} that overlap are one interval")
        found[label] = joined
    return found


def _joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for start, end in sorted(stretches):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
