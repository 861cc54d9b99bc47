"""Scores over time in few points, so that a page can hold thousands of videos, and no peak is lost."""

from __future__ import annotations

import base64

import numpy as np

from pipeline.metrics.hysteresis import frame_ends

__all__ = ["encode", "envelope"]


def envelope(scores: np.ndarray, times_s: np.ndarray, bins: int) -> np.ndarray:
    """The lowest and the highest score in each of some equal parts of a video's duration.

    Args:
        scores: (N,) float, one per frame, N at least 1.
        times_s: (N,) float64, presentation times, never falling.
        bins: into how many parts; there are fewer for a video of fewer frames.

    Returns:
        (min(bins, N), 2) float64, lowest and highest. A part in which no frame begins has the score of the frame that
        is still shown.

    Raises:
        ValueError: there is no score, or there are not as many times as scores.
    """
    if not len(scores) or len(scores) != len(times_s):
        raise ValueError(f"expected a time per score, at least one, got {len(scores)} scores and {len(times_s)} times")
    bins = min(bins, len(scores))
    duration = max(float(frame_ends(times_s)[-1] - times_s[0]), np.finfo(float).tiny)
    part = np.minimum(((times_s - times_s[0]) / duration * bins).astype(np.int64), bins - 1)
    first = np.flatnonzero(np.diff(part, prepend=-1))  # the first frame of every part that has one
    found = np.column_stack([np.minimum.reduceat(scores, first), np.maximum.reduceat(scores, first)])
    last = np.append(first[1:], len(scores)) - 1
    source = np.searchsorted(part[first], np.arange(bins), side="right") - 1
    empty = part[first][source] != np.arange(bins)
    result = found[source].astype(np.float64)
    result[empty] = scores[last[source[empty]], None]
    return result


def encode(bounds: np.ndarray) -> str:
    """Bounds (n, 2) of scores in [0, 1] as base64 of bytes low, high, low, ...; 255 is 1, what is beyond is cut off."""
    return base64.b64encode(np.rint(np.clip(bounds, 0, 1) * 255).astype(np.uint8).tobytes()).decode("ascii")
