"""Events: is every anomaly found as an event, how late, and how many alarms are false?

Found events come from frame scores by a rule of two thresholds (`pipeline.metrics.hysteresis`). True intervals are the
maximal runs of frames that show a class, or any class where anomaly in general is looked for. All lengths are seconds
by presentation times. Normal footage is the time in which no class is shown, of all videos. docs/evaluation.md has the
definitions beside those of other systems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import LengthMismatch, PipelineError
from pipeline.metrics.exact import Edge, Rate, share_of
from pipeline.metrics.frame import Tables, join
from pipeline.metrics.hysteresis import EventRule, find_spans, frame_ends
from pipeline.metrics.temporal import IOUS, iou, runs

__all__ = ["GENERAL", "EventMetrics", "VideoEvents", "check_times", "compare_events"]

GENERAL = "anomaly"
"""Whose rule is that of anomaly in general."""

ROUNDING = 1e-9
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class VideoEvents:
    """The events found in one video beside its true intervals.

    Attributes:
        found: (n, 2) int64, first frame and the one after the last.
        true: (m, 2) int64, the same of the true intervals.
        partner: (n,) int64, the true interval that each event is matched with, -1 for none.
        overlap: (n,) float64, the IoU of the two in seconds, 0 without a partner.
        false: (n,) bool, whether the event overlaps no frame that shows an anomaly of whatever class.
        delay_s: (m,) float64, from the start of a true interval to the first moment in it that lies in an event; nan
            where no event overlaps it.
        alarm_s: seconds of normal footage that lie in an event.
    """

    found: np.ndarray
    true: np.ndarray
    partner: np.ndarray
    overlap: np.ndarray
    false: np.ndarray
    delay_s: np.ndarray
    alarm_s: float

    @property
    def hit(self) -> np.ndarray:
        """(m,) bool, which true intervals some event overlaps."""
        hit: np.ndarray = ~np.isnan(self.delay_s)
        return hit


def compare_events(found: np.ndarray, labels: np.ndarray, anomalous: np.ndarray, times_s: np.ndarray) -> VideoEvents:
    """Put the events of one video beside its truth.

    An event and a true interval are matched one to one, the pair of the largest IoU first.

    Args:
        found: (n, 2) int64, first frame of each event and the one after its last, in order; none overlap.
        labels: (N,) bool, the frames that show what the events are of.
        anomalous: (N,) bool, the frames that show any class.
        times_s: (N,) float64, rising presentation times.

    Examples:
        At one frame per second frames 2 to 5 are anomalous. The first event begins a second late and ends with the
        interval; the second one is a false alarm.

        >>> labels = np.array([0, 0, 1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
        >>> events = compare_events(np.array([[3, 6], [8, 9]]), labels, labels, np.arange(10.0))
        >>> events.partner, events.overlap, events.false
        (array([ 0, -1]), array([0.75, 0.  ]), array([False,  True]))
        >>> events.delay_s, events.alarm_s
        (array([1.]), 1.0)
    """
    ends_s = frame_ends(times_s)
    true = runs(labels)
    partner, overlap = np.full(len(found), -1), np.zeros(len(found))
    delay_s = np.full(len(true), np.nan)
    if len(found) and len(true):
        overlaps = _iou_s(found, true, times_s, ends_s)
        while overlaps.max() > 0:
            event, interval = np.unravel_index(overlaps.argmax(), overlaps.shape)
            partner[event], overlap[event] = interval, overlaps[event, interval]
            overlaps[event], overlaps[:, interval] = 0.0, 0.0
        first = np.searchsorted(found[:, 1], true[:, 0], side="right")  # the first event that ends in or after it
        late = np.append(found[:, 0], len(labels))[first]
        hit = late < true[:, 1]
        delay_s[hit] = np.maximum(times_s[late[hit]] - times_s[true[hit, 0]], 0.0)
    shown = np.append(0, np.cumsum(anomalous))
    false = shown[found[:, 1]] == shown[found[:, 0]]
    inside = np.zeros(len(labels), dtype=bool)
    for start, end in found:
        inside[start:end] = True
    alarm_s = float((ends_s - times_s)[inside & ~anomalous].sum())
    return VideoEvents(found, true, partner, overlap, false, delay_s, alarm_s)


class EventMetrics:
    """The event metrics of a set of videos, as functions of the videos' weights.

    Args:
        scores: video id -> (N,) float in [0, 1], of anomaly in general.
        classwise: video id -> (N, C) float in [0, 1]; None where there are no class scores.
        labels: video id -> (N, C) bool.
        times_s: video id -> (N,) float64, rising presentation times.
        classes: names of the C classes.
        rules: when scores are an event, by class, and by `GENERAL` for anomaly in general.

    Raises:
        LengthMismatch, PipelineError, DegenerateTruth: as `pipeline.metrics.frame.FrameMetrics`, of the times too.
    """

    def __init__(
        self,
        scores: Tables,
        classwise: Tables | None,
        labels: Tables,
        times_s: Tables,
        classes: Sequence[str],
        rules: Mapping[str, EventRule],
    ) -> None:
        join(scores, labels)  # the same checks
        self.video_ids = sorted(scores)
        check_times(times_s, {v: len(scores[v]) for v in self.video_ids})
        self.classes = tuple(classes) if classwise is not None else ()
        anomalous = {v: np.any(labels[v], axis=1) for v in self.video_ids}
        self.normal_s = np.array(
            [(frame_ends(times_s[v]) - times_s[v])[~anomalous[v]].sum() for v in self.video_ids], dtype=np.float64
        )

        def beside_truth(values: Tables, truth: Tables, rule: EventRule) -> dict[str, VideoEvents]:
            return {
                v: compare_events(find_spans(values[v], times_s[v], rule), truth[v], anomalous[v], times_s[v])
                for v in self.video_ids
            }

        self.general = beside_truth(scores, anomalous, rules[GENERAL])
        self.by_class: dict[str, dict[str, VideoEvents]] = {}
        if classwise is not None:
            join(classwise, labels)
            for i, name in enumerate(self.classes):
                one, truth = ({v: table[v][:, i] for v in self.video_ids} for table in (classwise, labels))
                self.by_class[name] = beside_truth(one, truth, rules[name])
        self._counts = _Counts.of(list(self.general.values()))
        self._class_counts = {name: _Counts.of(list(videos.values())) for name, videos in self.by_class.items()}

    @property
    def needs(self) -> dict[str, str]:
        """What each metric is not defined without."""
        each = {"delay_median_s": "a true interval that is hit", "delay_mean_s": "a true interval that is hit"}
        each |= dict.fromkeys(("false_alarms_per_hour", "false_alarm_time_rate"), "normal footage")
        found: dict[str, str] = {}
        for prefix in (GENERAL, *(f"class/{name}" for name in self.classes)):
            known = dict.fromkeys(_of_truth(), "a true interval") | each
            known |= {f"precision_{least}": "an event" for least in IOUS}
            found |= {f"events/{prefix}/{name}": need for name, need in known.items()}
        return found | {f"events/class_mean/{name}": "a true interval" for name in _of_truth()}

    @property
    def edges(self) -> dict[str, Edge]:
        """What metrics with an exact interval count."""
        prefixed = {GENERAL: self._counts} | {f"class/{name}": c for name, c in self._class_counts.items()}
        return {
            f"events/{prefix}/{name}": edge
            for prefix, counts in prefixed.items()
            for name, edge in counts.edges(self.normal_s).items()
        }

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric of each of R resamples, (R,), nan where it is not defined; `weights` as in `FrameMetrics`.

        Names begin with `events/anomaly/`, `events/class/<name>/` or, of the mean over the classes that have a true
        interval, `events/class_mean/`.
        """
        metrics = {}
        normal_s = self.normal_s @ weights
        for name, value in self._counts.metrics(weights, normal_s).items():
            metrics[f"events/{GENERAL}/{name}"] = value
        classes = [counts.metrics(weights, normal_s) for counts in self._class_counts.values()]
        for label, found in zip(self._class_counts, classes, strict=True):
            metrics |= {f"events/class/{label}/{name}": value for name, value in found.items()}
        if classes:
            known = ~np.isnan([found["recall_0.5"] for found in classes])
            for name in _of_truth():
                values = np.stack([found[name] for found in classes])
                values = np.where(known, np.nan_to_num(values), 0.0)  # precision without an event counts 0
                metrics[f"events/class_mean/{name}"] = _ratio(values.sum(axis=0), known.sum(axis=0))
        return metrics


@dataclass(frozen=True)
class _Counts:
    """What is counted in V videos.

    Attributes:
        found, true: (V,) events found and true intervals.
        matched: (I, V) matched pairs at each of `IOUS`.
        hit: (V,) true intervals that an event overlaps.
        false: (V,) false alarms.
        alarm_s: (V,) seconds of normal footage in an event.
        delay_s, delay_video: (n,) delay in seconds and number of the video of each interval that was hit.
    """

    found: np.ndarray
    true: np.ndarray
    matched: np.ndarray
    hit: np.ndarray
    false: np.ndarray
    alarm_s: np.ndarray
    delay_s: np.ndarray
    delay_video: np.ndarray

    @classmethod
    def of(cls, videos: Sequence[VideoEvents]) -> _Counts:
        hit = np.array([video.hit.sum() for video in videos])
        return cls(
            found=np.array([len(video.found) for video in videos], dtype=np.float64),
            true=np.array([len(video.true) for video in videos], dtype=np.float64),
            matched=np.array([[(v.overlap >= least - ROUNDING).sum() for v in videos] for least in IOUS], np.float64),
            hit=hit.astype(np.float64),
            false=np.array([video.false.sum() for video in videos], dtype=np.float64),
            alarm_s=np.array([video.alarm_s for video in videos]),
            delay_s=np.concatenate([video.delay_s[video.hit] for video in videos]),
            delay_video=np.repeat(np.arange(len(videos)), hit),
        )

    def metrics(self, weights: np.ndarray, normal_s: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric (R,) from weights (V, R) and the seconds of normal footage (R,)."""
        found, true, hit = self.found @ weights, self.true @ weights, self.hit @ weights
        metrics = {}
        for least, matched in zip(IOUS, self.matched @ weights, strict=True):
            metrics[f"precision_{least}"] = _ratio(matched, found)
            metrics[f"recall_{least}"] = _ratio(matched, true)
            metrics[f"f1_{least}"] = np.where(true > 0, _ratio(2 * matched, found + true), np.nan)
        metrics["hit_at_least_once"] = _ratio(hit, true)
        drawn = weights[self.delay_video]
        metrics["delay_median_s"] = _median(self.delay_s, drawn)
        metrics["delay_mean_s"] = _ratio(self.delay_s @ drawn, hit)
        metrics["false_alarms_per_hour"] = _ratio(self.false @ weights * SECONDS_PER_HOUR, normal_s)
        metrics["false_alarm_time_rate"] = _ratio(self.alarm_s @ weights, normal_s)
        return metrics

    def edges(self, normal_s: np.ndarray) -> dict[str, Edge]:
        """What metrics with an exact interval count, from the seconds of normal footage (V,)."""
        units = {"precision": self.found, "recall": self.true, "f1": self.true}
        edges: dict[str, Edge] = {f"{k}_{least}": share_of(u) for k, u in units.items() for least in IOUS}
        edges |= {"hit_at_least_once": share_of(self.true), "false_alarm_time_rate": share_of(normal_s)}
        return edges | {"false_alarms_per_hour": Rate(float(normal_s.sum()) / SECONDS_PER_HOUR)}


def check_times(times_s: Tables, frames: Mapping[str, int]) -> None:
    """Every video has one presentation time a frame, and they rise. Raises LengthMismatch, PipelineError."""
    for video_id, count in frames.items():
        if video_id not in times_s:
            raise PipelineError(f"{video_id}: no presentation times")
        times = times_s[video_id]
        if len(times) != count:
            raise LengthMismatch(f"{video_id}: {len(times)} presentation times for {count} frames")
        if not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
            raise PipelineError(f"{video_id}: expected finite, rising presentation times")


def _of_truth() -> tuple[str, ...]:
    """The metrics that a mean over classes is made of."""
    return (*(f"{kind}_{least}" for kind in ("precision", "recall", "f1") for least in IOUS), "hit_at_least_once")


def _iou_s(first: np.ndarray, second: np.ndarray, times_s: np.ndarray, ends_s: np.ndarray) -> np.ndarray:
    """IoU (n, m) in seconds of frame intervals; of frames that last no time, in frames."""
    if not (ends_s > times_s).any():
        return iou(first, second)
    one, other = (np.stack([times_s[spans[:, 0]], ends_s[spans[:, 1] - 1]], axis=1) for spans in (first, second))
    with np.errstate(invalid="ignore"):
        overlaps: np.ndarray = np.nan_to_num(iou(one, other))
    return overlaps


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio


def _median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median (R,) of values (n,), each as often as its weight (n, R) says; nan where nothing is drawn."""
    if not len(values):
        return np.full(weights.shape[1], np.nan)
    order = np.argsort(values, kind="stable")
    values, reached = values[order], np.cumsum(weights[order], axis=0)
    half = reached[-1] / 2
    middle = (values[(reached >= half).argmax(axis=0)] + values[(reached > half).argmax(axis=0)]) / 2
    return np.where(half > 0, middle, np.nan)
