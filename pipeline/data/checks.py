"""What every data set must satisfy, whichever adapter read it. All problems are listed at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from pipeline.data.label_checks import (
    PlacedInterval,
    PlacedVideo,
    Rules,
    and_more,
    check_annotated,
    check_class_names,
    check_classes,
    check_interval,
    check_labels,
    check_overlaps,
    with_meant_label,
    with_meant_labels,
)
from pipeline.data.manifest import SPLITS, Manifest, VideoEntry, check_splits
from pipeline.data.partition import Division
from pipeline.data.problems import Problems
from pipeline.errors import ManifestError
from pipeline.remote import AnyPath

__all__ = ["check_divisions", "escapes", "validate"]


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
    divisions: Collection[Division] = (),
) -> None:
    """Check what every data set must satisfy, whichever adapter read it.

    Published annotations (`manifest.origin.clip_past_end`) cannot be corrected by the user. Their overlapping intervals
    of one class, sources in both splits and classes without a video are therefore notes; in other data sets they are
    problems.

    Args:
        manifest: the tables to check, with the ground truth; nothing on disk is looked at.
        problems: what the adapter has found already; raised together with the rest.
        splits: the splits that must have videos.
        normal_label: the name that no class may have.
        video_places: where each video is listed ("videos.csv, row 3"), parallel to manifest.videos.
        interval_places: the same for manifest.intervals.
        notes: a list that receives what is only reported.
        divisions: of the training videos, which these must allow.

    Raises:
        ManifestError: with every problem found.
    """
    problems = problems if problems is not None else Problems()
    notes = notes if notes is not None else []
    rules = Rules(manifest.classes, normal_label, manifest.origin.clip_past_end, problems, notes)
    intervals = manifest.known_intervals
    video_places = video_places or [f"video {entry.video_id!r}" for entry in manifest.videos]
    interval_places = interval_places or [f"interval of {interval.video_id!r}" for interval in intervals]
    listed = [PlacedVideo(place, entry) for place, entry in zip(video_places, manifest.videos, strict=True)]
    annotations = [PlacedInterval(place, interval) for place, interval in zip(interval_places, intervals, strict=True)]

    check_class_names(rules)
    videos = _check_videos(listed, manifest.root, problems)
    check_labels([(video.place, label) for video in listed for label in video.entry.known_labels], rules)
    check_labels([(annotation.place, annotation.interval.label) for annotation in annotations], rules)

    # Every wrong label has been reported. From here on each stands for the class that it means, so that one slip does
    # not become many problems.
    videos = {video_id: with_meant_labels(video, rules) for video_id, video in videos.items()}
    annotations = [with_meant_label(annotation, rules) for annotation in annotations]
    for annotation in annotations:
        check_interval(annotation, videos, rules)
    check_overlaps(annotations, rules)
    check_annotated(videos.values(), annotations, rules)
    _check_sources(videos.values(), rules)
    _check_training(videos.values(), splits, divisions, rules)
    problems.raise_any()


def check_divisions(videos: Sequence[VideoEntry], divisions: Collection[Division], problems: Problems) -> None:
    """Add a problem for every way in which the training videos cannot be divided.

    Args:
        videos: of both splits.
        divisions: those that are asked for.
        problems: receives them.
    """
    train = [entry for entry in videos if entry.split == "train"]
    for division in dict.fromkeys(divisions):
        try:
            division.held_out(train)
        except ManifestError as error:
            problems.lines.append(str(error))


def _check_videos(listed: Sequence[PlacedVideo], root: AnyPath, problems: Problems) -> dict[str, PlacedVideo]:
    """Check ids, paths and splits. Returns the first video of every id."""
    first: dict[str, PlacedVideo] = {}
    by_path: dict[str, VideoEntry] = {}
    for video in listed:
        _check_id(video, first, problems)
        first.setdefault(video.entry.video_id, video)
        _check_path(video, by_path.setdefault(video.entry.path, video.entry), root, problems)
        if video.entry.split not in SPLITS:
            problems.add(video.place, f"split: expected one of {', '.join(SPLITS)}, got {video.entry.split!r}")
    _check_unicode_forms(first, problems)
    return first


def _check_id(video: PlacedVideo, first: Mapping[str, PlacedVideo], problems: Problems) -> None:
    """The id is not empty and is not that of a video before."""
    video_id = video.entry.video_id
    if not video_id:
        problems.add(video.place, "video_id is empty")
    elif video_id in first:
        problems.add(video.place, f"video_id {video_id!r} is taken already ({first[video_id].place})")


def _check_path(video: PlacedVideo, first: VideoEntry, root: AnyPath, problems: Problems) -> None:
    """The path lies below the root; `first`, the first entry with this path, is the same video."""
    path = video.entry.path
    if escapes(path):
        problems.add(video.place, f"path: expected one below the root {root}, got {path!r}")
    if first.video_id != video.entry.video_id:  # in both splits it would be a leak, in one it would count twice
        problems.add(video.place, f"path: {path!r} is that of {first.video_id!r} already")


def _check_unicode_forms(videos: Mapping[str, PlacedVideo], problems: Problems) -> None:
    """No two ids look the same."""
    forms: dict[str, str] = {}
    for video_id, video in videos.items():
        other_id = forms.setdefault(unicodedata.normalize("NFC", video_id), video_id)
        if other_id != video_id:
            same = f"looks the same as that of {videos[other_id].place}, and is another in Unicode"
            problems.add(video.place, f"video_id {video_id!r} {same}")


def _check_sources(videos: Iterable[PlacedVideo], rules: Rules) -> None:
    """No source has videos in both splits: the test would show what was trained on."""
    sources: dict[str, dict[str, list[str]]] = {}
    for video in videos:
        if video.entry.source:
            sources.setdefault(video.entry.source, {}).setdefault(video.entry.split, []).append(video.place)
    for source, places in sources.items():
        if "train" in places and "test" in places:
            rules.faults.append(
                f"{and_more(places['test'])}: source {source!r} is in both splits, in train at "
                f"{and_more(places['train'])}: the test would show what was trained on. Move them to one split, or "
                "leave `source` empty in the test if their likeness is meant"
            )


def _check_training(
    videos: Iterable[PlacedVideo], splits: Sequence[str], divisions: Collection[Division], rules: Rules
) -> None:
    """The splits have videos, and those for training show every class and can be divided."""
    entries = [video.entry for video in videos]
    if "train" in splits:
        check_classes(entries, rules)
    before = len(rules.problems.lines)
    check_splits(entries, rules.problems, splits)
    if len(rules.problems.lines) == before and "train" in splits:
        check_divisions(entries, divisions, rules.problems)
