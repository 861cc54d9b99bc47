"""From listed videos and intervals to a checked manifest: what all adapters share.

An adapter reads its own files into `ListedVideo` and `ListedInterval`, each with its place (file and row), and collects what is
wrong. Here the videos are looked for on disk, their headers read, the intervals held against their lengths, and all problems
raised together.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.checks import Problems, escapes, validate
from pipeline.data.decode import VideoHeader
from pipeline.data.headers import file_facts, read_headers
from pipeline.data.image_folder import IMAGE_SUFFIXES, numbering_note
from pipeline.data.manifest import Interval, Manifest, Origin, SourceFile, VideoEntry
from pipeline.data.workers import DecodeWorkers
from pipeline.errors import DecodeError

__all__ = ["NORMAL", "VIDEO_SUFFIXES", "ListedInterval", "ListedVideo", "assemble", "read_lines", "source_files", "video_files"]

NORMAL = "Normal"
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".m4v", ".ts")
MOST_NESTED = 64


@dataclass(frozen=True)
class ListedVideo:
    """A video as an adapter's files list it.

    Attributes:
        place: file and row.
        video_id, path, split, labels, source: as `VideoEntry`; an empty path is a video that is not on disk.
        stated_frames: length that the files state, if they do.
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
    """An annotated interval, half-open, with its place."""

    place: str
    interval: Interval


