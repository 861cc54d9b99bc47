"""Which frames of a training video are used: index arithmetic without any file. docs/method.md says what it is for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypedDict, Unpack

import numpy as np

__all__ = [
    "at_least_one",
    "epoch_clips",
    "epoch_frames",
    "plan_views",
    "segment_bounds",
    "training_frames",
    "view_generator",
    "view_indices",
]


class ClipSampling(TypedDict):
    """Keyword arguments of `view_indices` that a configuration sets."""

    segments: int
    clip_frames: int
    interval_frames: int
    clips_per_segment: int


class ViewSampling(ClipSampling):
    """Keyword arguments of `plan_views`."""

    video_id: str
    views: int
    seed: int


class EpochSampling(ClipSampling):
    """Keyword arguments of `epoch_clips`."""

    video_id: str
    epoch: int
    seed: int


def segment_bounds(n_frames: int, segments: int) -> np.ndarray:
    """Divide a video into T segments: segment i is [start, max(start + 1, floor((i+1)N/T))), start = floor(iN/T).

    No segment is empty; in a video of fewer than T frames some share a frame.

    Args:
        n_frames: frames of the video, N.
        segments: number of segments, T.

    Returns:
        (T, 2) int64, half-open.

    Raises:
        ValueError: a number below 1.

    Examples:
        >>> segment_bounds(10, 4)
        array([[ 0,  2],
               [ 2,  5],
               [ 5,  7],
               [ 7, 10]])
    """
    at_least_one(n_frames=n_frames, segments=segments)
    edges = np.arange(segments + 1, dtype=np.int64) * n_frames // segments
    starts = np.minimum(edges[:-1], n_frames - 1)
    return np.stack([starts, np.minimum(np.maximum(starts + 1, edges[1:]), n_frames)], axis=1)


def view_generator(seed: int, video_id: str, view: int | str) -> np.random.Generator:
    """The random generator of one view of one video.

    It is seeded by SHA-256 of the three arguments, so it does not depend on the order of the videos.
    """
    text = f"{seed}\0{video_id}\0{view}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:16], "big"))


def view_indices(
    n_frames: int,
    *,
    segments: int,
    clip_frames: int,
    interval_frames: int,
    clips_per_segment: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Clips of a training video, each from a random start in its segment.

    The start is drawn uniformly from those at which the clip fits into its segment. In a segment too short for the
    interval, the interval shrinks to floor((length - 1) / (L - 1)); if that is 0, the indices are consecutive and
    clamped to the segment's last frame.

    Args:
        n_frames: frames of the video, N.
        segments: equal parts, T.
        clip_frames: frames of a clip, L (6 in the paper).
        interval_frames: distance between a clip's frames.
        clips_per_segment: independent draws in each segment.
        generator: source of the starts, see `view_generator`.

    Returns:
        (T, clips_per_segment, L) int64 frame indices, ascending along the last axis.

    Raises:
        ValueError: a number below 1.
    """
    at_least_one(clip_frames=clip_frames, interval_frames=interval_frames, clips_per_segment=clips_per_segment)
    clips = np.empty((segments, clips_per_segment, clip_frames), dtype=np.int64)
    steps = np.arange(clip_frames, dtype=np.int64)
    for segment, (start, stop) in enumerate(segment_bounds(n_frames, segments)):
        length = stop - start
        interval = min(interval_frames, (length - 1) // max(1, clip_frames - 1))
        slack = max(0, length - 1 - interval * (clip_frames - 1)) if interval else 0
        offsets = generator.integers(0, slack + 1, size=clips_per_segment)
        indices = start + offsets[:, None] + steps * max(1, interval)
        clips[segment] = np.minimum(indices, stop - 1)
    return clips


def plan_views(
    n_frames: int,
    *,
    video_id: str,
    views: int,
    segments: int,
    clip_frames: int,
    interval_frames: int,
    clips_per_segment: int,
    seed: int,
) -> list[np.ndarray]:
    """The clips of every view of a training video.

    Args:
        n_frames: frames of the video, N.
        video_id: its id.
        views: independent draws of the whole video, V.
        segments, clip_frames, interval_frames, clips_per_segment: as in `view_indices`.
        seed: of all draws, see `view_generator`.

    Returns:
        One array (T, clips_per_segment, L) of int64 frame indices per view.
    """
    return [
        view_indices(
            n_frames,
            segments=segments,
            clip_frames=clip_frames,
            interval_frames=interval_frames,
            clips_per_segment=clips_per_segment,
            generator=view_generator(seed, video_id, view),
        )
        for view in range(views)
    ]


def training_frames(n_frames: int, **sampling: Unpack[ViewSampling]) -> list[int]:
    """The numbers of the frames that the clips of all views need, ascending. Arguments as `plan_views`."""
    return _distinct(plan_views(n_frames, **sampling))


def epoch_clips(
    n_frames: int,
    *,
    video_id: str,
    epoch: int,
    segments: int,
    clip_frames: int,
    interval_frames: int,
    clips_per_segment: int,
    seed: int,
) -> tuple[np.ndarray, bool]:
    """The clips of a training video in one epoch of end-to-end training, and whether they are flipped.

    Every (seed, epoch, video) has its own random generator, so neither the order of videos nor that of epochs matters.

    Args:
        n_frames: frames of the video, N.
        video_id: its id.
        epoch: number of the epoch.
        segments, clip_frames, interval_frames, clips_per_segment: as in `view_indices`.
        seed: of all draws.

    Returns:
        (T, clips_per_segment, L) int64 frame indices; True where the clips are mirrored left to right.
    """
    generator = view_generator(seed, video_id, f"epoch {epoch}")
    flipped = bool(generator.integers(2))
    clips = view_indices(
        n_frames,
        segments=segments,
        clip_frames=clip_frames,
        interval_frames=interval_frames,
        clips_per_segment=clips_per_segment,
        generator=generator,
    )
    return clips, flipped


def epoch_frames(n_frames: int, **sampling: Unpack[EpochSampling]) -> list[int]:
    """The numbers of the frames that `epoch_clips` needs, ascending. Arguments as there."""
    clips, _ = epoch_clips(n_frames, **sampling)
    return _distinct([clips])


def _distinct(clips: Sequence[np.ndarray]) -> list[int]:
    """The frame indices in some arrays, each once, ascending."""
    indices: list[int] = np.unique(np.concatenate([array.ravel() for array in clips])).tolist()
    return indices


def at_least_one(**values: int) -> None:
    """Raise ValueError, with its name, for a number below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
