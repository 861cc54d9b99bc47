"""XD-Violence (Wu et al. 2020): 6 classes, 4,754 untrimmed videos, some of them with several labels.

A video's labels are in its name, `<source>__#<part>_label_<codes>.mp4`. The codes are A (normal) or B1, B2, B4, B5, B6,
G, padded with 0: `_label_G-B2-B6`, `_label_B1-0-0`. A normal test video has no line in the annotation files.
annotations.txt has one anomalous test video per line: its name, with or without `.mp4`, and any number of pairs of
start and end. annotations_multiclasses.txt has the same with a code before each pair. In the files frames are counted
from 0 and the end is part of the interval, so it is [start, end + 1) here.

annotations.txt, the published ground truth, decides which frames are anomalous; the other file says of which class they
are. Where it goes beyond the first it is cut, with a warning. The name of one official video and its intervals disagree
on the class; the intervals count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import XdViolenceDataset
from pipeline.data.datasets.listed import ListedInterval, ListedVideo, below, listed_files, read_lines
from pipeline.data.manifest import Interval
from pipeline.data.problems import Problems
from pipeline.remote import AnyPath

__all__ = ["CODES", "PUBLISHED", "VERSION", "annotation_files", "read_intervals", "read_videos"]

VERSION = 1
PUBLISHED = True
CODES = {"B1": "Fighting", "B2": "Shooting", "B4": "Riot", "B5": "Abuse", "B6": "CarAccident", "G": "Explosion"}
NORMAL_CODE, PADDING = "A", "0"
NAME = re.compile(r"(?P<source>.+?)(?:__#.*)?_label_(?P<codes>[A-Z0-9]+(?:-[A-Z0-9]+)*)", re.DOTALL)
OTHER_CODES = {"Ip.Man.2008__#01-40-37_01-42-07_label_B4-0-0": "B1"}
"""Official names whose intervals are of another class."""


@dataclass(frozen=True)
class _Span:
    """Frames [start, end) and the code of their class; the code is empty in annotations.txt, which has none."""

    code: str
    start: int
    end: int


@dataclass(frozen=True)
class _Row:
    """The spans of one video, and where they are listed."""

    place: str
    spans: tuple[_Span, ...]


def annotation_files(dataset: XdViolenceDataset) -> list[AnyPath]:
    """The files that intervals are read from; labels are in the videos' names."""
    files = [dataset.root / dataset.annotations, dataset.root / dataset.class_annotations]
    return [*files, dataset.root / dataset.frame_counts] if dataset.frame_counts else files


def read_videos(dataset: XdViolenceDataset, problems: Problems) -> list[ListedVideo]:
    """The videos in the two folders, labelled by their names."""
    videos = []
    for split, folder in (("train", dataset.train), ("test", dataset.test)):
        for path in listed_files(dataset, split, folder, problems):
            video_id = path.name if path.is_dir() else path.stem
            match = NAME.fullmatch(video_id)
            codes = _codes(match["codes"]) if match else []
            if match is None or not codes:
                expected = f"a name that ends in _label_A or in codes of {', '.join(CODES)}"
                problems.add(str(path), f"expected {expected}, got {video_id!r}")
                continue
            if split == "test":
                codes = [OTHER_CODES.get(video_id, code) for code in codes]
            labels = tuple(dict.fromkeys(CODES[code] for code in codes if code != NORMAL_CODE))
            relative = below(dataset.root, path)
            videos.append(ListedVideo(str(path), video_id, relative, split, labels, match["source"]))
    return videos


def _codes(text: str) -> list[str]:
    """The codes of a name, without padding; none where they are not those of one normal or anomalous video."""
    codes = [code for code in text.split("-") if code != PADDING]
    if codes == [NORMAL_CODE] or all(code in CODES for code in codes):
        return codes
    return []


def read_intervals(
    dataset: XdViolenceDataset, videos: Sequence[ListedVideo], problems: Problems, notes: list[str]
) -> list[ListedInterval]:
    """The intervals of each class, within those of annotations.txt."""
    anomalous = _rows(dataset.root / dataset.annotations, problems, coded=False)
    classwise = _rows(dataset.root / dataset.class_annotations, problems, coded=True)
    for file, rows, others in (
        (dataset.class_annotations, anomalous, classwise),
        (dataset.annotations, classwise, anomalous),
    ):
        for video_id in sorted(set(rows) - set(others)):
            problems.add(rows[video_id].place, f"{video_id} is not in {file}")
    present = {video.video_id for video in videos if video.split == "test"}
    intervals = []
    for video_id, row in anomalous.items():
        if video_id not in present:
            problems.add(row.place, f"{video_id}: no such video in {dataset.root / dataset.test}")
        elif video_id in classwise:
            intervals += _of_video(video_id, row.spans, classwise[video_id], problems, notes)
            if video_id in OTHER_CODES:
                what = f"the intervals are of {CODES[OTHER_CODES[video_id]]}, which its name is not; they count"
                notes.append(f"{classwise[video_id].place}: {video_id}: {what}")
    return intervals


def _of_video(
    video_id: str, anomalous: Sequence[_Span], row: _Row, problems: Problems, notes: list[str]
) -> list[ListedInterval]:
    """The intervals of one video, cut to the anomalous spans; a problem where some anomalous frames have no class."""
    allowed = {frame for span in anomalous for frame in range(span.start, span.end)}
    covered: set[int] = set()
    found = []
    for span in row.spans:
        frames = allowed.intersection(range(span.start, span.end))
        covered |= frames
        if len(frames) < span.end - span.start:
            what = f"{span.code} {span.start} to {span.end - 1} goes beyond annotations.txt; it is cut to that"
            notes.append(f"{row.place}: {video_id}: {what}")
        for first, last in _runs(sorted(frames)):
            found.append(ListedInterval(row.place, Interval(video_id, CODES[span.code], first, last)))
    if rest := allowed - covered:
        what = f"{len(rest)} anomalous frames of annotations.txt are of no class, the first {min(rest)}"
        problems.add(row.place, f"{video_id}: {what}")
    return found


def _runs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Half-open runs of consecutive numbers."""
    edges = [i for i in range(1, len(frames)) if frames[i] != frames[i - 1] + 1]
    return [(frames[a], frames[b - 1] + 1) for a, b in zip([0, *edges], [*edges, len(frames)], strict=True) if b > a]


def _rows(file: AnyPath, problems: Problems, *, coded: bool) -> dict[str, _Row]:
    """The rows of an annotation file by video id; `coded` where a code stands before each pair of start and end."""
    rows: dict[str, _Row] = {}
    for place, line in read_lines(file, problems):
        name, *cells = line.split()
        video_id = name.removesuffix(".mp4")
        spans = _spans(cells, coded=coded)
        if not spans:
            expected = "name and groups of code, start, end" if coded else "name and pairs of start and end"
            problems.add(place, f"{video_id}: expected {expected}, got {' '.join(cells)!r}")
        elif video_id in rows:
            problems.add(place, f"{video_id} is there already ({rows[video_id].place})")
        else:
            rows[video_id] = _Row(place, spans)
    return rows


def _spans(cells: Sequence[str], *, coded: bool) -> tuple[_Span, ...]:
    """The spans that cells of a row state; none where they cannot be read."""
    width = 3 if coded else 2
    if len(cells) % width:
        return ()
    found = []
    for i in range(0, len(cells), width):
        code, first, last = cells[i : i + width] if coded else ("", *cells[i : i + width])
        if (coded and code not in CODES) or not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            return ()
        found.append(_Span(code, int(first), int(last) + 1))
    return tuple(found)
