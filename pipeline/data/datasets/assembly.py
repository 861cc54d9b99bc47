"""From listed videos and intervals to a checked manifest: what all adapters share.

An adapter reads its own files into `ListedVideo` and `ListedInterval`, each with its place (file and row), and collects
what is wrong. Here the videos are looked for on disk, their headers read, the intervals held against their lengths, and
all problems raised together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config import CitySceneDataset, XdViolenceDataset
from pipeline.data.checks import escapes, validate
from pipeline.data.datasets.paths import missing_hint
from pipeline.data.decoding.decode import VideoHeader
from pipeline.data.decoding.image_folder import IMAGE_SUFFIXES, doubled_names, image_files, missing_numbers
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.duplicates import same_content
from pipeline.data.frame_counts import CountedVideo, read_frame_counts
from pipeline.data.headers import file_facts, read_headers
from pipeline.data.manifest import SPLITS, Interval, Manifest, Origin, SourceFile, VideoEntry
from pipeline.data.problems import Problems
from pipeline.data.tables import read_text
from pipeline.errors import DecodeError
from pipeline.hashing import file_sha256

__all__ = [
    "NORMAL",
    "VIDEO_SUFFIXES",
    "ListedInterval",
    "ListedVideo",
    "assemble",
    "listed_files",
    "read_lines",
    "source_files",
    "video_files",
]

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
    counts: Mapping[str, CountedVideo] | None = None,
    splits: Sequence[str] = SPLITS,
    normal_label: str = NORMAL,
    workers: DecodeWorkers | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    selections: Collection[tuple[float, int]] = (),
) -> Manifest:
    """Check everything and make the manifest.

    A video that is not there is a problem; one whose header cannot be read is in the manifest with a width, height and
    packet count of 0, for the extraction to try.

    Args:
        root: folder that the paths are relative to.
        classes: anomaly classes in the order of the outputs.
        videos, intervals: as listed.
        problems: what the adapter has found already.
        notes: the same of faults that are put up with; more are added, and all become `Origin.warnings`. Videos of the
            same content are among them.
        origin: adapter, version and files. Where `clip_past_end` is set, intervals past the end are warnings, and what
            `validate` says; else they are problems.
        counts: what a table says of videos that are not looked for; None looks for them.
        splits: those that must be there.
        normal_label: the name that no class may have.
        workers: what reads the videos; None makes some.
        journal: where headers are kept, see `pipeline.data.headers.read_headers`.
        progress: called as progress(done, total) while headers are read.
        selections: as `validate` takes them.

    Raises:
        ManifestError: with every problem found, by file and row.
    """
    past_end = notes if origin.clip_past_end else None
    if counts is None:
        with workers or DecodeWorkers() as decoders:
            headers = _headers(root, videos, problems, decoders, journal, progress)
            _check_ends(root, videos, headers, intervals, problems, past_end, decoders)
    else:
        headers = _counted_headers(root, videos, counts, problems, notes)
        _check_ends(root, videos, headers, intervals, problems, past_end, None)
    for video, header in zip(videos, headers, strict=True):
        if video.stated_frames is not None and header.packets not in (0, video.stated_frames):
            what = f"{video.stated_frames} frames stated, the file has {header.packets}"
            notes.append(f"{video.place}: {video.video_id}: {what}; the decoded frames count")
        if header.packets and header.path.is_dir():
            notes += [f"{video.place}: {video.video_id}: {doubt}" for doubt in _image_doubts(image_files(header.path))]
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
    for group in same_content([header.path for header in headers], [header.bytes for header in headers]):
        notes.append(_same([videos[i] for i in group]))
    manifest = Manifest(root, tuple(classes), entries, tuple(listed.interval for listed in intervals), origin)
    validate(
        manifest,
        problems,
        normal_label=normal_label,
        splits=splits,
        video_places=[video.place for video in videos],
        interval_places=[listed.place for listed in intervals],
        notes=notes,
        selections=selections,
    )
    return replace(manifest, origin=replace(origin, warnings=tuple(notes)))


def read_lines(file: Path, problems: Problems) -> list[tuple[str, str]]:
    """(place, stripped line) of the lines of a text file that are not empty; a problem and none where it cannot be
    read."""
    text = read_text(file, problems)
    lines = text.splitlines() if text is not None else []
    return [(f"{file}, row {number}", line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def video_files(folder: Path, problems: Problems, ignored: Sequence[str] = ()) -> list[Path]:
    """Video files and folders of images below a folder, sorted; hidden and `ignored` folders are passed over.

    Links are followed, but for those back to a folder on the way, whose videos are found already. A folder that is
    missing, cannot be looked into, or lies very deep is a problem.
    """

    def unreadable(error: OSError) -> None:
        problems.add(str(error.filename), f"the folder cannot be read: {error.strerror}")

    found = []
    for place, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        names = [name for name in folders if not name.startswith(".") and name not in ignored]
        folders[:] = sorted(name for name in names if not _loops(Path(place, name), folder))
        if folders and len(Path(place).relative_to(folder).parts) == MOST_NESTED:
            problems.add(place, f"expected folders nested at most {MOST_NESTED} deep below {folder}")
            folders.clear()
        visible = [name for name in files if not name.startswith(".")]
        found += [Path(place, name) for name in visible if name.lower().endswith(VIDEO_SUFFIXES)]
        if any(name.lower().endswith(IMAGE_SUFFIXES) for name in visible) and Path(place) != folder:
            found.append(Path(place))
    return sorted(found)


def _loops(path: Path, top: Path) -> bool:
    """Whether a folder is a link to one that the walk from `top` came through, or to one above that."""
    if not path.is_symlink():
        return False
    target = os.path.join(os.path.realpath(path), "")
    through = [place for place in path.parents if place == top or place.is_relative_to(top)]
    return any(os.path.join(os.path.realpath(place), "").startswith(target) for place in through)


def listed_files(
    dataset: XdViolenceDataset | CitySceneDataset, split: str, folder: Path, problems: Problems
) -> list[Path]:
    """The videos in the folder of a split, or where they are not at hand those that the table of frame counts has of
    the split.

    The table then has the column split, and where folders are classes the column label.
    """
    if not dataset.frame_counts:
        return video_files(dataset.root / folder, problems)
    found = []
    for row in read_frame_counts(
        dataset.root / dataset.frame_counts, Problems()
    ).values():  # `build` says what is wrong with it
        if row.split == split:
            found.append(dataset.root / folder / row.label / f"{row.video_id}.mp4")
        elif row.split not in SPLITS and split == "train":
            problems.add(
                row.place, f"{row.video_id}: column split: expected one of {', '.join(SPLITS)}, got {row.split!r}"
            )
    return found


def source_files(root: Path, files: Iterable[Path]) -> tuple[SourceFile, ...]:
    """The annotation files that are there, with their hashes."""
    found = []
    for file in files:
        if file.is_file():
            name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
            found.append(SourceFile(name, file_sha256(file)))
    return tuple(found)


def _image_doubts(images: Sequence[Path]) -> list[str]:
    """What is doubtful about a folder of images, a line each."""
    doubts = []
    if gaps := missing_numbers(images):
        doubts.append(f"{_gaps(gaps)}; the images that are there are its frames")
    if names := doubled_names(images):
        more = ", ..." if len(names) > 5 else ""
        doubts.append(
            f"{len(names)} name(s) of images come with several endings ({', '.join(names[:5])}{more}); each image is a frame"
        )
    return doubts


def _gaps(gaps: Sequence[range]) -> str:
    """What an image folder lacks, in words."""
    named = [str(gap[0]) if len(gap) == 1 else f"{gap[0]} to {gap[-1]}" for gap in gaps[:5]] + ["..."] * (len(gaps) > 5)
    return f"images are missing between the others: number {', '.join(named)} ({sum(map(len, gaps))} in all)"


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
    listings: dict[Path, dict[str, str]] = {}
    for index, video in enumerate(videos):
        if escapes(video.path):
            continue  # reported with the manifest, and never opened
        if video.path.encode(errors="replace") != os.fsencode(video.path):
            problems.add(video.place, "expected a name in UTF-8, which manifests and tables are written in; rename it")
            continue
        size = file_facts(root / video.path)[0]
        if size < 0:
            hint = missing_hint(root, video.path, listings)
            problems.add(video.place, f"{video.video_id}: {root / video.path}: no such file{hint}")
            continue
        headers[index] = replace(headers[index], bytes=size)
        present.append(index)
    if videos and not present:
        problems.add(
            str(root), "no listed video is there; for features or scores without the videos see dataset.frame_counts"
        )
    found = read_headers([headers[index].path for index in present], workers, journal, progress)
    for index, header in zip(present, found, strict=True):
        if not isinstance(header, DecodeError):
            headers[index] = header
    return headers


def _counted_headers(
    root: Path, videos: Sequence[ListedVideo], counts: Mapping[str, CountedVideo], problems: Problems, notes: list[str]
) -> list[VideoHeader]:
    """What the table, or else the list itself, says of every video; a problem for a test video of which neither says
    anything."""
    headers, unknown = [], []
    for video in videos:
        row = counts.get(video.video_id)
        frames = row.frames if row else video.stated_frames or 0
        if not frames and video.split == "train":
            unknown.append(video.video_id)
        elif not frames:
            problems.add(video.place, f"{video.video_id}: no number of frames in the table of frame counts, nor here")
        headers.append(
            VideoHeader(root / video.path, width=0, height=0, fps=row.fps if row else 0.0, packets=frames, bytes=0)
        )
    if unknown:
        what = f"{len(unknown)} training video(s) have no frame count, so the length of their features is not checked"
        notes.append(f"frame counts: {what}: {_some(unknown)}")
    if surplus := sorted(set(counts) - {video.video_id for video in videos}):
        notes.append(f"frame counts: {len(surplus)} row(s) are of no listed video: {_some(surplus)}")
    return headers


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _check_ends(
    root: Path,
    videos: Sequence[ListedVideo],
    headers: Sequence[VideoHeader],
    intervals: Sequence[ListedInterval],
    problems: Problems,
    notes: list[str] | None,
    workers: DecodeWorkers | None,
) -> None:
    """Intervals that end past a video's packets are checked against its decoded frames, which alone count.

    Without `workers` the planned number is known to be that of the frames.
    """
    lengths = {
        video.video_id: (root / video.path, header.packets) for video, header in zip(videos, headers, strict=True)
    }
    decoded: dict[str, int] = {}
    for listed in intervals:
        interval = listed.interval
        path, planned = lengths.get(interval.video_id, (root, 0))
        if not planned or interval.end_frame is None or interval.end_frame <= planned:
            continue
        if interval.video_id not in decoded:
            try:
                decoded[interval.video_id] = workers.count_frames(path) if workers else planned
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


def _same(videos: Sequence[ListedVideo]) -> str:
    """What to say of videos of the same content."""
    splits = {split: [video.video_id for video in videos if video.split == split] for split in SPLITS}
    more = {split: f" and {len(ids) - 5} more" if len(ids) > 5 else "" for split, ids in splits.items()}
    named = [f"{', '.join(ids[:5])}{more[split]} ({split})" for split, ids in splits.items() if ids]
    both = ": the test shows what was trained on" if len(named) > 1 else ""
    labels = "; their labels differ" if len({frozenset(video.labels) for video in videos}) > 1 else ""
    return f"{videos[0].place}: the same content under several names: {' and '.join(named)}{both}{labels}"
