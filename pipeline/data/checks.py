"""What every data set must satisfy, whichever adapter read it; all problems are listed at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.data.manifest import SPLITS, Interval, Manifest, VideoEntry, check_splits
from pipeline.data.partition import carve_validation
from pipeline.data.problems import Problems, look_alike, nearest, same_but_capitals
from pipeline.errors import ManifestError

__all__ = ["check_selections", "escapes", "validate"]


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
    selections: Collection[tuple[float, int]] = (),
) -> None:
    """Check what every data set must satisfy, whichever adapter read it.

    Where `manifest.origin.clip_past_end` is set the annotations are published ones, which nobody can correct:
    overlapping intervals of one class, sources in both splits and classes without a video are told then, and are
    problems otherwise.

    Args:
        manifest: the tables to check; nothing on disk is looked at.
        problems: what the adapter has found already; raised with the rest.
        splits: those that must be there.
        normal_label: the name that no class may have.
        video_places: where each video was listed ("videos.csv, row 3"), parallel to manifest.videos.
        interval_places: the same for manifest.intervals.
        notes: what is told goes there.
        selections: (validation_share, seed) of the validation splits that the training videos must allow.

    Raises:
        ManifestError: with every problem found.
    """
    problems = problems if problems is not None else Problems()
    notes = notes if notes is not None else []
    faults = notes if manifest.origin.clip_past_end else problems.lines
    video_places = video_places or [f"video {entry.video_id!r}" for entry in manifest.videos]
    interval_places = interval_places or [f"interval of {interval.video_id!r}" for interval in manifest.intervals]
    classes = manifest.classes
    if not classes or len(set(classes)) < len(classes) or normal_label in classes:
        problems.add("classes", f"expected different anomaly classes without {normal_label}, got {list(classes)}")
    first = _check_videos(manifest, video_places, problems)
    known = [*classes, normal_label]
    rows = [
        (place, label) for place, entry in zip(video_places, manifest.videos, strict=True) for label in entry.labels
    ]
    _check_labels(rows, known, problems)
    _check_labels([(p, i.label) for p, i in zip(interval_places, manifest.intervals, strict=True)], known, problems)
    # Every wrong label has been said: all else is held against the class that it means, so that it is one line, not
    # many.
    meant = {label: same_but_capitals(label, known) or label for label in {*(label for _, label in rows), *known}}
    entries = {
        video_id: (
            place,
            replace(entry, labels=tuple(meant[label] for label in entry.labels if meant[label] != normal_label)),
        )
        for video_id, (place, entry) in first.items()
    }
    intervals = [replace(i, label=same_but_capitals(i.label, known) or i.label) for i in manifest.intervals]
    for place, interval in zip(interval_places, intervals, strict=True):
        _check_interval(place, interval, entries, known, normal_label, problems)
    _check_overlaps(intervals, interval_places, faults, "; their frames count once" if faults is notes else "")
    annotated = {(interval.video_id, interval.label) for interval in intervals}
    for place, entry in entries.values():
        bare = [label for label in entry.labels if label in classes and (entry.video_id, label) not in annotated]
        if entry.split == "test" and bare:
            problems.add(place, f"{entry.video_id} is a test video of {', '.join(bare)} without an interval of it")
    _check_sources(list(entries.values()), faults)
    videos = [entry for _, entry in entries.values()]
    if "train" in splits:
        _check_classes(classes, videos, faults, notes)
    before = len(problems.lines)
    check_splits(videos, problems, splits)
    if len(problems.lines) == before and "train" in splits:
        check_selections(videos, selections, problems)
    problems.raise_any()


def check_selections(
    videos: Sequence[VideoEntry], selections: Collection[tuple[float, int]], problems: Problems
) -> None:
    """Every validation split that is asked for, (validation_share, seed), can be carved from the training videos."""
    train = [entry for entry in videos if entry.split == "train"]
    for share, seed in dict.fromkeys(selections):
        try:
            carve_validation(train, share, seed)
        except ManifestError as error:
            problems.lines.append(str(error))


def _check_videos(manifest: Manifest, places: Sequence[str], problems: Problems) -> dict[str, tuple[str, VideoEntry]]:
    """Ids, paths and splits; returns (place, entry) of every id where it is listed first."""
    first: dict[str, tuple[str, VideoEntry]] = {}
    files: dict[str, VideoEntry] = {}
    for place, entry in zip(places, manifest.videos, strict=True):
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
    forms: dict[str, str] = {}
    for video_id, (place, _) in first.items():
        other_id = forms.setdefault(unicodedata.normalize("NFC", video_id), video_id)
        if other_id != video_id:
            problems.add(
                place,
                f"video_id {video_id!r} looks the same as that of {first[other_id][0]}, and is another in Unicode",
            )
    return first


def _check_labels(rows: Iterable[tuple[str, str]], known: Sequence[str], problems: Problems) -> None:
    """(place, label) of every row; each unknown label is one problem, however many rows have it."""
    places: dict[str, list[str]] = {}
    for place, label in rows:
        if label not in known:
            places.setdefault(label, []).append(place)
    for label, found in places.items():
        parts = [part.strip() for part in label.split(",")]
        several = len(parts) > 1 and all(same_but_capitals(part, known) for part in parts)
        hint = "several labels are separated by ';'" if several else nearest(label, known)
        problems.add(f"{found[0]}{_and_more(found)}", f"unknown label {label!r}; {hint}")


def _check_interval(
    place: str,
    interval: Interval,
    entries: Mapping[str, tuple[str, VideoEntry]],
    known: Sequence[str],
    normal_label: str,
    problems: Problems,
) -> None:
    video_id, label, end = interval.video_id, interval.label, interval.end_frame
    entry = entries.get(video_id, (place, None))[1]
    if interval.start_frame < 0 or (end is not None and end <= interval.start_frame):
        what = f"[{interval.start_frame}, {end}) begins before frame 0 or is empty (the end is not part of it)"
        problems.add(place, f"{video_id}: the interval {what}")
    if entry is None:
        problems.add(place, f"video {video_id!r} is not in the video list{_other_name(video_id, entries)}")
    elif entry.split == "train":
        problems.add(place, f"{video_id} is a training video; training has video-level labels only")
    elif label in known and label not in entry.labels:
        labels = ", ".join(entry.labels) or normal_label
        problems.add(place, f"{video_id} is labelled {labels}, its interval {label!r}")


def _other_name(video_id: str, known: Collection[str]) -> str:
    """What to say of an id that is not listed but for its Unicode form, its capitals or a file's suffix."""
    if look_alike(video_id, known):
        return ", where a name that looks the same has another Unicode form; copy it from there"
    other = same_but_capitals(video_id, known) or same_but_capitals(PurePosixPath(video_id).stem, known)
    return f"; did you mean {other!r}?" if other else ""


