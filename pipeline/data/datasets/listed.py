"""What adapters read: videos and intervals as a data set's own files list them, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import CitySceneDataset, XdViolenceDataset
from pipeline.data.datasets.video_files import video_files
from pipeline.data.frame_counts import read_frame_counts
from pipeline.data.manifest import SPLITS, Interval, SourceFile
from pipeline.data.problems import Problems
from pipeline.data.tables import read_text
from pipeline.hashing import file_sha256
from pipeline.remote import AnyPath, RemotePath

__all__ = ["NORMAL", "ListedInterval", "ListedVideo", "below", "listed_files", "read_lines", "source_files"]

NORMAL = "Normal"


@dataclass(frozen=True)
class ListedVideo:
    """A video as an adapter's files list it.

    Attributes:
        place: file and row.
        video_id: unique name.
        path: relative to the data set's root; empty for a video that is not on disk.
        split: `train` or `test`.
        labels: anomaly classes in the video; empty means normal.
        source: what the video was cut from, if known.
        stated_frames: its number of frames, if the files state it.
    """

    place: str
    video_id: str
    path: str
    split: str
    labels: tuple[str, ...]
    source: str | None = None
    stated_frames: int | None = None


@dataclass(frozen=True)
class ListedInterval:
    """An annotated interval, half-open, with its place (file and row)."""

    place: str
    interval: Interval


def read_lines(file: AnyPath, problems: Problems) -> list[tuple[str, str]]:
    """The lines of a text file that are not empty, as (place, stripped line).

    A file that cannot be read is a problem and has no lines.
    """
    text = read_text(file, problems)
    lines = text.splitlines() if text is not None else []
    return [(f"{file}, row {number}", line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def listed_files(
    dataset: XdViolenceDataset | CitySceneDataset, split: str, folder: Path, problems: Problems
) -> Sequence[AnyPath]:
    """The videos in the folder of a split.

    Where the videos are not at hand, they are those of the split in the table of frame counts. The table then needs the
    column split, and where folders are classes the column label.
    """
    if not dataset.frame_counts:
        return video_files(dataset.root / folder, problems)
    counted = read_frame_counts(dataset.root / dataset.frame_counts, Problems())  # `build` reports its problems
    found: list[AnyPath] = []
    for row in counted.values():
        if row.split == split:
            found.append(dataset.root / folder / row.label / f"{row.video_id}.mp4")
        elif row.split not in SPLITS and split == "train":
            what = f"column split: expected one of {', '.join(SPLITS)}, got {row.split!r}"
            problems.add(row.place, f"{row.video_id}: {what}")
    return found


def below(root: AnyPath, path: AnyPath) -> str:
    """The part of a path below the root, with forward slashes; empty where it does not lie below that."""
    if isinstance(root, Path):
        return path.relative_to(root).as_posix() if isinstance(path, Path) and path.is_relative_to(root) else ""
    return path.relative_to(root).as_posix() if isinstance(path, RemotePath) and path.is_relative_to(root) else ""


def source_files(root: AnyPath, files: Iterable[AnyPath]) -> tuple[SourceFile, ...]:
    """The annotation files that exist, with their hashes."""
    found = []
    for file in files:
        if file.is_file():
            name = below(root, file) or file.name
            found.append(SourceFile(name, file_sha256(file)))
    return tuple(found)
