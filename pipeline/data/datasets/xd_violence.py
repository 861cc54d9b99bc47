"""XD-Violence (Wu et al. 2020): 6 classes, 4,754 untrimmed videos, several labels a video.

A video's labels are in its name, `<source>__#<part>_label_<codes>.mp4`, the codes being A (normal) or B1, B2, B4, B5,
B6, G, padded with 0: `_label_G-B2-B6`, `_label_B1-0-0`. A normal test video has no line in the annotation files.
annotations.txt has an anomalous test video a line: its name, with or without `.mp4`, and any number of pairs of start
and end; annotations_multiclasses.txt has the same with a code before each pair. Frames are counted from 0 and the end
is part of the interval in the files: it is [start, end + 1) here.

Which frames are anomalous is what annotations.txt says, the published truth; the other file says of which class. Where
it goes beyond the first it is cut, with a warning. One official name and its intervals disagree on the class; the
intervals count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.config import XdViolenceDataset
from pipeline.data.datasets.listed import ListedInterval, ListedVideo, listed_files, read_lines
from pipeline.data.manifest import Interval
from pipeline.data.problems import Problems

__all__ = ["CODES", "PUBLISHED", "VERSION", "annotation_files", "read_intervals", "read_videos"]

VERSION = 1
PUBLISHED = True
CODES = {"B1": "Fighting", "B2": "Shooting", "B4": "Riot", "B5": "Abuse", "B6": "CarAccident", "G": "Explosion"}
NAME = re.compile(r"(?P<source>.+?)(?:__#.*)?_label_(?P<codes>[A-Z0-9]+(?:-[A-Z0-9]+)*)", re.DOTALL)
OTHER_CODES = {"Ip.Man.2008__#01-40-37_01-42-07_label_B4-0-0": "B1"}
"""Official names whose intervals are of another class."""

Pair = tuple[str, int, int]


def annotation_files(dataset: XdViolenceDataset) -> list[Path]:
    """What intervals are read from; labels are in the names."""
    files = [dataset.root / dataset.annotations, dataset.root / dataset.class_annotations]
    return [*files, dataset.root / dataset.frame_counts] if dataset.frame_counts else files


def read_videos(dataset: XdViolenceDataset, problems: Problems) -> list[ListedVideo]:
    """The videos in the two folders, labelled by their names."""
    videos = []
    for split, folder in (("train", dataset.train), ("test", dataset.test)):
        for path in listed_files(dataset, split, folder, problems):
            place, video_id = str(path), path.name if path.is_dir() else path.stem
            match = NAME.fullmatch(video_id)
            codes = [code for code in match["codes"].split("-") if code != "0"] if match else []
            unknown = [code for code in codes if code not in (*CODES, "A")]
            if not codes or unknown or ("A" in codes and len(codes) > 1):
                problems.add(
                    place, f"expected a name that ends in _label_A or in codes of {', '.join(CODES)}, got {video_id!r}"
                )
                continue
            if split == "test":
                codes = [OTHER_CODES.get(video_id, code) for code in codes]
            labels = tuple(dict.fromkeys(CODES[code] for code in codes if code != "A"))
            relative = path.relative_to(dataset.root).as_posix()
            videos.append(ListedVideo(place, video_id, relative, split, labels, match["source"]))
    return videos


def read_intervals(
    dataset: XdViolenceDataset, videos: Sequence[ListedVideo], problems: Problems, notes: list[str]
) -> list[ListedInterval]:
    """The intervals of each class, within those of annotations.txt."""
    anomalous = _rows(dataset.root / dataset.annotations, 2, problems)
    classwise = _rows(dataset.root / dataset.class_annotations, 3, problems)
    for file, rows, others in (
        (dataset.class_annotations, anomalous, classwise),
        (dataset.annotations, classwise, anomalous),
    ):
        for video_id in sorted(set(rows) - set(others)):
            problems.add(rows[video_id][0], f"{video_id} is not in {file}")
    present = {video.video_id: video for video in videos if video.split == "test"}
    intervals = []
    for video_id, (place, spans) in anomalous.items():
        if video_id not in present:
            problems.add(place, f"{video_id}: no such video in {dataset.root / dataset.test}")
        elif video_id in classwise:
            intervals += _of_video(video_id, spans, classwise[video_id], problems, notes)
            if video_id in OTHER_CODES:
                other = CODES[OTHER_CODES[video_id]]
                notes.append(
                    f"{classwise[video_id][0]}: {video_id}: the intervals are of {other}, which its name is not; they count"
                )
    return intervals


def _of_video(
    video_id: str, spans: Sequence[Pair], row: tuple[str, list[Pair]], problems: Problems, notes: list[str]
) -> list[ListedInterval]:
    """The intervals of one video, cut to the anomalous spans; a problem where those are not all of a class."""
    place, pairs = row
    allowed = {frame for _, start, end in spans for frame in range(start, end)}
    covered: set[int] = set()
    found = []
    for code, start, end in pairs:
        frames = allowed.intersection(range(start, end))
        covered |= frames
        if len(frames) < end - start:
            notes.append(
                f"{place}: {video_id}: {code} {start} to {end - 1} goes beyond annotations.txt; it is cut to that"
            )
        for first, last in _runs(sorted(frames)):
            found.append(ListedInterval(place, Interval(video_id, CODES[code], first, last)))
    if rest := allowed - covered:
        problems.add(
            place, f"{video_id}: {len(rest)} anomalous frames of annotations.txt are of no class, the first {min(rest)}"
        )
    return found


def _runs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Half-open runs of consecutive numbers."""
    edges = [i for i in range(1, len(frames)) if frames[i] != frames[i - 1] + 1]
    return [(frames[a], frames[b - 1] + 1) for a, b in zip([0, *edges], [*edges, len(frames)], strict=True) if b > a]


def _rows(file: Path, width: int, problems: Problems) -> dict[str, tuple[str, list[Pair]]]:
    """video id -> (place, half-open (code, start, end)) of a file whose groups have `width` cells; the code is "" where
    none is."""
    rows: dict[str, tuple[str, list[Pair]]] = {}
    for place, line in read_lines(file, problems):
        video_id, *cells = line.split()
        video_id = video_id.removesuffix(".mp4")
        groups = [cells[i : i + width] for i in range(0, len(cells), width)]
        sound = all(
            len(g) == width
            and all(n.isdecimal() for n in g[-2:])
            and int(g[-2]) <= int(g[-1])
            and (width == 2 or g[0] in CODES)
            for g in groups
        )
        if not groups or not sound:
            expected = "name and pairs of start and end" if width == 2 else "name and groups of code, start, end"
            problems.add(place, f"{video_id}: expected {expected}, got {' '.join(cells)!r}")
        elif video_id in rows:
            problems.add(place, f"{video_id} is there already ({rows[video_id][0]})")
        else:
            rows[video_id] = place, [("" if width == 2 else g[0], int(g[-2]), int(g[-1]) + 1) for g in groups]
    return rows
