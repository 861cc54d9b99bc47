"""The CSV adapter: any videos, listed in one file, the test intervals in another.

videos.csv has the columns video_id, path (relative to the root, or absolute and below it), split (train or test), label
(several separated by `;`, or the normal label; the column may be called `labels`) and optionally source; other columns
are ignored. `pipeline.data.tables` says which text is read. annotations.csv has the columns video_id, label,
start_frame, end_frame: frames are counted from 0 and the end is not part of the interval. A row's number in a message
is its line in the file; the header is line 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import CsvDataset
from pipeline.data.datasets.listed import ListedInterval, ListedVideo
from pipeline.data.datasets.paths import below_root
from pipeline.data.manifest import SPLITS, Interval
from pipeline.data.problems import Problems, same_but_capitals
from pipeline.data.tables import read_rows
from pipeline.remote import AnyPath

__all__ = ["PUBLISHED", "VERSION", "annotation_files", "read_interval_table", "read_intervals", "read_videos"]

VERSION = 2
PUBLISHED = False
VIDEO_COLUMNS = ("video_id", "path", "split", "label")
INTERVAL_COLUMNS = ("video_id", "label", "start_frame", "end_frame")


def annotation_files(dataset: CsvDataset) -> list[AnyPath]:
    """The files that labels and intervals are read from."""
    files = [dataset.root / dataset.videos]
    if dataset.frame_counts:
        files.append(dataset.root / dataset.frame_counts)
    return [*files, dataset.root / dataset.annotations] if dataset.annotations else files


def read_videos(dataset: CsvDataset, problems: Problems) -> list[ListedVideo]:
    """The rows of the video list."""
    file = dataset.root / dataset.videos
    before = len(problems.lines)
    # Where a table of frame counts stands for the videos, they need no path.
    columns = tuple(name for name in VIDEO_COLUMNS if name != "path") if dataset.frame_counts else VIDEO_COLUMNS
    rows = read_rows(file, columns, problems, other_names={"labels": "label"})
    if not rows and len(problems.lines) == before:
        problems.add(str(file), "holds no rows")
    videos = []
    for place, values in rows:
        if values["split"] not in SPLITS and {values.get("path"), values["label"]} & set(SPLITS):
            shifted = f"the cells are not in their columns, split is {values['split']!r}"
            problems.add(place, f"{shifted}; a cell with a comma in it is put in double quotes")
            continue
        labels = _labels(values["label"], dataset.normal_label, place, problems)
        source = values.get("source") or None
        if source and (label := same_but_capitals(source, [*dataset.classes, dataset.normal_label])):
            hint = "several labels are separated by ';', not by a comma"
            problems.add(place, f"source is {source!r}, the class {label}: {hint}")
        path = below_root(dataset.root, values.get("path") or (values["video_id"] if dataset.frame_counts else ""))
        videos.append(ListedVideo(place, values["video_id"], path, values["split"], labels, source))
    return videos


def read_intervals(
    dataset: CsvDataset, videos: Sequence[ListedVideo], problems: Problems, notes: list[str]
) -> list[ListedInterval]:
    """The rows of the annotations, and whole videos where `whole_video_anomalous` asks for them."""
    intervals = read_interval_table(dataset.root / dataset.annotations, problems) if dataset.annotations else []
    if dataset.whole_video_anomalous:
        annotated = {listed.interval.video_id for listed in intervals}
        for video in videos:
            if video.split == "test" and video.video_id not in annotated:
                intervals += [
                    ListedInterval(video.place, Interval(video.video_id, label, 0, None))
                    for label in video.labels
                    if not same_but_capitals(label, [dataset.normal_label])  # a slip, which is a problem of its own
                ]
    return intervals


def read_interval_table(file: AnyPath, problems: Problems) -> list[ListedInterval]:
    """The intervals of a CSV file with the columns video_id, label, start_frame, end_frame."""
    intervals = []
    for place, values in read_rows(file, INTERVAL_COLUMNS, problems):
        video_id, label = values["video_id"], values["label"]
        start, end = values["start_frame"], values["end_frame"]
        try:
            interval = Interval(video_id, label, int(start), int(end))
        except ValueError:
            problems.add(place, f"{video_id}: expected whole frame numbers, got {start!r} and {end!r}")
            # In place of the row, so that its other cells are checked too and the video does not seem to lack an
            # interval.
            interval = Interval(video_id, label, 0, None)
        intervals.append(ListedInterval(place, interval))
    return intervals


def _labels(text: str, normal_label: str, place: str, problems: Problems) -> tuple[str, ...]:
    """The anomaly labels in a cell, each once. Whether they are classes is checked with the manifest."""
    names = list(dict.fromkeys(name.strip() for name in text.split(";") if name.strip()))
    if not names:
        problems.add(place, f"label is empty: expected {normal_label}, or classes separated by ';'")
    if normal_label in names and len(names) > 1:
        problems.add(place, f"{normal_label} together with an anomaly: {text!r}")
    return tuple(name for name in names if name != normal_label)
