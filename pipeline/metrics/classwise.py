"""Class-wise metrics: precision, recall, F1 and AP of every anomaly class, and their means.

They are task 2 of the paper, section 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.metrics.frame import join
from pipeline.metrics.ranking import Ranking

__all__ = ["ClassMetrics", "ClassScore", "ClasswiseReport", "classwise_report"]


@dataclass(frozen=True)
class ClassScore:
    """The metrics of one class.

    Attributes:
        label: name of the class.
        precision: 0 if no frame is predicted.
        recall: 0 if no frame is true.
        f1: 0 if precision and recall are 0.
        ap: average precision; None if no frame is true.
        true_frames, predicted_frames, correct_frames: numbers of frames.
    """

    label: str
    precision: float
    recall: float
    f1: float
    ap: float | None
    true_frames: int
    predicted_frames: int
    correct_frames: int


@dataclass(frozen=True)
class ClasswiseReport:
    """All classes and their mean F1.

    Attributes:
        classes: one result per class.
        mf1: mean F1 of the classes that occur in the ground truth or the prediction; None if none does.
        left_out: names of the classes that occur in neither.
    """

    classes: tuple[ClassScore, ...]
    mf1: float | None
    left_out: tuple[str, ...]


class ClassMetrics:
    """The class-wise metrics of a set of videos, as functions of the videos' weights.

    Args:
        scores: by video id, (N, C) float.
        labels: by video id, (N, C) bool; a frame may show several classes.
        classes: names of the C classes; Normal is not among them.
        threshold: theta, one for all classes or one per class.
        mode: `threshold` gives a frame every class with score >= theta; `argmax` only the best of them.

    Raises:
        LengthMismatch: a video's scores and labels differ in length.
        DegenerateTruth: there are no videos.
        PipelineError: a video is missing on one side, or a score is not finite.
        ValueError: an unknown mode.
    """

    def __init__(
        self,
        scores: Mapping[str, np.ndarray],
        labels: Mapping[str, np.ndarray],
        classes: Sequence[str],
        *,
        threshold: float | Sequence[float] = 0.5,
        mode: str = "threshold",
    ) -> None:
        self.values, self.truth = join(scores, labels)
        self.classes = tuple(classes)
        lengths = np.array([len(labels[v]) for v in sorted(labels)])
        self.video, self.videos = np.repeat(np.arange(len(lengths)), lengths), len(lengths)
        given = self.values >= np.asarray(threshold, dtype=np.float64)
        if mode == "argmax":
            given &= np.arange(self.values.shape[1]) == self.values.argmax(axis=1)[:, None]
        elif mode != "threshold":
            raise ValueError(f"mode: expected threshold or argmax, got {mode!r}")
        self.true = self._per_video(self.truth)
        self.predicted = self._per_video(given)
        self.correct = self._per_video(given & self.truth)

    def _per_video(self, marks: np.ndarray) -> np.ndarray:
        """(N, C) bool -> (V, C) counts."""
        columns = [np.bincount(self.video[marks[:, i]], minlength=self.videos) for i in range(marks.shape[1])]
        return np.stack(columns, axis=1).astype(np.float64)

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """One ranking of all frames per class."""
        return tuple(
            Ranking.of(self.values[:, i], self.truth[:, i], self.video, self.videos) for i in range(len(self.classes))
        )

    def mf1(self, weights: np.ndarray) -> np.ndarray:
        """Mean F1 (R,) of the classes with a true or predicted frame; nan where there is none.

        Args:
            weights: (V, R) float64, how often each video, by sorted id, was drawn.
        """
        true, predicted, correct = (weights.T @ counts for counts in (self.true, self.predicted, self.correct))
        frames = true + predicted
        f1 = np.divide(2 * correct, frames, out=np.zeros_like(frames), where=frames > 0)
        counted = (frames > 0).sum(axis=1)
        mean = np.full(len(counted), np.nan)
        np.divide(f1.sum(axis=1), counted, out=mean, where=counted > 0)
        return mean

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric of each of R resamples, (R,), nan where it is not defined.

        Args:
            weights: (V, R) float64, how often each video, by sorted id, was drawn.
        """
        areas = {
            f"class_ap/{name}": r.areas(weights).stepwise for name, r in zip(self.classes, self.rankings, strict=True)
        }
        found = np.stack(list(areas.values()))
        counted = (~np.isnan(found)).sum(axis=0)
        mean = np.divide(np.nansum(found, axis=0), counted, out=np.full(len(counted), np.nan), where=counted > 0)
        return {"mf1": self.mf1(weights), "mean_class_ap": mean} | areas

    @property
    def needs(self) -> dict[str, str]:
        """By metric, the data without which it is not defined."""
        each = {f"class_ap/{name}": f"frames of {name}" for name in self.classes}
        return {"mf1": "a class in truth or prediction", "mean_class_ap": "anomalous frames"} | each

    def report(self) -> ClasswiseReport:
        """All classes one by one."""
        once = np.ones((self.videos, 1))
        found = []
        for i, (name, ranking) in enumerate(zip(self.classes, self.rankings, strict=True)):
            true, predicted, correct = (int(counts[:, i].sum()) for counts in (self.true, self.predicted, self.correct))
            score = ClassScore(
                label=name,
                precision=correct / predicted if predicted else 0.0,
                recall=correct / true if true else 0.0,
                f1=2 * correct / (predicted + true) if correct else 0.0,
                ap=float(ranking.areas(once).stepwise[0]) if true else None,
                true_frames=true,
                predicted_frames=predicted,
                correct_frames=correct,
            )
            found.append(score)
        left_out = tuple(c.label for c in found if not (c.true_frames or c.predicted_frames))
        mf1 = None if len(left_out) == len(found) else float(self.mf1(once)[0])
        return ClasswiseReport(tuple(found), mf1, left_out)


def classwise_report(
    scores: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    threshold: float | Sequence[float] = 0.5,
    mode: str = "threshold",
) -> ClasswiseReport:
    """Frame-level metrics of every anomaly class over all frames; frames without a predicted class count as negative.

    Arguments and errors are those of `ClassMetrics`.
    """
    return ClassMetrics(scores, labels, classes, threshold=threshold, mode=mode).report()
