"""Class-wise figures: precision, recall and F1 of every anomaly class, and their mean MF1 (task 2 of the paper, section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.frame import join

__all__ = ["ClassScore", "ClasswiseReport", "classwise_report"]


@dataclass(frozen=True)
class ClassScore:
    """One class. Precision without a prediction, recall without a true frame, and F1 of two zeros are 0."""

    label: str
    precision: float
    recall: float
    f1: float
    true_frames: int
    predicted_frames: int
    correct_frames: int


@dataclass(frozen=True)
class ClasswiseReport:
    """All classes, and the mean F1 of those that occur in the truth or the prediction; the others are `left_out`."""

    classes: tuple[ClassScore, ...]
    mf1: float
    left_out: tuple[str, ...]


def classwise_report(
    scores: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    threshold: float | Sequence[float] = 0.5,
    mode: str = "threshold",
) -> ClasswiseReport:
    """Frame-level F1 of every anomaly class over all frames; frames given no class count as negative.

    Args:
        scores: video id -> (N, C) float.
        labels: video id -> (N, C) bool; a frame may show several classes.
        classes: names of the C classes; Normal is not among them.
        threshold: theta, one for all classes or one each.
        mode: `threshold` gives a frame every class with score >= theta; `argmax` only the best of them.

    Raises:
        LengthMismatch, PipelineError, DegenerateTruth: as `pipeline.metrics.frame.frame_auc`; one kind of frame is allowed.
        ValueError: an unknown mode.
    """
    values, truth = join(scores, labels)
    given = values >= np.asarray(threshold, dtype=np.float64)
    if mode == "argmax":
        given &= np.arange(values.shape[1]) == values.argmax(axis=1)[:, None]
    elif mode != "threshold":
        raise ValueError(f"mode: expected threshold or argmax, got {mode!r}")
    found = tuple(_score(name, given[:, i], truth[:, i]) for i, name in enumerate(classes))
    counted = [c for c in found if c.true_frames or c.predicted_frames]
    return ClasswiseReport(
        classes=found,
        mf1=float(np.mean([c.f1 for c in counted])) if counted else 0.0,
        left_out=tuple(c.label for c in found if c not in counted),
    )


def _score(label: str, given: np.ndarray, truth: np.ndarray) -> ClassScore:
    correct, predicted, true = int((given & truth).sum()), int(given.sum()), int(truth.sum())
    return ClassScore(
        label=label,
        precision=correct / predicted if predicted else 0.0,
        recall=correct / true if true else 0.0,
        f1=2 * correct / (predicted + true) if correct else 0.0,
        true_frames=true,
        predicted_frames=predicted,
        correct_frames=correct,
    )
