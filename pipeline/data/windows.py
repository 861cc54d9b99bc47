"""Sliding windows over the frames of a test video, and from their scores to the scores of frames."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import numpy as np

from pipeline.data.sampling import at_least_one

__all__ = ["WindowAssembler", "window_indices", "windows_to_frames"]

Image = TypeVar("Image")


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

    Examples:
        The last of these windows would end past frame 9, so it is moved back to end there.

        >>> window_indices(10, window_frames=4, stride_frames=3, interval_frames=1)
        array([[0, 1, 2, 3],
               [3, 4, 5, 6],
               [6, 7, 8, 9]])
        >>> window_indices(9, window_frames=4, stride_frames=3, interval_frames=1)[-1]
        array([5, 6, 7, 8])
    """
    at_least_one(n_frames=n_frames)
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

    Examples:
        Frame 2 lies in both windows and gets the mean of their scores.

        >>> import numpy as np
        >>> indices = np.array([[0, 1, 2], [2, 3, 4]])
        >>> windows_to_frames(np.array([[0.2], [0.6]]), indices, n_frames=5).ravel()
        array([0.2, 0.2, 0.4, 0.6, 0.6])
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


def _span(window_frames: int, stride_frames: int, interval_frames: int) -> int:
    """The number of frames from a window's first to its last. Raises ValueError."""
    at_least_one(window_frames=window_frames, stride_frames=stride_frames, interval_frames=interval_frames)
    span = (window_frames - 1) * interval_frames + 1
    if stride_frames > span:
        raise ValueError(f"stride_frames: expected at most the window's span of {span} frames, got {stride_frames}")
    return span
