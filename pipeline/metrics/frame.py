"""Frame-level figures over all frames of all videos together (micro)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.errors import DegenerateTruth, LengthMismatch, PipelineError

__all__ = ["frame_ap", "frame_auc", "join"]


def frame_auc(scores: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> float:
    """Area under the ROC curve of all frames (task 1 of the paper, section 4.3).

    Args:
        scores: video id -> (N,) float.
        labels: video id -> (N,) bool, True where the frame is anomalous.

    Raises:
        LengthMismatch: a video's scores and labels differ in length.
        DegenerateTruth: all frames are anomalous, or none is.
        PipelineError: a video is missing on one side, or a score is not finite.
    """
    truth, values = _both(scores, labels)
    return float(roc_auc_score(truth, values))


def frame_ap(scores: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> float:
    """Average precision of all frames, step-wise: the sum of precision x rise of recall. Arguments and errors as `frame_auc`."""
    truth, values = _both(scores, labels)
    return float(average_precision_score(truth, values))


def _both(scores: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    values, truth = join(scores, labels)
    if truth.all() or not truth.any():
        kind = "all" if truth.any() else "none"
        raise DegenerateTruth(f"{kind} of the {len(truth)} frames of {len(labels)} videos are anomalous; a curve needs both")
    return truth, values


def join(scores: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of all videos, concatenated in the order of their ids; errors as `frame_auc`."""
    if set(scores) != set(labels):
        raise PipelineError(f"no scores for {sorted(set(labels) - set(scores))}, no labels for {sorted(set(scores) - set(labels))}")
    if not scores:
        raise DegenerateTruth("no videos: nothing to evaluate")
    for video_id in sorted(scores):
        if len(scores[video_id]) != len(labels[video_id]):
            raise LengthMismatch(f"{video_id}: {len(scores[video_id])} scores for {len(labels[video_id])} frames")
        if not np.isfinite(scores[video_id]).all():
            frame = int(np.argmin(np.isfinite(scores[video_id]).reshape(len(scores[video_id]), -1).all(axis=1)))
            raise PipelineError(f"{video_id}: the score of frame {frame} is not finite")
    order = sorted(scores)
    return (
        np.concatenate([np.asarray(scores[v], dtype=np.float64) for v in order]),
        np.concatenate([np.asarray(labels[v], dtype=bool) for v in order]),
    )
