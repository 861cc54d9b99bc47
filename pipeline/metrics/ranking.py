"""Threshold curves of scored items (frames, videos or detections) whose videos have weights.

A resample of the bootstrap is a weight for each video: how often it was drawn. All curves are made of counts: the total
weight of positive and of negative items with scores at or above a threshold. Negative items between two scores of
positive ones are interchangeable, so items are grouped into bins once; each resample is then one column of a sparse
product. Nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

__all__ = ["Areas", "Ranking"]

CELLS_AT_ONCE = 150_000


@dataclass(frozen=True)
class Areas:
    """Areas under the curves of R resamples.

    Attributes:
        auc: (R,) area under the ROC curve. Equal scores give exactly 0.5; nan without a positive or a negative item.
        stepwise: (R,) average precision, the sum of precision x rise of recall; nan without a positive item.
        trapezoidal: (R,) area under the precision-recall curve with straight lines between its points, beginning at
            (0, 1); nan without a positive item.
    """

    auc: np.ndarray
    stepwise: np.ndarray
    trapezoidal: np.ndarray


@dataclass(frozen=True)
class Ranking:
    """Items in descending order of score.

    Attributes:
        thresholds: (K,) float64, the lowest score in each bin, descending. A bin holds the items of one score, or
            neighbouring scores of negative items only.
        positives: (K, V) sparse float64, positive items in each bin of each video.
        negatives: the same of negative items.
        wanted: (V,) float64, positive items of each video that can be found. Detections can be fewer than these.
    """

    thresholds: np.ndarray
    positives: csr_array
    negatives: csr_array
    wanted: np.ndarray

    @classmethod
    def of(
        cls, scores: np.ndarray, positive: np.ndarray, video: np.ndarray, videos: int, wanted: np.ndarray | None = None
    ) -> Ranking:
        """Sort and group items.

        Args:
            scores: (N,) finite float.
            positive: (N,) bool.
            video: (N,) integer in [0, V), whose item it is.
            videos: V.
            wanted: (V,) positive items that can be found; default: the number of positive items.
        """
        order = np.argsort(-scores, kind="stable")
        scores, positive, video = scores[order], positive[order], video[order]
        first = np.ones(len(scores), dtype=bool)
        first[1:] = scores[1:] != scores[:-1]
        starts = np.flatnonzero(first)
        holds = np.add.reduceat(positive, starts, dtype=np.int64) > 0 if len(starts) else np.zeros(0, bool)
        opens = np.ones(len(starts), dtype=bool)
        # A score without a positive item joins the bin before it, if that has none either.
        opens[1:] = holds[1:] | holds[:-1]
        bins = np.repeat(np.cumsum(opens) - 1, np.diff(np.append(starts, len(scores))))
        count, lowest = int(opens.sum()), scores[np.flatnonzero(np.diff(bins, append=-1))]

        def per_bin_and_video(kind: np.ndarray) -> csr_array:
            cells = bins[kind].astype(np.int64) * videos + video[kind]
            cells, items = np.unique(cells, return_counts=True)
            places = (cells // videos, cells % videos)
            return csr_array((items.astype(np.float64), places), shape=(count, videos))

        if wanted is None:
            wanted = np.bincount(video[positive], minlength=videos)
        return cls(
            thresholds=lowest,
            positives=per_bin_and_video(positive),
            negatives=per_bin_and_video(~positive),
            wanted=np.asarray(wanted, dtype=np.float64),
        )

    @cached_property
    def ones(self) -> np.ndarray:
        """The weights (V, 1) of every video once."""
        return np.ones((len(self.wanted), 1))

    def counts(self, weights: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """Weighted counts at or above every threshold.

        Args:
            weights: (V, R) float64, a weight for every video in each of R resamples.

        Yields:
            Columns of R, true positives (K, r), false positives (K, r) and all positives (r,), float64.
        """
        step = max(1, CELLS_AT_ONCE // max(1, len(self.thresholds)))
        for start in range(0, weights.shape[1], step):
            columns = slice(start, min(start + step, weights.shape[1]))
            part = np.ascontiguousarray(weights[:, columns])
            true = np.cumsum(self.positives @ part, axis=0)
            false = np.cumsum(self.negatives @ part, axis=0)
            yield columns, true, false, self.wanted @ part

    def areas(self, weights: np.ndarray) -> Areas:
        """The areas under the curves of each of R resamples.

        Args:
            weights: (V, R) float64, a weight for each video in each resample.
        """
        auc, stepwise, trapezoidal = np.full((3, weights.shape[1]), np.nan)
        for columns, true, false, positives in self.counts(weights):
            if not len(true):
                stepwise[columns] = trapezoidal[columns] = np.where(positives > 0, 0.0, np.nan)
                continue
            precision = _precision(true, false)
            before = np.concatenate([np.ones_like(precision[:1]), precision[:-1]])
            rises = np.diff(true, axis=0, prepend=0.0)
            between = true - rises / 2  # a tie of a positive and a negative item counts a half
            auc[columns] = _ratio((np.diff(false, axis=0, prepend=0.0) * between).sum(axis=0), positives * false[-1])
            stepwise[columns] = _ratio((rises * precision).sum(axis=0), positives)
            trapezoidal[columns] = _ratio((rises * (precision + before)).sum(axis=0) / 2, positives)
        return Areas(auc, stepwise, trapezoidal)

    def curve(self) -> dict[str, np.ndarray]:
        """The curve with each video counted once.

        Returns:
            The arrays threshold, true_positives, false_positives, positives and negatives, each (K,).
        """
        ((_, true, false, positives),) = self.counts(self.ones)
        count = len(self.thresholds)
        return {
            "threshold": self.thresholds,
            "true_positives": true[:, 0],
            "false_positives": false[:, 0],
            "positives": np.full(count, positives[0]),
            "negatives": np.full(count, false[-1, 0] if count else 0.0),
        }


def _ratio(area: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio = np.full(len(whole), np.nan)
    np.divide(area, whole, out=ratio, where=whole > 0)
    return ratio


def _precision(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Precision at each threshold; 1 where a resample has no item yet, since the curve begins at (0, 1)."""
    given = true + false
    precision = np.ones_like(true)
    np.divide(true, given, out=precision, where=given > 0)
    return precision