def _check_sources(listed: Sequence[tuple[str, VideoEntry]], faults: list[str]) -> None:
    """Sources whose videos lie in both splits: what is tested would be known from the training."""
    sources: dict[str, dict[str, list[str]]] = {}
    for place, entry in listed:
        if entry.source:
            sources.setdefault(entry.source, {}).setdefault(entry.split, []).append(place)
    for source, places in sources.items():
        if all(split in places for split in SPLITS):
            train, test = (f"{places[split][0]}{_and_more(places[split])}" for split in SPLITS)
            faults.append(
                f"{test}: source {source!r} is in both splits, in train at {train}: the test would show what was trained on. "
                "Move them to one split, or leave `source` empty in the test if their likeness is meant"
            )


def _check_classes(classes: Sequence[str], videos: Sequence[VideoEntry], faults: list[str], notes: list[str]) -> None:
    """Classes that no video shows, or none of the training."""
    splits = {label: {entry.split for entry in videos if label in entry.labels} for label in classes}
    if bare := [label for label, found in splits.items() if not found]:
        faults.append(
            f"classes: no video is labelled {', '.join(bare)}; list one of each, or leave them out of dataset.classes"
        )
    if unlearnt := [label for label, found in splits.items() if found and "train" not in found]:
        notes.append(f"classes: no training video is labelled {', '.join(unlearnt)}: their scores mean nothing")


def _and_more(places: Sequence[str]) -> str:
    return f" and {len(places) - 1} more" if len(places) > 1 else ""


def _check_overlaps(intervals: Sequence[Interval], places: Sequence[str], faults: list[str], what_then: str) -> None:
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
                faults.append(f"{place}: {what}{what_then}")
            if next_end > reach:
                start, reach = next_start, next_end
