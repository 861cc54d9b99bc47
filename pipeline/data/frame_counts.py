"""Tables of frame counts: what is known of videos that are not at hand.

A table is a CSV file with the columns video_id and frames, and optionally fps, split, label and clip_frames. Other
columns are ignored, so per_video.csv of an evaluation can be used. The published lists of UCF-Crime (name, frames,
class, four numbers) and ShanghaiTech (name, label, frames) can be used too; a count of -1 is one that they do not
state.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.data.manifest import SPLITS, load
from pipeline.data.problems import Problems
from pipeline.data.tables import read_cell, read_text
from pipeline.errors import ManifestError
from pipeline.remote import AnyPath

__all__ = ["CountedVideo", "VideoLengths", "known_lengths", "read_frame_counts", "write_frame_counts"]

PUBLISHED = (
    re.compile(r"(?P<name>\S+)\s+(?P<frames>-?\d+)\s+[A-Za-z]+(\s+-?\d+){4}"),
    re.compile(r"(?P<name>[^,\s]+),[01],(?P<frames>-?\d+)"),
)
TABLE_COLUMNS = ("video_id", "frames", "fps", "split", "clip_frames")
SUFFIX = re.compile(r"\.(mp4|avi|mkv|mov|webm|npy)$", re.IGNORECASE)
FORMS = (
    "video_id and frames in a CSV file with a header, "
    "or a published list of UCF-Crime or ShanghaiTech that states frames"
)


@dataclass(frozen=True)
class CountedVideo:
    """A row of a table.

    Attributes:
        place: file and row.
        video_id: unique name of the video.
        n_frames: number of frames that the decoder would yield.
        fps: frames per second; 0 where the table does not say.
        split, label: as in the table; empty where it has no such column.
        clip_frames: 1, or the number is that of whole clips of so many frames: the video may have up to one clip more.
    """

    place: str
    video_id: str
    n_frames: int
    fps: float = 0.0
    split: str = ""
    label: str = ""
    clip_frames: int = 1


def read_frame_counts(file: AnyPath, problems: Problems) -> dict[str, CountedVideo]:
    """The rows of a table by video id; a problem for every row that cannot be read."""
    text = read_text(file, problems)
    if text is None:
        return {}
    lines = text.splitlines()
    header = [cell.strip() for cell in next(csv.reader(lines[:1]), [])]
    if {"video_id", "frames"} <= set(header):
        return _collect(_table_rows(file, lines, header, problems), problems)
    if any(pattern.fullmatch(line.strip()) for line in lines[:1] for pattern in PUBLISHED):
        return _collect(_published_rows(file, lines, problems), problems)
    problems.add(f"{file}, row 1", f"expected {FORMS}, got {lines[0].strip() if lines else 'nothing'!r}")
    return {}


@dataclass(frozen=True)
class VideoLengths:
    """What a manifest or a table says of videos.

    Attributes:
        frames: number of frames by video id, 0 where it is not known; None without manifest and table.
        fps: frames per second by video id, where they are stated.
        chosen: ids of the videos of a split; None if no split was asked for.
    """

    frames: Mapping[str, int] | None
    fps: Mapping[str, float]
    chosen: frozenset[str] | None


def known_lengths(manifest: Path | None, table: Path | None, split: str | None = None) -> VideoLengths:
    """The lengths of videos, from a manifest or from a table of frame counts.

    Args:
        manifest: folder of a manifest; None without one.
        table: a table; None without one.
        split: whose videos are chosen, `train` or `test`; None chooses none.

    Raises:
        ManifestError: both are given, or the one given cannot be read, or nothing says what the videos of the split
            are.
    """
    if manifest and table:
        raise ManifestError(f"{manifest} and {table} both say how long the videos are: give one of them")
    rows: list[tuple[str, int, float, str]] = []
    if manifest:
        rows = [(entry.video_id, entry.packets, entry.fps, entry.split) for entry in load(manifest).videos]
    elif table:
        problems = Problems()
        rows = [(r.video_id, r.n_frames, r.fps, r.split) for r in read_frame_counts(table, problems).values()]
        problems.raise_any()
    chosen = frozenset(row[0] for row in rows if row[3] == split) if split else None
    if split and not chosen:
        where = manifest or table or "neither a manifest nor a table of frame counts"
        raise ManifestError(f"split {split}: expected videos of that split, got {where}, which names none")
    frames = {row[0]: row[1] for row in rows} if manifest or table else None
    return VideoLengths(frames, {row[0]: row[2] for row in rows if row[2]}, chosen)


def write_frame_counts(file: Path, videos: Iterable[CountedVideo]) -> None:
    """Write a table that `read_frame_counts` reads, sorted by split (train, test, none) and video id."""
    order = {split: number for number, split in enumerate(SPLITS)}
    rows = sorted(videos, key=lambda video: (order.get(video.split, len(order)), video.video_id))
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(TABLE_COLUMNS)
        for row in rows:
            writer.writerow([row.video_id, row.n_frames, f"{row.fps:g}" if row.fps else "", row.split, row.clip_frames])


def _table_rows(file: AnyPath, lines: list[str], header: list[str], problems: Problems) -> Iterator[CountedVideo]:
    reader = csv.reader(lines[1:])
    for cells in reader:
        place = f"{file}, row {reader.line_num + 1}"
        row = {name: read_cell(cell.strip()) for name, cell in zip(header, cells, strict=False)}
        if not any(row.values()):
            continue
        frames, fps, clip = row.get("frames", ""), row.get("fps") or "0", row.get("clip_frames") or "1"
        if not row["video_id"] or not frames.isdecimal() or int(frames) < 1:
            problems.add(place, f"{row['video_id']}: expected a video and a number of frames from 1, got {frames!r}")
        elif not re.fullmatch(r"\d+(\.\d*)?", fps) or not math.isfinite(float(fps)):
            problems.add(place, f"{row['video_id']}: expected frames per second, got {fps!r}")
        elif not clip.isdecimal() or int(clip) < 1:
            problems.add(place, f"{row['video_id']}: expected the frames of a clip, from 1, got {clip!r}")
        else:
            split, label = row.get("split", ""), row.get("label", "")
            yield CountedVideo(place, row["video_id"], int(frames), float(fps), split, label, int(clip))


def _published_rows(file: AnyPath, lines: list[str], problems: Problems) -> Iterator[CountedVideo]:
    for number, line in enumerate(lines, start=1):
        match = next((match for pattern in PUBLISHED if (match := pattern.fullmatch(line.strip()))), None)
        place = f"{file}, row {number}"
        if match and int(match["frames"]) > 0:
            yield CountedVideo(place, SUFFIX.sub("", PurePosixPath(match["name"]).name), int(match["frames"]))
        elif line.strip() and (not match or int(match["frames"]) != -1):
            problems.add(place, f"expected a name and a number of frames as in the rows before, got {line.strip()!r}")


def _collect(rows: Iterable[CountedVideo], problems: Problems) -> dict[str, CountedVideo]:
    found: dict[str, CountedVideo] = {}
    for row in rows:
        if row.video_id in found:
            problems.add(row.place, f"{row.video_id} is there already ({found[row.video_id].place})")
        found.setdefault(row.video_id, row)
    return found
