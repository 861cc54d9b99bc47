"""Checks of labels and intervals against the classes and the videos."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pipeline.data.manifest import Interval, VideoEntry
from pipeline.data.problems import Problems, look_alike, nearest, same_but_capitals

__all__ = [
    "PlacedInterval",
    "PlacedVideo",
    "Rules",
    "and_more",
    "check_annotated",
    "check_class_names",
    "check_classes",
    "check_interval",
    "check_labels",
    "check_overlaps",
    "with_meant_label",
    "with_meant_labels",
]


@dataclass(frozen=True)
class PlacedVideo:
    """A video and where it is listed."""

    place: str
    entry: VideoEntry


@dataclass(frozen=True)
class PlacedInterval:
    """An interval and where it is listed."""

    place: str
    interval: Interval


@dataclass(frozen=True)
class Rules:
    """What labels may be, and where the checks report.

    Attributes:
        classes: the anomaly classes.
        normal_label: the label of normal videos.
        published: the annotations are published ones, which the user cannot correct.
        problems: what is wrong.
        notes: what is only reported.
    """

    classes: tuple[str, ...]
    normal_label: str
    published: bool
    problems: Problems
    notes: list[str]

    @property
    def known(self) -> tuple[str, ...]:
        """All labels that may be used."""
        return (*self.classes, self.normal_label)

    @property
    def faults(self) -> list[str]:
        """Where faults go that published annotations may have: there they are notes, elsewhere problems."""
        return self.notes if self.published else self.problems.lines

    def meant(self, label: str) -> str:
        """The known label that differs from `label` in capitals only; the label itself where there is none."""
        return same_but_capitals(label, self.known) or label


def check_class_names(rules: Rules) -> None:
    """There are classes, each once, and none of them is the normal label."""
    classes, normal_label = rules.classes, rules.normal_label
    if not classes or len(set(classes)) < len(classes) or normal_label in classes:
        rules.problems.add("classes", f"expected different anomaly classes without {normal_label}, got {list(classes)}")


def check_labels(rows: Iterable[tuple[str, str]], rules: Rules) -> None:
    """Check the (place, label) of every row. Each unknown label is one problem, however many rows have it."""
    places: dict[str, list[str]] = {}
    for place, label in rows:
        if label not in rules.known:
            places.setdefault(label, []).append(place)
    for label, found in places.items():
        parts = [part.strip() for part in label.split(",")]
        several = len(parts) > 1 and all(same_but_capitals(part, rules.known) for part in parts)
        hint = "several labels are separated by ';'" if several else nearest(label, rules.known)
        rules.problems.add(and_more(found), f"unknown label {label!r}; {hint}")


def with_meant_labels(video: PlacedVideo, rules: Rules) -> PlacedVideo:
    """The video with the anomaly classes that its labels mean, each in its known spelling."""
    meant = [rules.meant(label) for label in video.entry.known_labels]
    labels = tuple(label for label in meant if label != rules.normal_label)
    return replace(video, entry=replace(video.entry, labels=labels))


def with_meant_label(annotation: PlacedInterval, rules: Rules) -> PlacedInterval:
    """The interval with the class that its label means, in its known spelling."""
    interval = annotation.interval
    return replace(annotation, interval=replace(interval, label=rules.meant(interval.label)))


def check_interval(annotation: PlacedInterval, videos: Mapping[str, PlacedVideo], rules: Rules) -> None:
    """The interval holds frames, and is of a test video that has its label."""
    place, interval, problems = annotation.place, annotation.interval, rules.problems
    video_id, label, end = interval.video_id, interval.label, interval.end_frame
    if interval.start_frame < 0 or (end is not None and end <= interval.start_frame):
        what = f"[{interval.start_frame}, {end}) begins before frame 0 or is empty (the end is not part of it)"
        problems.add(place, f"{video_id}: the interval {what}")
    if video_id not in videos:
        problems.add(place, f"video {video_id!r} is not in the video list{_other_name(video_id, videos)}")
        return
    entry = videos[video_id].entry
    if entry.split == "train":
        problems.add(place, f"{video_id} is a training video; training has video-level labels only")
    elif label in rules.known and label not in entry.known_labels:
        labels = ", ".join(entry.known_labels) or rules.normal_label
        problems.add(place, f"{video_id} is labelled {labels}, its interval {label!r}")


def _other_name(video_id: str, known: Collection[str]) -> str:
    """A hint for an id that is not listed: a listed one that differs in Unicode form, capitals or a file's suffix."""
    if look_alike(video_id, known):
        return ", where a name that looks the same has another Unicode form; copy it from there"
    other = same_but_capitals(video_id, known) or same_but_capitals(PurePosixPath(video_id).stem, known)
    return f"; did you mean {other!r}?" if other else ""


def check_overlaps(annotations: Iterable[PlacedInterval], rules: Rules) -> None:
    """No two intervals of one video and class share frames. Intervals that are wrong in themselves are left out."""
    groups: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    for annotation in annotations:
        interval = annotation.interval
        start, end = interval.start_frame, interval.end_frame
        if end is not None and 0 <= start < end:
            groups.setdefault((interval.video_id, interval.label), []).append((start, end, annotation.place))
    what_then = "; their frames count once" if rules.published else ""
    for (video_id, label), group in groups.items():
        start, reach, _ = min(group)
        for next_start, next_end, place in sorted(group)[1:]:
            if next_start < reach:
                what = f"{video_id}: the {label} interval [{next_start}, {next_end}) overlaps [{start}, {reach})"
                rules.faults.append(f"{place}: {what}{what_then}")
            if next_end > reach:
                start, reach = next_start, next_end


def check_annotated(videos: Iterable[PlacedVideo], annotations: Iterable[PlacedInterval], rules: Rules) -> None:
    """Every test video has an interval of each of its classes."""
    annotated = {(annotation.interval.video_id, annotation.interval.label) for annotation in annotations}
    for video in videos:
        entry = video.entry
        if entry.split != "test":
            continue
        classes = [label for label in entry.known_labels if label in rules.classes]
        if bare := [label for label in classes if (entry.video_id, label) not in annotated]:
            what = f"{entry.video_id} is a test video of {', '.join(bare)} without an interval of it"
            rules.problems.add(video.place, what)


def check_classes(entries: Sequence[VideoEntry], rules: Rules) -> None:
    """Every class is shown by a video, and by one for training."""
    splits = {label: {entry.split for entry in entries if label in entry.known_labels} for label in rules.classes}
    if bare := [label for label, found in splits.items() if not found]:
        rules.faults.append(
            f"classes: no video is labelled {', '.join(bare)}; list one of each, or leave them out of dataset.classes"
        )
    if unlearnt := [label for label, found in splits.items() if found and "train" not in found]:
        rules.notes.append(f"classes: no training video is labelled {', '.join(unlearnt)}: their scores mean nothing")


def and_more(places: Sequence[str]) -> str:
    """The first of some places, and how many there are besides."""
    return places[0] + (f" and {len(places) - 1} more" if len(places) > 1 else "")
