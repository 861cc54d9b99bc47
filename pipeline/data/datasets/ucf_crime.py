"""UCF-Crime (Sultani, Chen, Shah 2018): 13 classes, 1,900 untrimmed videos.

Anomaly_Train.txt has one path per line, `Abuse/Abuse001_x264.mp4`; its folder is the label, and normal videos lie in
`Training_Normal_Videos_Anomaly`. Temporal_Anomaly_Annotation.txt has one test video per line, its cells separated by
blanks or tabs: name (with or without a folder), an optional frame count, the class, and two pairs of start and end, -1
where there is none. In the file frames are counted from 0 and the end is part of the interval, so it is
[start, end + 1) here. (The authors' MATLAB code counts from 1, which would be one frame earlier.) Read so, seven
official intervals end past the last frame; they are cut there.

The videos may lie anywhere below the root, as the official archives unpack; they are found by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.config import UcfCrimeDataset
from pipeline.data.datasets.listed import NORMAL, ListedInterval, ListedVideo, below, read_lines
from pipeline.data.datasets.video_files import video_files
from pipeline.data.manifest import Interval
from pipeline.data.problems import Problems
from pipeline.remote import AnyPath

__all__ = ["PUBLISHED", "VERSION", "annotation_files", "read_intervals", "read_videos"]

VERSION = 1
PUBLISHED = True
NAME = re.compile(r"(?P<label>[A-Za-z]+?)(?:_Videos_?)?\d+_x264\.mp4")
TEST_ROW = re.compile(
    r"(?P<name>\S+)\s+(?:(?P<frames>-?\d+)\s+)?(?P<label>\S+)"
    r"\s+(?P<start_1>-?\d+)\s+(?P<end_1>-?\d+)\s+(?P<start_2>-?\d+)\s+(?P<end_2>-?\d+)"
)


@dataclass(frozen=True)
class _Row:
    """A line of one of the two lists.

    Attributes:
        place: file and row.
        split: of the list.
        path: the video's name, perhaps in a folder.
        label: the class column; None in the training list, which has none.
        stated_frames: the frame count, where the line has one.
        pairs: first and last frame of every interval, both part of it.
    """

    place: str
    split: str
    path: PurePosixPath
    label: str | None = None
    stated_frames: int | None = None
    pairs: tuple[tuple[int, int], ...] = ()


def annotation_files(dataset: UcfCrimeDataset) -> list[AnyPath]:
    """The files that labels and intervals are read from."""
    files = [dataset.root / dataset.train_list, dataset.root / dataset.annotations]
    return [*files, dataset.root / dataset.frame_counts] if dataset.frame_counts else files


def read_videos(dataset: UcfCrimeDataset, problems: Problems) -> list[ListedVideo]:
    """The videos of the two lists, found by name below the root. A video there that neither lists is a problem."""
    found: dict[str, list[str]] = {}
    for path in [] if dataset.frame_counts else video_files(dataset.root, problems, dataset.ignored_folders):
        found.setdefault(path.name, []).append(below(dataset.root, path))
    videos = []
    rows = _train_rows(dataset, problems) + _test_rows(dataset, problems)
    for row in rows:
        label = _label(row, problems)
        places = [row.path.as_posix()] if dataset.frame_counts else found.get(row.path.name, [])
        if not places:
            problems.add(row.place, f"{row.path.name}: no such file below {dataset.root}")
            continue
        if len(places) > 1:
            problems.add(row.place, f"{row.path.name}: lies in several places: {', '.join(places)}")
        elif (folder := PurePosixPath(places[0]).parent.name) in dataset.classes:
            _agree(folder, label, "folder on disk", row, problems)
        labels = () if label == NORMAL else (label,)
        videos.append(
            ListedVideo(row.place, row.path.stem, places[0], row.split, labels, stated_frames=row.stated_frames)
        )
    for name in sorted(set(found) - {row.path.name for row in rows}):
        problems.add(
            ", ".join(found[name]), "is in neither list; remove it, or name its folder in dataset.ignored_folders"
        )
    return videos


def read_intervals(
    dataset: UcfCrimeDataset, videos: Sequence[ListedVideo], problems: Problems, notes: list[str]
) -> list[ListedInterval]:
    """The intervals of the annotation file, half-open."""
    present = {video.video_id for video in videos}
    intervals = []
    for row in _test_rows(dataset, Problems()):  # `read_videos` has reported its problems
        video_id = row.path.stem
        if row.label == NORMAL and row.pairs:
            start, end = row.pairs[0]
            problems.add(row.place, f"{video_id} is {NORMAL} and has the interval {start} to {end}")
        elif row.label and video_id in present:
            for start, end in row.pairs:
                intervals.append(ListedInterval(row.place, Interval(video_id, row.label, start, end + 1)))
    return intervals


def _train_rows(dataset: UcfCrimeDataset, problems: Problems) -> list[_Row]:
    lines = read_lines(dataset.root / dataset.train_list, problems)
    return [_Row(place, "train", PurePosixPath(line)) for place, line in lines]


def _test_rows(dataset: UcfCrimeDataset, problems: Problems) -> list[_Row]:
    """The annotation's rows; a problem for every line that is not one."""
    rows = []
    for place, line in read_lines(dataset.root / dataset.annotations, problems):
        match = TEST_ROW.fullmatch(line)
        if not match:
            problems.add(place, f"expected name, [frames,] class, start, end, start, end, got {line!r}")
            continue
        first, second = (int(match["start_1"]), int(match["end_1"])), (int(match["start_2"]), int(match["end_2"]))
        pairs = tuple(pair for pair in (first, second) if pair != (-1, -1))
        stated_frames = int(match["frames"]) if match["frames"] else None
        rows.append(_Row(place, "test", PurePosixPath(match["name"]), match["label"], stated_frames, pairs))
    return rows


def _label(row: _Row, problems: Problems) -> str:
    """The label that a video's name, its folder and the class column agree on; a problem where they do not."""
    folder = row.path.parent.name
    match = NAME.fullmatch(row.path.name)
    if not match:
        problems.add(row.place, f"expected a name like Abuse028_x264.mp4, got {row.path.name!r}")
        return row.label or folder
    label = match["label"]
    if folder:
        _agree(NORMAL if "Normal_Videos" in folder else folder, label, "folder", row, problems)
    if row.label is not None:
        _agree(row.label, label, "label column", row, problems)
    return label


def _agree(other: str, label: str, what: str, row: _Row, problems: Problems) -> None:
    if other != label:
        problems.add(row.place, f"{row.path.name}: its name says {label}, its {what} {other}")
