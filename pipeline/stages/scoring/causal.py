"""Causal scores, `scoring.cue: running`: a frame's score does not depend on frames that are far after it.

The cue of a window is the maximum over it and the windows before it, and smoothing looks back. What is left is that a
frame's score is the mean of the windows that cover it, so it is known one window's span of frames later. A video that
ends earlier has its last window moved to its end, which covers that many frames.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from pipeline.config.heads import AnyHead
from pipeline.errors import PipelineError

__all__ = ["check_causal", "smooth_back"]

REACH_SIGMAS = 4
"""How far smoothing looks back, in sigmas; as far as scipy's Gaussian filter looks to either side."""


def check_causal(head: AnyHead) -> None:
    """Raise PipelineError for a head whose scores cannot be causal."""
    if head.sees_other_windows:
        raise PipelineError(
            f"scoring.cue: running is not for the head {head.name}, whose score of a window depends on "
            "windows after it; score with cue: video, or with another head"
        )


def smooth_back(scores: np.ndarray, sigma: float) -> np.ndarray:
    """The half of a Gaussian filter that looks back, along axis 0 with the first value repeated before it.

    Args:
        scores: (n, C).
        sigma: in rows; 0 changes nothing.

    Returns:
        (n, C); a row depends on itself and the rows before it alone.
    """
    if sigma <= 0:
        return scores
    reach = int(REACH_SIGMAS * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights[reach + 1 :] = 0
    smoothed: np.ndarray = correlate1d(scores, weights / weights.sum(), axis=0, mode="nearest")
    return smoothed
