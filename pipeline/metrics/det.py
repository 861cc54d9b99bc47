"""How many anomalies are missed at how many false alarms an hour? The detection error trade-off of a rule for events.

Only the upper threshold of the rule is swept. The lower threshold is the rule's own, or the swept one where that is
smaller. At each threshold, a true interval is missed if no event overlaps it, and an event is a false alarm if it
overlaps no frame that shows an anomaly. Both are of anomaly in general; normal footage is as in
`pipeline.metrics.events`.

As thresholds fall, neighbouring false alarms grow together until a whole video is a single alarm: their number falls,
although nothing got better. So the number reported at a threshold is the largest at that or any higher threshold.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pipeline.metrics.events import GENERAL, ROUNDING, SECONDS_PER_HOUR, check_times
from pipeline.metrics.exact import Edge, share_of
from pipeline.metrics.frame import Tables, join
from pipeline.metrics.hysteresis import EventRule, frame_ends
from pipeline.metrics.temporal import runs

__all__ = ["CURVE", "HOURLY", "DetMetrics"]

HOURLY = (0.1, 1, 10, 60)
"""False alarms per hour of normal footage at which the miss rate is reported."""

CURVE = ("threshold", "false_alarms_per_hour", "most_false_alarms_per_hour", "false_alarm_time_rate", "miss_rate")
MOST_THRESHOLDS = 1000
BELOW_LOWER = 50


class DetMetrics:
    """Miss rates at fixed false alarms per hour, as functions of the videos' weights, and the curve.

    The number of events changes where the threshold passes the highest score of a run of frames that reach the rule's
    lower threshold, so these scores are the thresholds; if there are more than 1,000, that many of them, most among
    the highest. Below the lower threshold, 50 scores of frames are taken, chosen in the same way. The rule's own upper
    threshold is always one of the thresholds.

    Args:
        scores: video id -> (N,) float in [0, 1], of anomaly in general.
        labels: video id -> (N,) bool, the frames that show an anomaly.
        times_s: video id -> (N,) float64, rising presentation times.
        rule: whose upper threshold is swept.

    Raises:
        LengthMismatch, PipelineError, DegenerateTruth: as `pipeline.metrics.events.EventMetrics`.
    """

    def __init__(self, scores: Tables, labels: Tables, times_s: Tables, rule: EventRule) -> None:
        join(scores, labels)  # the same checks
        self.video_ids = sorted(scores)
        check_times(times_s, {v: len(scores[v]) for v in self.video_ids})
        self.rule = rule

        def line_up(tables: dict[str, np.ndarray], between: float) -> np.ndarray:
            return np.concatenate([np.append(np.asarray(tables[v], np.float64), between) for v in self.video_ids])

        # All videos in one line, with a frame between two that is in no event.
        self._scores = line_up(dict(scores), -np.inf)
        self._starts, self._ends = (
            line_up(dict(times_s), 0.0),
            line_up({v: frame_ends(t) for v, t in times_s.items()}, 0.0),
        )
        self._video = np.repeat(np.arange(len(self.video_ids)), [len(scores[v]) + 1 for v in self.video_ids])
        anomalous = line_up(dict(labels), 0.0) > 0
        self._true = runs(anomalous)
        self._shown = np.append(0, np.cumsum(anomalous))
        normal_s = np.where(anomalous, 0.0, self._ends - self._starts)
        self._normal_until_s = np.append(0.0, np.cumsum(normal_s))
        self.normal_s = self._per_video(np.arange(len(self._video)), normal_s)
        self.true = self._per_video(self._true[:, 0])

    def _per_video(self, frames: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(self._video[frames], values, minlength=len(self.video_ids)).astype(np.float64)

    @cached_property
    def _sweep(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What every threshold does.

        Returns:
            Thresholds (K,), descending; false alarms (K, V) and misses (K, V) at each; and seconds of normal footage in
            events (K,).
        """
        whole = runs(self._scores >= self.rule.lower)
        peaks = np.maximum.reduceat(self._scores, whole.ravel())[::2] if len(whole) else np.zeros(0)
        below = self._scores[np.isfinite(self._scores) & (self._scores < self.rule.lower)]
        chosen = np.concatenate([_choose(peaks, MOST_THRESHOLDS), _choose(below, BELOW_LOWER), [self.rule.upper]])
        thresholds = np.unique(chosen)[::-1]
        false, missed = np.zeros((2, len(thresholds), len(self.video_ids)))
        alarm_s = np.zeros(len(thresholds))
        for k, threshold in enumerate(thresholds):
            spans = whole[peaks >= threshold] if threshold >= self.rule.lower else runs(self._scores >= threshold)
            spans = self._merge(spans)
            alone = self._shown[spans[:, 1]] == self._shown[spans[:, 0]]
            false[k] = self._per_video(spans[alone, 0])
            next_start = np.append(spans[:, 0], len(self._video))
            first = np.searchsorted(spans[:, 1], self._true[:, 0], side="right")
            missed[k] = self._per_video(self._true[next_start[first] >= self._true[:, 1], 0])
            alarm_s[k] = (self._normal_until_s[spans[:, 1]] - self._normal_until_s[spans[:, 0]]).sum()
        return thresholds, false, missed, alarm_s

    def _merge(self, spans: np.ndarray) -> np.ndarray:
        """As `find_spans` merges and drops the spans (n, 2) of one video, those of all."""
        if not len(spans):
            return spans
        start, end = spans.T
        gap_s = self._starts[start[1:]] - self._ends[end[:-1] - 1]
        apart = (self._video[start[1:]] != self._video[start[:-1]]) | ~self.rule.closes(gap_s)
        start, end = start[np.append(True, apart)], end[np.append(apart, True)]
        kept = self.rule.keeps(self._ends[end - 1] - self._starts[start])
        return np.stack([start[kept], end[kept]], axis=1)

    @property
    def needs(self) -> dict[str, str]:
        """What each metric is not defined without."""
        return {_name(rate): f"a true interval and at least {_time(3600 / rate)} of normal footage" for rate in HOURLY}

    @property
    def edges(self) -> dict[str, Edge]:
        """What metrics with an exact interval count."""
        return {_name(rate): share_of(self.true) for rate in HOURLY}

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The lowest miss rate at each rate of `HOURLY`, of each of R resamples.

        The false alarms per hour are at most the rate at that threshold and at any higher one.

        Args:
            weights: as in `FrameMetrics`.

        Returns:
            Name of the metric -> (R,); nan without a true interval, and where the footage is too short for one false
            alarm at that rate.
        """
        _, false, missed, _ = self._sweep
        most = np.maximum.accumulate(false @ weights, axis=0)
        missed = missed @ weights
        hours, true = self.normal_s @ weights / SECONDS_PER_HOUR, self.true @ weights
        columns = np.arange(weights.shape[1])
        metrics = {}
        for rate in HOURLY:
            allowed = rate * hours * (1 + ROUNDING)
            within = (most <= allowed).sum(axis=0)
            misses = np.where(within > 0, missed[within - 1, columns], true)  # above all scores, all are missed
            defined = (true > 0) & (allowed >= 1)
            metrics[_name(rate)] = np.divide(misses, true, out=np.full(len(true), np.nan), where=defined)
        return metrics

    def curve(self) -> dict[str, np.ndarray]:
        """The columns of `CURVE`, each (K,), of all videos once; empty where there is no truth or no normal footage."""
        thresholds, false, missed, alarm_s = self._sweep
        seconds, true = self.normal_s.sum(), self.true.sum()
        if not seconds > 0 or not true > 0:
            return {name: np.zeros(0) for name in CURVE}
        hourly = false.sum(axis=1) * SECONDS_PER_HOUR / seconds
        columns = (thresholds, hourly, np.maximum.accumulate(hourly), alarm_s / seconds, missed.sum(axis=1) / true)
        return dict(zip(CURVE, columns, strict=True))


def _name(rate: float) -> str:
    return f"events/{GENERAL}/miss_rate_at_{rate:g}_per_hour"


def _time(seconds: float) -> str:
    """Hours, or minutes where they are less than one: 10 h, 6 min."""
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"


def _choose(scores: np.ndarray, most: int) -> np.ndarray:
    """All distinct scores, or at most so many of them: those of the highest ranks, and ever fewer further down."""
    distinct = np.unique(scores)[::-1]
    if len(distinct) <= most:
        return distinct
    return distinct[np.unique(np.geomspace(1, len(distinct), most).round().astype(np.int64)) - 1]
