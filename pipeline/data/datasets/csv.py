"""The CSV adapter: any videos, listed in one file, the test intervals in another.

videos.csv has the columns video_id, path (relative to the root), split (train or test), label (several separated by `;`, or
the normal label; `labels` is accepted as its name) and optionally source; other columns are ignored. annotations.csv has
video_id, label, start_frame, end_frame: frames are counted from 0 and the end is not part of the interval. A row's number in
a message is its line in the file, the header being line 1.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.data.decode import VideoHeader
from pipeline.data.headers import file_facts, read_headers
from pipeline.data.manifest import Interval, Manifest, Problems, VideoEntry, escapes, validate
from pipeline.data.workers import DecodeWorkers
from pipeline.errors import DecodeError, ManifestError

__all__ = ["build", "listing"]

VIDEO_COLUMNS = ("video_id", "path", "split", "label")
INTERVAL_COLUMNS = ("video_id", "label", "start_frame", "end_frame")


def build(
    root: Path,
    videos_csv: Path,
    annotations_csv: Path | None,
    classes: Sequence[str],
    normal_label: str = "Normal",
    *,
    whole_video_anomalous: bool = False,
    workers: DecodeWorkers | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read and check the two files and the headers of all videos.

    A video that is not there is a problem; one whose header cannot be read is in the manifest with a width, height and
    packet count of 0, for the extraction to try.

    Args:
        root: folder that the listed video paths are relative to.
        videos_csv: the video list, as the process finds it (not joined to `root`).
        annotations_csv: the intervals, likewise; None if there are none.
        classes: anomaly classes in the order of the outputs.
        normal_label: the label that means no anomaly.
        whole_video_anomalous: an anomalous test video without any interval is anomalous from its first frame to its last.
        workers: what reads the videos; None makes some.
        journal: where headers are kept, see `pipeline.data.headers.read_headers`.
        progress: called as progress(done, total) while headers are read.

    Raises:
        ManifestError: with every problem found, by file and row.
    """
    problems = Problems()
    rows = _read(videos_csv, VIDEO_COLUMNS, problems)
    marks = _read(annotations_csv, INTERVAL_COLUMNS, problems) if annotations_csv else []
    if not rows:
        problems.raise_any()
        raise ManifestError(f"{videos_csv}: holds no rows")
    with workers or DecodeWorkers() as decoders:
        read = partial(read_headers, workers=decoders, journal=journal, progress=progress)
        headers = _headers(root, videos_csv, rows, problems, read)
        lengths = {values["video_id"]: header.packets for (_, values), header in zip(rows, headers, strict=True)}
        paths = {values["video_id"]: root / values["path"] for _, values in rows}
        _check_ends(marks, str(annotations_csv), lengths, paths, problems, decoders)
    videos = tuple(
        VideoEntry(
            video_id=values["video_id"],
            path=Path(values["path"]).as_posix() if values["path"] else "",
            split=values["split"],
            labels=_labels(values["label"], normal_label, f"{videos_csv}, row {row}", problems),
            source=values.get("source") or None,
            width=header.width,
            height=header.height,
            fps=header.fps,
            packets=header.packets,
            bytes=header.bytes,
        )
        for (row, values), header in zip(rows, headers, strict=True)
    )
    places = [f"{annotations_csv}, row {row}" for row, _ in marks]
    intervals = [_interval(values, place, problems) for (_, values), place in zip(marks, places, strict=True)]
    if whole_video_anomalous:
        annotated = {interval.video_id for interval in intervals}
        for (row, _), entry in zip(rows, videos, strict=True):
            if entry.split == "test" and entry.video_id not in annotated:
                intervals += [Interval(entry.video_id, label, 0, None) for label in entry.labels]
                places += [f"{videos_csv}, row {row}" for _ in entry.labels]
    manifest = Manifest(root=root, classes=tuple(classes), videos=videos, intervals=tuple(intervals))
    validate(
        manifest,
        problems,
        normal_label=normal_label,
        video_places=[f"{videos_csv}, row {row}" for row, _ in rows],
        interval_places=places,
    )
    return manifest


