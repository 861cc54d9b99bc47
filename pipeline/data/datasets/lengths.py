"""How long the listed videos are, by their headers or by a table, and whether their intervals fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.data.checks import escapes
from pipeline.data.datasets.listed import ListedInterval, ListedVideo
from pipeline.data.datasets.paths import missing_hint
from pipeline.data.decoding.decode import VideoHeader
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.frame_counts import CountedVideo
from pipeline.data.headers import files_facts, read_headers
from pipeline.data.problems import Problems
from pipeline.errors import DecodeError
from pipeline.remote import AnyPath

__all__ = ["check_ends", "counted_headers", "listed_headers"]


def listed_headers(
    root: AnyPath,
    videos: Sequence[ListedVideo],
    problems: Problems,
    workers: DecodeWorkers,
    journal: Path | None,
    progress: Callable[[int, int], None] | None,
) -> list[VideoHeader]:
    """The header of every video.

    Args:
        root: folder that the paths are relative to.
        videos: as listed.
        problems: told of every video that is not on disk.
        workers: what reads the headers.
        journal, progress: as `pipeline.data.headers.read_headers` takes them.

    Returns:
        One header per video; one that cannot be read has a width, height and packet count of 0.
    """
    headers = [VideoHeader(root / video.path, width=0, height=0, fps=0.0, packets=0, bytes=0) for video in videos]
    present = []
    listings: dict[AnyPath, dict[str, str]] = {}
    facts = files_facts([header.path for header in headers])
    for index, video in enumerate(videos):
        if escapes(video.path):
            continue  # reported with the manifest, and never opened
        if video.path.encode(errors="replace") != os.fsencode(video.path):
            problems.add(video.place, "expected a name in UTF-8, which manifests and tables are written in; rename it")
            continue
        size, _ = facts[index]
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


def counted_headers(
    root: AnyPath,
    videos: Sequence[ListedVideo],
    counts: Mapping[str, CountedVideo],
    problems: Problems,
    notes: list[str],
) -> list[VideoHeader]:
    """What a table of frame counts, or else the list itself, says of every video.

    Args:
        root: folder that the paths are relative to.
        videos: as listed.
        counts: rows of the table by video id.
        problems: told of every test video without a number of frames.
        notes: told of training videos without one, and of rows without a video.

    Returns:
        One header per video, without a picture size.
    """
    headers, unknown = [], []
    for video in videos:
        row = counts.get(video.video_id)
        packets = row.n_frames if row else video.stated_frames or 0
        if not packets and video.split == "train":
            unknown.append(video.video_id)
        elif not packets:
            problems.add(video.place, f"{video.video_id}: no number of frames in the table of frame counts, nor here")
        fps = row.fps if row else 0.0
        headers.append(VideoHeader(root / video.path, width=0, height=0, fps=fps, packets=packets, bytes=0))
    if unknown:
        what = f"{len(unknown)} training video(s) have no frame count, so the length of their features is not checked"
        notes.append(f"frame counts: {what}: {_some(unknown)}")
    if surplus := sorted(set(counts) - {video.video_id for video in videos}):
        notes.append(f"frame counts: {len(surplus)} row(s) are of no listed video: {_some(surplus)}")
    return headers


def check_ends(
    headers: Mapping[str, VideoHeader],
    intervals: Sequence[ListedInterval],
    problems: Problems,
    notes: list[str] | None,
    workers: DecodeWorkers | None,
    clip_frames: Mapping[str, int] | None = None,
) -> list[ListedInterval]:
    """Check that no interval ends past its video.

    Headers only state a planned number of frames. Where an interval ends past that, the video is decoded: the decoded
    frames alone count.

    Args:
        headers: of every video by its id.
        intervals: as listed.
        problems: told of intervals that end past their video.
        notes: told instead where an interval begins within the video and can be cut at its end; None cuts nothing.
        workers: what decodes; None where the planned numbers are exact.
        clip_frames: by video id, where its number of frames is that of whole clips and up to one more clip may follow.
            An interval that begins there is left out with a note, if notes are taken.

    Returns:
        The intervals, without those left out.
    """
    kept = []
    decoded: dict[str, int] = {}
    tails: list[str] = []
    for listed in intervals:
        interval = listed.interval
        kept.append(listed)
        header = headers.get(interval.video_id)
        if header is None or not header.packets or interval.end_frame is None or interval.end_frame <= header.packets:
            continue
        if interval.video_id not in decoded:
            try:
                decoded[interval.video_id] = workers.count_frames(header.path) if workers else header.packets
            except DecodeError:
                continue  # it cannot be read: the extraction reports it
        n_frames = decoded[interval.video_id]
        if interval.end_frame <= n_frames:
            continue
        slack = (clip_frames or {}).get(interval.video_id, 1)
        span = f"[{interval.start_frame}, {interval.end_frame})"
        what = f"{interval.video_id}: the interval {span} ends past the video's {n_frames} frames"
        if notes is None or interval.start_frame >= n_frames + (slack if slack > 1 else 0):
            problems.add(listed.place, what)
        elif interval.start_frame >= n_frames:
            kept.pop()
            notes.append(f"{listed.place}: {what} that have features; it is left out")
        elif slack > 1 and interval.end_frame <= n_frames + slack:
            tails.append(interval.video_id)
        else:
            notes.append(f"{listed.place}: {what}; it is cut there")
    if tails and notes is not None:
        notes.append(
            f"{len(tails)} interval(s) end in the frames after the last clip and are cut there: {_some(tails)}"
        )
    return kept


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
