"""UCF-Crime (Sultani, Chen, Shah 2018): 13 classes, 1,900 untrimmed videos.

Anomaly_Train.txt has a path a line, `Abuse/Abuse001_x264.mp4`; its folder is the label, and normal videos lie in
`Training_Normal_Videos_Anomaly`. Temporal_Anomaly_Annotation.txt has a test video a line: name (with or without a
folder), an optional frame count, the class, and two pairs of start and end, -1 where there is none; separated by blanks
or tabs. Frames are counted from 0 and the end is part of the interval in the file: [start, end + 1) here. (The authors'
MATLAB code counts from 1, which would be one frame earlier.) Seven official intervals so end past the last frame; they
are cut there.

The videos may lie anywhere below the root, as the official archives unpack; they are found by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.config import UcfCrimeDataset
from pipeline.data.datasets.listed import NORMAL, ListedInterval, ListedVideo, read_lines
from pipeline.data.datasets.video_files import video_files
from pipeline.data.manifest import Interval
from pipeline.data.problems import Problems

__all__ = ["PUBLISHED", "VERSION", "annotation_files", "read_intervals", "read_videos"]

VERSION = 1
PUBLISHED = True
NAME = re.compile(r"(?P<label>[A-Za-z]+?)(?:_Videos_?)?\d+_x264\.mp4")


def annotation_files(dataset: UcfCrimeDataset) -> list[Path]:
    """What labels and intervals are read from."""
    files = [dataset.root / dataset.train_list, dataset.root / dataset.annotations]
    return [*files, dataset.root / dataset.frame_counts] if dataset.frame_counts else files


def read_videos(dataset: UcfCrimeDataset, problems: Problems) -> list[ListedVideo]:
    """The videos of the two lists, found by name below the root; what is there and not listed is a problem."""
    found: dict[str, list[str]] = {}
    for path in [] if dataset.frame_counts else video_files(dataset.root, problems, dataset.ignored_folders):
        found.setdefault(path.name, []).append(path.relative_to(dataset.root).as_posix())
    videos, listed = [], set()
    lines = [
        (place, "train", line, None, None) for place, line in read_lines(dataset.root / dataset.train_list, problems)
    ]
    for place, cells in _test_rows(dataset, problems):
        lines.append((place, "test", cells[0], cells[-5], int(cells[1]) if len(cells) == 7 else None))
    for place, split, name, column, frames in lines:
        path = PurePosixPath(name)
        label = _label(path, column, place, problems)
        places = [path.as_posix()] if dataset.frame_counts else found.get(path.name, [])
        if len(places) != 1:
            what = f"lies in several places: {', '.join(places)}" if places else f"no such file below {dataset.root}"
            problems.add(place, f"{path.name}: {what}")
        elif PurePosixPath(places[0]).parent.name in dataset.classes:
            _agree(PurePosixPath(places[0]).parent.name, label, "folder on disk", place, path.name, problems)
        listed.add(path.name)
        if places:  # what is missing has been said
            videos.append(
                ListedVideo(place, path.stem, places[0], split, () if label == NORMAL else (label,), None, frames)
            )
    for name in sorted(set(found) - listed):
        problems.add(
            ", ".join(found[name]), "is in neither list; remove it, or name its folder in dataset.ignored_folders"
        )
    return videos


def read_intervals(
    dataset: UcfCrimeDataset, videos: Sequence[ListedVideo], problems: Problems, notes: list[str]
) -> list[ListedInterval]:
    """The pairs of the annotation that are not -1, half-open."""
    present = {video.video_id for video in videos}
    intervals = []
    for place, cells in _test_rows(dataset, Problems()):
        video_id, label = PurePosixPath(cells[0]).stem, cells[-5]
        numbers = [int(cell) for cell in cells[-4:]]
        pairs = [pair for pair in (numbers[:2], numbers[2:]) if pair != [-1, -1]]
        if label == NORMAL and pairs:
            problems.add(place, f"{video_id} is {NORMAL} and has the interval {pairs[0][0]} to {pairs[0][1]}")
        elif video_id in present:
            intervals += [ListedInterval(place, Interval(video_id, label, start, end + 1)) for start, end in pairs]
    return intervals


def _test_rows(dataset: UcfCrimeDataset, problems: Problems) -> list[tuple[str, list[str]]]:
    """(place, cells) of the annotation's rows: name, perhaps a frame count, class, four whole numbers."""
    rows = []
    for place, line in read_lines(dataset.root / dataset.annotations, problems):
        cells = line.split()
        numbers = cells[-4:] + (cells[1:2] if len(cells) == 7 else [])
        if len(cells) not in (6, 7) or not all(re.fullmatch(r"-?\d+", cell) for cell in numbers):
            problems.add(place, f"expected name, [frames,] class, start, end, start, end, got {line!r}")
        else:
            rows.append((place, cells))
    return rows


def _label(path: PurePosixPath, column: str | None, place: str, problems: Problems) -> str:
    """The label that a name, its folder and the label column agree on; a problem where they do not."""
    match = NAME.fullmatch(path.name)
    if not match:
        problems.add(place, f"expected a name like Abuse028_x264.mp4, got {path.name!r}")
        return column or path.parent.name
    label = match["label"]
    if path.parent.name:
        _agree(
            NORMAL if "Normal_Videos" in path.parent.name else path.parent.name,
            label,
            "folder",
            place,
            path.name,
            problems,
        )
    if column is not None:
        _agree(column, label, "label column", place, path.name, problems)
    return label


def _agree(other: str, label: str, what: str, place: str, name: str, problems: Problems) -> None:
    if other != label:
        problems.add(place, f"{name}: its name says {label}, its {what} {other}")
