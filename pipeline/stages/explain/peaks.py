"""The peaks of a video's score: the windows that are worth showing."""

from __future__ import annotations

import numpy as np
from scipy.signal import find_peaks

from pipeline.config import Scoring, TestSampling
from pipeline.stages.scoring.video_scores import VideoScores

__all__ = ["choose_windows", "middle_frames", "pick_peaks"]

PEAK_WIDTH_SIGMAS = 4
"""Least distance of two peaks in sigmas of the smoothing: nearer ones are one peak that ripples have split."""


def choose_windows(scores: VideoScores, scoring: Scoring, sampling: TestSampling, count: int) -> list[int]:
    """The windows at the highest peaks of the anomaly score, highest first.

    Args:
        scores: of the video.
        scoring: how they were smoothed.
        sampling: how far apart windows are.
        count: how many at most.
    """
    frames_per_step = {"windows": sampling.stride_frames, "frames": 1, "none": 0}[scoring.smooth_on]
    span = int((scores.spans[:, 1] - scores.spans[:, 0]).max()) + 1
    apart = max(span, PEAK_WIDTH_SIGMAS * scoring.smooth_sigma * frames_per_step)
    return pick_peaks(scores.anomaly[middle_frames(scores)], scores.spans[:, 0], apart, count)


def middle_frames(scores: VideoScores) -> np.ndarray:
    """(W,) the frame in the middle of each window."""
    return (scores.spans[:, 0] + scores.spans[:, 1]) // 2


def pick_peaks(scores: np.ndarray, starts: np.ndarray, apart_frames: float, count: int) -> list[int]:
    """The highest local maxima of a score over windows, highest first, none nearer than `apart_frames` to a higher one.

    Args:
        scores: (W,) float, higher is more anomalous.
        starts: (W,) int, the windows' first frames, ascending.
        apart_frames: least distance of two peaks, in frames.
        count: how many at most. There are fewer if the curve has fewer peaks, but always at least one.
    """
    # A maximum at either end counts: the curve is taken to fall beyond it.
    padded = np.concatenate([[-np.inf], scores, [-np.inf]])
    candidates = find_peaks(padded)[0] - 1
    chosen: list[int] = []
    for window in sorted(candidates.tolist(), key=lambda window: -scores[window]):
        if len(chosen) < count and all(abs(starts[window] - starts[other]) >= apart_frames for other in chosen):
            chosen.append(window)
    return chosen