def assemble(
    root: Path,
    classes: Sequence[str],
    videos: Sequence[ListedVideo],
    intervals: Sequence[ListedInterval],
    problems: Problems,
    notes: list[str],
    origin: Origin,
    *,
    normal_label: str = NORMAL,
    workers: DecodeWorkers | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Check everything and make the manifest.

    A video that is not there is a problem; one whose header cannot be read is in the manifest with a width, height and
    packet count of 0, for the extraction to try.

    Args:
        root: folder that the paths are relative to.
        classes: anomaly classes in the order of the outputs.
        videos, intervals: as listed.
        problems: what the adapter has found already.
        notes: the same of faults that are put up with; more are added, and all become `Origin.warnings`.
        origin: adapter, version and files. Where `clip_past_end` is set, intervals past the end and overlapping intervals of one
            class are warnings; else they are problems.
        normal_label: the name that no class may have.
        workers: what reads the videos; None makes some.
        journal: where headers are kept, see `pipeline.data.headers.read_headers`.
        progress: called as progress(done, total) while headers are read.

    Raises:
        ManifestError: with every problem found, by file and row.
    """
    with workers or DecodeWorkers() as decoders:
        headers = _headers(root, videos, problems, decoders, journal, progress)
        _check_ends(root, videos, headers, intervals, problems, notes if origin.clip_past_end else None, decoders)
    for video, header in zip(videos, headers, strict=True):
        if video.stated_frames is not None and header.packets not in (0, video.stated_frames):
            what = f"{video.stated_frames} frames stated, the file has {header.packets}"
            notes.append(f"{video.place}: {video.video_id}: {what}; the decoded frames count")
        if header.packets and header.path.is_dir() and (note := numbering_note(header.path)):
            notes.append(f"{video.place}: {video.video_id}: {note}")
    entries = tuple(
        VideoEntry(
            video_id=video.video_id,
            path=Path(video.path).as_posix() if video.path else "",
            split=video.split,
            labels=video.labels,
            source=video.source,
            width=header.width,
            height=header.height,
            fps=header.fps,
            packets=header.packets,
            bytes=header.bytes,
        )
        for video, header in zip(videos, headers, strict=True)
    )
    manifest = Manifest(root, tuple(classes), entries, tuple(listed.interval for listed in intervals), origin)
    validate(
        manifest,
        problems,
        normal_label=normal_label,
        video_places=[video.place for video in videos],
        interval_places=[listed.place for listed in intervals],
        notes=notes if origin.clip_past_end else None,
    )
    return replace(manifest, origin=replace(origin, warnings=tuple(notes)))


def read_lines(file: Path, problems: Problems) -> list[tuple[str, str]]:
    """(place, stripped line) of the lines of a text file that are not empty; a problem and none where it cannot be read."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.add(str(file), f"cannot be read: {error}")
        return []
    return [(f"{file}, row {number}", line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def video_files(folder: Path, problems: Problems, ignored: Sequence[str] = ()) -> list[Path]:
    """Video files and folders of images below a folder, sorted, links followed; hidden and `ignored` folders are passed over.

    A link that leads back to a folder it lies in, and a folder that cannot be listed, are problems.
    """
    found = []

    def unlisted(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            problems.add(str(error.filename), f"the folder cannot be listed: {error.strerror}")

    for place, folders, files in os.walk(folder, followlinks=True, onerror=unlisted):
        visible = sorted(name for name in folders if not name.startswith(".") and name not in ignored)
        folders[:] = [name for name in visible if not _goes_on_for_ever(folder, Path(place, name), problems)]
        visible = [name for name in files if not name.startswith(".")]
        found += [Path(place, name) for name in visible if name.lower().endswith(VIDEO_SUFFIXES)]
        if any(name.lower().endswith(IMAGE_SUFFIXES) for name in visible) and Path(place) != folder:
            found.append(Path(place))
    return sorted(found)


def _goes_on_for_ever(root: Path, folder: Path, problems: Problems) -> bool:
    """Whether listing a folder below the root would lead back to where the listing is, or very deep; then a problem too."""
    within = folder.relative_to(root).parents  # of root / a / b / c: a / b, a and root itself
    if len(within) > MOST_NESTED:
        problems.add(str(folder), f"expected folders nested at most {MOST_NESTED} deep below {root}")
        return True
    if not folder.is_symlink():
        return False
    above = [root / parent for parent in within] + list(root.resolve().parents)
    circle = next((place for place in above if folder.samefile(place)), None)
    if circle:
        problems.add(str(folder), f"the link leads back to {circle}, a folder it lies in: the listing would never end; remove it")
    return circle is not None


def source_files(root: Path, files: Iterable[Path]) -> tuple[SourceFile, ...]:
    """The annotation files that are there, with their hashes."""
    found = []
    for file in files:
        if file.is_file():
            name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
            found.append(SourceFile(name, hashlib.sha256(file.read_bytes()).hexdigest()))
    return tuple(found)


def _headers(
    root: Path,
    videos: Sequence[ListedVideo],
    problems: Problems,
    workers: DecodeWorkers,
    journal: Path | None,
    progress: Callable[[int, int], None] | None,
) -> list[VideoHeader]:
    """The header of every video; an empty one where it cannot be read, and a problem where there is no file."""
    headers = [VideoHeader(root / video.path, width=0, height=0, fps=0.0, packets=0, bytes=0) for video in videos]
    present = []
    for index, video in enumerate(videos):
        if video.path.encode(errors="replace") != os.fsencode(video.path):
            problems.add(video.place, "expected a name in UTF-8, which manifests and tables are written in; rename it")
            continue
        if escapes(video.path):
            continue  # reported with the manifest, and never opened
        size = file_facts(root / video.path)[0]
        if size < 0:
            what = "the link leads nowhere, or in a circle" if (root / video.path).is_symlink() else "no such file"
            problems.add(video.place, f"{video.video_id}: {root / video.path}: {what}")
            continue
        headers[index] = replace(headers[index], bytes=size)
        present.append(index)
    found = read_headers([headers[index].path for index in present], workers, journal, progress)
    for index, header in zip(present, found, strict=True):
        if not isinstance(header, DecodeError):
            headers[index] = header
    return headers


def _check_ends(
    root: Path,
    videos: Sequence[ListedVideo],
    headers: Sequence[VideoHeader],
    intervals: Sequence[ListedInterval],
    problems: Problems,
    notes: list[str] | None,
    workers: DecodeWorkers,
) -> None:
    """Intervals that end past a video's packets are checked against its decoded frames, which alone count."""
    lengths = {video.video_id: (root / video.path, header.packets) for video, header in zip(videos, headers, strict=True)}
    decoded: dict[str, int] = {}
    for listed in intervals:
        interval = listed.interval
        path, planned = lengths.get(interval.video_id, (root, 0))
        if not planned or interval.end_frame is None or interval.end_frame <= planned:
            continue
        if interval.video_id not in decoded:
            try:
                decoded[interval.video_id] = workers.count_frames(path)
            except DecodeError:
                continue  # it cannot be read: the extraction says so
        frames = decoded[interval.video_id]
        if interval.end_frame > frames:
            span = f"[{interval.start_frame}, {interval.end_frame})"
            what = f"{interval.video_id}: the interval {span} ends past the video's {frames} frames"
            if notes is None or interval.start_frame >= frames:
                problems.add(listed.place, what)
            else:
                notes.append(f"{listed.place}: {what}; it is cut there")
