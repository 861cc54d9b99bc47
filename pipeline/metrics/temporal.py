"""Temporal detection: whether anomalies are found as intervals. Mean average precision at overlaps (IoU) of 0.1 to 0.5.

The protocol has no parameter that is fitted to data:

1. Proposals of a video and class: the maximal runs of frames whose class score is at least t, for t = 0.05, 0.10, ...,
   0.95. A proposal's confidence is its mean score. The 100 most confident are kept.
2. Non-maximum suppression: in order of confidence, a proposal is dropped if its IoU with a kept one is above 0.5.
3. True intervals: the maximal runs of frames that show the class.
4. In order of confidence, over all videos, a detection takes the free true interval of its video with the largest IoU,
   if that is at least the threshold; otherwise it is a false detection.
5. AP of a class is step-wise, over the true intervals of that class; mAP is the mean over the classes that have one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from pipeline.metrics.frame import join
from pipeline.metrics.ranking import Ranking

__all__ = ["IOUS", "DetectionMetrics", "iou", "match", "propose", "runs"]

IOUS = (0.1, 0.2, 0.3, 0.4, 0.5)
LEVELS = np.arange(1, 20) / 20
MOST_PROPOSALS = 100
LARGEST_OVERLAP = 0.5


def runs(marks: np.ndarray) -> np.ndarray:
    """Maximal runs of True in (N,) bool: (n, 2) int64, start and end (exclusive).

    Examples:
        >>> runs(np.array([True, True, False, True]))
        array([[0, 2],
               [3, 4]])
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(marks, dtype=bool), [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Overlaps of intervals (n, 2) and (m, 2): frames of both over frames of either, (n, m) in [0, 1]."""
    start, end = first[:, :1], first[:, 1:]
    both = np.maximum(np.minimum(end, second[:, 1]) - np.maximum(start, second[:, 0]), 0)
    either: np.ndarray = (end - start) + (second[:, 1] - second[:, 0]) - both
    overlaps: np.ndarray = both / either
    return overlaps


def propose(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps 1 and 2 of the protocol.

    Args:
        scores: (N,) float in [0, 1], one class of one video.

    Returns:
        Intervals (n, 2) int64, half-open, and their confidences (n,) float64, descending.
    """
    found = np.unique(np.concatenate([runs(scores >= level) for level in LEVELS]), axis=0)
    sums = np.concatenate([[0.0], np.cumsum(scores, dtype=np.float64)])
    confidence = (sums[found[:, 1]] - sums[found[:, 0]]) / (found[:, 1] - found[:, 0])
    order = np.argsort(-confidence, kind="stable")[:MOST_PROPOSALS]
    found, confidence = found[order], confidence[order]
    free, apart = np.ones(len(found), dtype=bool), iou(found, found) <= LARGEST_OVERLAP
    for i in range(len(found)):
        if free[i]:
            free[i + 1 :] &= apart[i, i + 1 :]
    return found[free], confidence[free]


def match(detections: np.ndarray, truth: np.ndarray, least: float) -> np.ndarray:
    """Step 4 of the protocol in one video.

    Args:
        detections: (n, 2) intervals, the most confident first.
        truth: (m, 2) true intervals.
        least: smallest IoU of a detection with the interval that it finds.

    Returns:
        (n,) bool, which detections find a free true interval.
    """
    hits = np.zeros(len(detections), dtype=bool)
    if not len(truth):
        return hits
    overlaps = iou(detections, truth)
    for i in np.flatnonzero((overlaps >= least).any(axis=1)):
        best = overlaps[i].argmax()
        if overlaps[i, best] >= least:
            hits[i] = True
            overlaps[:, best] = -1.0  # taken
    return hits


class DetectionMetrics:
    """mAP at every IoU, and their mean, of a set of videos as functions of the videos' weights.

    Args:
        scores: by video id, (N, C) float in [0, 1].
        labels: by video id, (N, C) bool.
        classes: names of the C classes.

    Raises:
        LengthMismatch: a video's scores and labels differ in length.
        DegenerateTruth: there are no videos.
        PipelineError: a video is missing on one side, or a score is not finite.
    """

    def __init__(
        self, scores: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], classes: Sequence[str]
    ) -> None:
        join(scores, labels)  # the same checks
        self.scores, self.labels, self.classes = scores, labels, tuple(classes)

    @property
    def needs(self) -> dict[str, str]:
        """By metric, the data without which it is not defined."""
        return dict.fromkeys([*(f"detection_map_{least}" for least in IOUS), "detection_map"], "a true interval")

    @cached_property
    def rankings(self) -> dict[float, list[Ranking]]:
        """By IoU, the detections of each class that has a true interval."""
        order = sorted(self.scores)
        found: dict[float, list[Ranking]] = {least: [] for least in IOUS}
        for i in range(len(self.classes)):
            truth = [runs(self.labels[v][:, i]) for v in order]
            wanted = np.array([len(intervals) for intervals in truth])
            if not wanted.any():
                continue
            proposals = [propose(self.scores[v][:, i]) for v in order]
            confidence = np.concatenate([c for _, c in proposals])
            video = np.repeat(np.arange(len(order)), [len(c) for _, c in proposals])
            for least in IOUS:
                hits = [match(p, t, least) for (p, _), t in zip(proposals, truth, strict=True)]
                found[least].append(Ranking.of(confidence, np.concatenate(hits), video, len(order), wanted))
        return found

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric of each of R resamples, (R,), nan where no class has a true interval.

        Args:
            weights: (V, R) float64, how often each video, by sorted id, was drawn.
        """
        metrics = {}
        for least, rankings in self.rankings.items():
            mean = np.full(weights.shape[1], np.nan)
            if rankings:
                areas = np.stack([ranking.areas(weights).stepwise for ranking in rankings])
                counted = (~np.isnan(areas)).sum(axis=0)
                np.divide(np.nansum(areas, axis=0), counted, out=mean, where=counted > 0)
            metrics[f"detection_map_{least}"] = mean
        metrics["detection_map"] = np.mean(list(metrics.values()), axis=0)
        return metrics