def listing(root: Path, videos_csv: Path) -> list[tuple[str, str, str, int, int]]:
    """A cheap identity of the videos, for digests: nothing is opened but the list.

    Args:
        root: folder that the listed video paths are relative to.
        videos_csv: the video list, relative to `root` (or absolute).

    Returns:
        (video_id, split, path, bytes, mtime_ns) of every video in the order of the list. A folder of images has the sum of its
        files' sizes and the newest time; what is not on disk has -1 and -1. A list that cannot be read is empty: `build` says why.
    """
    rows = _read(root / videos_csv, ("video_id", "split", "path"), Problems())
    return [(values["video_id"], values["split"], values["path"], *file_facts(root / values["path"])) for _, values in rows]


def _read(file: Path, required: Sequence[str], problems: Problems) -> list[tuple[int, dict[str, str]]]:
    """(line number, values by column) of a CSV file's rows; none where the file or its header is unusable."""
    rows = []
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            if "label" in required and "label" not in header:
                header = ["label" if name == "labels" else name for name in header]
            missing = [name for name in required if name not in header]
            if missing or any(header.count(name) > 1 for name in required):
                what = f"no column {', '.join(missing)}" if missing else "a column is there twice"
                expected = f"expected {', '.join(required)}, got {', '.join(header) or 'nothing'}"
                problems.add(f"{file}, row 1", f"{what}: {expected}")
                return []
            for cells in reader:
                if cells:
                    cells += [""] * (len(header) - len(cells))
                    rows.append((reader.line_num, {k: v.strip() for k, v in zip(header, cells, strict=False)}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.add(str(file), f"cannot be read: {error}")
        return []
    return rows


def _labels(text: str, normal_label: str, place: str, problems: Problems) -> tuple[str, ...]:
    """Anomaly labels of a cell, each once; whether they are classes is checked with the manifest."""
    names = list(dict.fromkeys(name.strip() for name in text.split(";") if name.strip()))
    if not names:
        problems.add(place, f"label is empty: expected {normal_label}, or classes separated by ';'")
    if normal_label in names and len(names) > 1:
        problems.add(place, f"{normal_label} together with an anomaly: {text!r}")
    return tuple(name for name in names if name != normal_label)


def _headers(
    root: Path,
    file: Path,
    rows: Sequence[tuple[int, dict[str, str]]],
    problems: Problems,
    read: Callable[[Sequence[Path]], list[VideoHeader | DecodeError]],
) -> list[VideoHeader]:
    """The header of every row's video; an empty one where it cannot be read, and a problem where there is no file."""
    headers = [VideoHeader(root / values["path"], width=0, height=0, fps=0.0, packets=0, bytes=0) for _, values in rows]
    present = []
    for index, (number, values) in enumerate(rows):
        path = values["path"]
        if escapes(path):
            continue  # reported with the manifest, and never opened
        size = file_facts(root / path)[0]
        if size < 0:
            problems.add(f"{file}, row {number}", f"{values['video_id']}: {root / path}: no such file")
            continue
        headers[index] = replace(headers[index], bytes=size)
        present.append(index)
    for index, header in zip(present, read([headers[index].path for index in present]), strict=True):
        if not isinstance(header, DecodeError):
            headers[index] = header
    return headers


def _check_ends(
    marks: Sequence[tuple[int, dict[str, str]]],
    file: str,
    lengths: dict[str, int],
    paths: dict[str, Path],
    problems: Problems,
    workers: DecodeWorkers,
) -> None:
    """Intervals that end past a video's packets are checked against its decoded frames, which alone count."""
    decoded: dict[str, int] = {}
    for row, values in marks:
        video_id, end = values["video_id"], values["end_frame"]
        planned = lengths.get(video_id, 0)
        if not planned or not end.isdecimal() or int(end) <= planned:
            continue
        if video_id not in decoded:
            try:
                decoded[video_id] = workers.count_frames(paths[video_id])
            except DecodeError:
                continue  # it cannot be read: the extraction says so
        if int(end) > decoded[video_id]:
            what = f"[{values['start_frame']}, {end}) ends past the video's {decoded[video_id]} frames"
            problems.add(f"{file}, row {row}", f"{video_id}: the interval {what}")


def _interval(values: dict[str, str], place: str, problems: Problems) -> Interval:
    start, end = values["start_frame"], values["end_frame"]
    try:
        return Interval(values["video_id"], values["label"], int(start), int(end))
    except ValueError:
        problems.add(place, f"{values['video_id']}: expected whole frame numbers, got {start!r} and {end!r}")
        # Stands in for the row, so that its other cells are checked too and the video does not seem to lack an interval.
        return Interval(values["video_id"], values["label"], 0, None)
