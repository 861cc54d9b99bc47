"""Which frames are used: index arithmetic without any file. docs/method.md says what it is for."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypedDict, TypeVar, Unpack

import numpy as np

__all__ = [
    "WindowAssembler",
    "epoch_clips",
    "epoch_frames",
    "plan_views",
    "segment_bounds",
    "training_frames",
    "view_generator",
    "view_indices",
    "window_indices",
    "windows_to_frames",
]

Image = TypeVar("Image")


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
    """
    _positive(n_frames=n_frames, segments=segments)
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
    _positive(clip_frames=clip_frames, interval_frames=interval_frames, clips_per_segment=clips_per_segment)
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


def window_indices(n_frames: int, *, window_frames: int, stride_frames: int, interval_frames: int) -> np.ndarray:
    """Sliding windows of a test video; the last window ends on the last frame, so every frame is covered.

    A window covers all frames from its first to its last, also those between that an interval leaves out. A video
    shorter than a window repeats its last frame.

    Args:
        n_frames: frames of the video.
        window_frames: frames of a window, L.
        stride_frames: distance from one window's start to the next.
        interval_frames: distance between a window's frames.

    Returns:
        (W, L) int64 frame indices.

    Raises:
        ValueError: a number below 1, or a stride longer than the window's span, which would leave frames uncovered.
    """
    _positive(n_frames=n_frames)
    span = _span(window_frames, stride_frames, interval_frames)
    last = max(0, n_frames - span)
    starts = np.arange(0, last + 1, stride_frames, dtype=np.int64)
    if starts[-1] != last:
        starts = np.append(starts, last)
    indices = starts[:, None] + np.arange(window_frames, dtype=np.int64) * interval_frames
    clamped: np.ndarray = np.minimum(indices, n_frames - 1)
    return clamped


def windows_to_frames(window_scores: np.ndarray, indices: np.ndarray, n_frames: int) -> np.ndarray:
    """Give each frame the mean score of the windows that cover it. A window covers its first to its last frame.

    Args:
        window_scores: (W, K) float.
        indices: (W, L) int64, ascending along L.
        n_frames: N.

    Returns:
        (N, K) float64.

    Raises:
        ValueError: lengths differ, a score is not finite, an index is outside the video, or a frame lies in no window.
    """
    if len(window_scores) != len(indices):
        raise ValueError(f"{len(window_scores)} window scores for {len(indices)} windows")
    if len(indices) == 0:
        raise ValueError(f"no windows for {n_frames} frames")
    finite = np.isfinite(window_scores).all(axis=1)
    if not finite.all():
        raise ValueError(f"window {int(np.argmin(finite))} has a score that is not finite")
    first, last = indices[:, 0], indices[:, -1]
    if first.min() < 0 or last.max() >= n_frames:
        raise ValueError(f"windows reach from frame {first.min()} to {last.max()}, the video has {n_frames} frames")
    sums = np.zeros((n_frames, window_scores.shape[1]))
    counts = np.zeros((n_frames, 1))
    # Summed step by step rather than by differences and a cumulative sum: a frame's mean then depends on its own
    # windows alone, so equal windows give equal scores wherever they lie.
    for step in range(int((last - first).max()) + 1):
        inside = first + step <= last
        np.add.at(sums, first[inside] + step, window_scores[inside])
        np.add.at(counts, first[inside] + step, 1)
    if not counts.all():
        raise ValueError(f"frame {int(np.argmin(counts[:, 0]))} lies in no window")
    # A mean lies between the smallest and the largest number; rounding can put that of equal numbers outside.
    means: np.ndarray = np.clip(sums / counts, window_scores.min(axis=0), window_scores.max(axis=0))
    return means


class WindowAssembler(Generic[Image]):
    """Streaming counterpart of `window_indices`: takes frames in order, gives windows as they become complete.

    Holds no more frames than a window spans. Arguments as `window_indices`.
    """

    def __init__(self, *, window_frames: int, stride_frames: int, interval_frames: int) -> None:
        self._span = _span(window_frames, stride_frames, interval_frames)
        self._steps = np.arange(window_frames, dtype=np.int64) * interval_frames
        self._stride = stride_frames
        self._buffer: deque[Image] = deque(maxlen=self._span)
        self._count = 0
        self._next_start = 0

    def push(self, image: Image) -> list[tuple[np.ndarray, list[Image]]]:
        """Add the next frame. Returns the windows (indices (L,), images) that it completes: none or one."""
        self._buffer.append(image)
        self._count += 1
        if self._count != self._next_start + self._span:
            return []
        self._next_start += self._stride
        return [self._window(self._count - self._span)]

    def finish(self) -> list[tuple[np.ndarray, list[Image]]]:
        """Call after the last frame. Returns the windows that are left: none or one, as (indices (L,), images)."""
        if self._count == 0:
            return []
        start = max(0, self._count - self._span)
        if self._next_start - self._stride == start and self._count >= self._span:
            return []
        return [self._window(start)]

    def _window(self, start: int) -> tuple[np.ndarray, list[Image]]:
        indices = np.minimum(start + self._steps, self._count - 1)
        oldest = self._count - len(self._buffer)
        return indices, [self._buffer[int(i) - oldest] for i in indices]


def _distinct(clips: Sequence[np.ndarray]) -> list[int]:
    """The frame indices in some arrays, each once, ascending."""
    indices: list[int] = np.unique(np.concatenate([array.ravel() for array in clips])).tolist()
    return indices


def _span(window_frames: int, stride_frames: int, interval_frames: int) -> int:
    """The number of frames from a window's first to its last. Raises ValueError."""
    _positive(window_frames=window_frames, stride_frames=stride_frames, interval_frames=interval_frames)
    span = (window_frames - 1) * interval_frames + 1
    if stride_frames > span:
        raise ValueError(f"stride_frames: expected at most the window's span of {span} frames, got {stride_frames}")
    return span


def _positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
