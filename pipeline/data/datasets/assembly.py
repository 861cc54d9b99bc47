"""From listed videos and intervals to a checked manifest: what all adapters share.

The videos are looked for on disk, their headers read, the intervals compared with their lengths, and all problems
raised together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.data.checks import validate
from pipeline.data.datasets.lengths import check_ends, counted_headers, listed_headers
from pipeline.data.datasets.listed import NORMAL, ListedInterval, ListedVideo
from pipeline.data.decoding.decode import VideoHeader
from pipeline.data.decoding.image_folder import doubled_names, image_files, missing_numbers
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.duplicates import same_content
from pipeline.data.frame_counts import CountedVideo
from pipeline.data.manifest import SPLITS, Manifest, Origin, VideoEntry
from pipeline.data.partition import Division
from pipeline.data.problems import Problems
from pipeline.remote import AnyPath

__all__ = ["assemble"]


def assemble(
    root: AnyPath,
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
    divisions: Collection[Division] = (),
) -> Manifest:
    """Check everything and make the manifest.

    A video that is not on disk is a problem. One whose header cannot be read is in the manifest with a width, height
    and packet count of 0: the extraction tries it.

    Args:
        root: folder that the paths are relative to.
        classes: anomaly classes in the order of the outputs.
        videos, intervals: as listed.
        problems: what the adapter has found already.
        notes: what the adapter only reports; more is added, such as videos of the same content, and all of it becomes
            `Origin.warnings`.
        origin: adapter, version and files. Where `clip_past_end` is set, intervals past the end of their video are
            notes, as are some faults in `validate`; elsewhere they are problems.
        counts: rows of a table of frame counts, which stand for the videos; None reads the videos' headers.
        splits: the splits that must have videos.
        normal_label: the name that no class may have.
        workers: what reads the videos; None makes some.
        journal: where headers are kept, see `pipeline.data.headers.read_headers`.
        progress: called as progress(done, total) while headers are read.
        divisions: of the training videos, which these must allow.

    Raises:
        ManifestError: with every problem found, by file and row.
    """
    past_end = notes if origin.clip_past_end else None
    if counts is None:
        with workers or DecodeWorkers() as decoders:
            headers = listed_headers(root, videos, problems, decoders, journal, progress)
            intervals = check_ends(_by_id(videos, headers), intervals, problems, past_end, decoders)
    else:
        headers = counted_headers(root, videos, counts, problems, notes)
        clips = {row.video_id: row.clip_frames for row in counts.values()}
        intervals = check_ends(_by_id(videos, headers), intervals, problems, past_end, None, clips)
    for video, header in zip(videos, headers, strict=True):
        notes += [f"{video.place}: {video.video_id}: {doubt}" for doubt in _doubts(video, header)]
    for group in same_content([header.path for header in headers], [header.bytes for header in headers]):
        notes.append(_same([videos[i] for i in group]))
    entries = tuple(_entry(video, header) for video, header in zip(videos, headers, strict=True))
    manifest = Manifest(root, tuple(classes), entries, tuple(listed.interval for listed in intervals), origin)
    validate(
        manifest,
        problems,
        normal_label=normal_label,
        splits=splits,
        video_places=[video.place for video in videos],
        interval_places=[listed.place for listed in intervals],
        notes=notes,
        divisions=divisions,
    )
    return replace(manifest, origin=replace(origin, warnings=tuple(notes)))


def _by_id(videos: Sequence[ListedVideo], headers: Sequence[VideoHeader]) -> dict[str, VideoHeader]:
    return {video.video_id: header for video, header in zip(videos, headers, strict=True)}


def _entry(video: ListedVideo, header: VideoHeader) -> VideoEntry:
    return VideoEntry(
        video_id=video.video_id,
        path=PurePosixPath(video.path).as_posix() if video.path else "",
        split=video.split,
        labels=video.labels,
        source=video.source,
        width=header.width,
        height=header.height,
        fps=header.fps,
        packets=header.packets,
        bytes=header.bytes,
    )


def _doubts(video: ListedVideo, header: VideoHeader) -> list[str]:
    """What is doubtful about a video's frames, one line each."""
    doubts = []
    if video.stated_frames is not None and header.packets not in (0, video.stated_frames):
        what = f"{video.stated_frames} frames stated, the file has {header.packets}"
        doubts.append(f"{what}; the decoded frames count")
    if header.packets and header.path.is_dir():
        doubts += _image_doubts(image_files(header.path))
    return doubts


def _image_doubts(images: Sequence[AnyPath]) -> list[str]:
    """What is doubtful about a folder of images, one line each."""
    doubts = []
    if gaps := missing_numbers(images):
        doubts.append(f"{_gaps(gaps)}; the images that are there are its frames")
    if names := doubled_names(images):
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        doubts.append(f"{len(names)} name(s) of images come with several endings ({some}); each image is a frame")
    return doubts


def _gaps(gaps: Sequence[range]) -> str:
    """The numbers that an image folder lacks, in words."""
    named = [str(gap[0]) if len(gap) == 1 else f"{gap[0]} to {gap[-1]}" for gap in gaps[:5]] + ["..."] * (len(gaps) > 5)
    return f"images are missing between the others: number {', '.join(named)} ({sum(map(len, gaps))} in all)"


def _same(videos: Sequence[ListedVideo]) -> str:
    """The note on videos of the same content."""
    splits = {split: [video.video_id for video in videos if video.split == split] for split in SPLITS}
    more = {split: f" and {len(ids) - 5} more" if len(ids) > 5 else "" for split, ids in splits.items()}
    named = [f"{', '.join(ids[:5])}{more[split]} ({split})" for split, ids in splits.items() if ids]
    both = ": the test shows what was trained on" if len(named) > 1 else ""
    labels = "; their labels differ" if len({frozenset(video.labels) for video in videos}) > 1 else ""
    return f"{videos[0].place}: the same content under several names: {' and '.join(named)}{both}{labels}"
