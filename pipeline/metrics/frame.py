"""General metrics: how well one anomaly score per frame separates anomalous from normal frames, and videos.

They are task 1 of the paper. The frames of all videos are taken together (micro). A video is anomalous if one of its
frames is; its score is the highest of its frames. docs/evaluation.md compares these definitions with the variants that
other systems report.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from pipeline.errors import DegenerateTruth, LengthMismatch, PipelineError
from pipeline.metrics.exact import Edge, share_of
from pipeline.metrics.ranking import Ranking

__all__ = [
    "FALSE_ALARM_THRESHOLD",
    "FrameMetrics",
    "anomalous_auc",
    "false_alarm_rate",
    "frame_ap",
    "frame_ap_trapezoid",
    "frame_auc",
    "join",
    "video_auc",
]

Tables = Mapping[str, np.ndarray]
FALSE_ALARM_THRESHOLD = 0.5


class FrameMetrics:
    """The general metrics of a set of videos, as functions of the videos' weights.

    Args:
        scores: by video id, (N,) float.
        labels: by video id, (N,) bool, True where the frame is anomalous.

    Raises:
        LengthMismatch: a video's scores and labels differ in length.
        DegenerateTruth: there are no videos.
        PipelineError: a video is missing on one side, or a score is not finite.
    """

    NEEDS = {
        "frame_auc": "anomalous and normal frames",
        "frame_ap": "anomalous and normal frames",
        "frame_ap_trapezoid": "anomalous and normal frames",
        "anomalous_videos_auc": "anomalous videos, and a normal frame in one",
        "video_auc": "anomalous and normal videos",
        "false_alarm_rate": "a normal video",
    }

    def __init__(self, scores: Tables, labels: Tables) -> None:
        self.values, self.truth = join(scores, labels)
        self.video_ids = sorted(scores)
        lengths = np.array([len(labels[v]) for v in self.video_ids])
        self.video = np.repeat(np.arange(len(lengths)), lengths)
        self.video_truth = np.array([bool(np.any(labels[v])) for v in self.video_ids])

    @cached_property
    def frames(self) -> Ranking:
        """All frames."""
        return Ranking.of(self.values, self.truth, self.video, len(self.video_ids))

    @cached_property
    def frames_of_anomalous_videos(self) -> Ranking:
        """The frames of the anomalous videos."""
        kept = self.video_truth[self.video]
        return Ranking.of(self.values[kept], self.truth[kept], self.video[kept], len(self.video_ids))

    @cached_property
    def videos(self) -> Ranking:
        """One item per video, its highest score."""
        count = len(self.video_ids)
        highest = np.full(count, -np.inf)
        np.maximum.at(highest, self.video, self.values)
        filled = np.flatnonzero(np.isfinite(highest))  # a video without a frame has no score
        return Ranking.of(highest[filled], self.video_truth[filled], filled, count)

    @property
    def edges(self) -> dict[str, Edge]:
        """What metrics with an exact interval count."""
        normal = ~self.video_truth[self.video]
        return {"false_alarm_rate": share_of(np.bincount(self.video[normal], minlength=len(self.video_ids)))}

    def false_alarms(self, weights: np.ndarray) -> np.ndarray:
        """Share of the frames of normal videos with a score of at least 0.5, (R,); nan without a normal video."""
        normal = ~self.video_truth[self.video]
        alarms = np.bincount(self.video[normal & (self.values >= FALSE_ALARM_THRESHOLD)], minlength=len(self.video_ids))
        frames = np.bincount(self.video[normal], minlength=len(self.video_ids)) @ weights
        share = np.full(len(frames), np.nan)
        np.divide(alarms @ weights, frames, out=share, where=frames > 0)
        return share

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric of each of R resamples, (R,), nan where it is not defined.

        Args:
            weights: (V, R) float64, how often each video, by sorted id, was drawn.
        """
        frames = self.frames.areas(weights)
        one_kind = np.isnan(frames.auc)  # the AP of anomalous frames alone would be 1, whatever the scores
        return {
            "frame_auc": frames.auc,
            "frame_ap": np.where(one_kind, np.nan, frames.stepwise),
            "frame_ap_trapezoid": np.where(one_kind, np.nan, frames.trapezoidal),
            "anomalous_videos_auc": self.frames_of_anomalous_videos.areas(weights).auc,
            "video_auc": self.videos.areas(weights).auc,
            "false_alarm_rate": self.false_alarms(weights),
        }

    def one(self, name: str) -> float:
        """One metric with every video counted once. Raises DegenerateTruth if it is not defined."""
        value = float(self(np.ones((len(self.video_ids), 1)))[name][0])
        if np.isnan(value):
            frames = (
                f"{int(self.truth.sum())} of the {len(self.truth)} frames of {len(self.video_ids)} videos are anomalous"
            )
            raise DegenerateTruth(f"{name} needs {self.NEEDS[name]}: {frames}")
        return value


def frame_auc(scores: Tables, labels: Tables) -> float:
    """Area under the ROC curve of all frames (section 4.3 of the paper). Equal scores give exactly 0.5.

    Args:
        scores: by video id, (N,) float.
        labels: by video id, (N,) bool, True where the frame is anomalous.

    Raises:
        LengthMismatch: a video's scores and labels differ in length.
        DegenerateTruth: the metric is not defined on this ground truth.
        PipelineError: a video is missing on one side, or a score is not finite.

    Examples:
        One of the four pairs of an anomalous and a normal frame is ranked wrongly.

        >>> scores = {"v1": np.array([0.1, 0.9]), "v2": np.array([0.5, 0.3])}
        >>> labels = {"v1": np.array([False, True]), "v2": np.array([False, True])}
        >>> frame_auc(scores, labels)
        0.75
    """
    return FrameMetrics(scores, labels).one("frame_auc")


def frame_ap(scores: Tables, labels: Tables) -> float:
    """Step-wise average precision of all frames: the sum of precision x rise of recall.

    Arguments and errors are those of `frame_auc`.
    """
    return FrameMetrics(scores, labels).one("frame_ap")


def frame_ap_trapezoid(scores: Tables, labels: Tables) -> float:
    """Area under the precision-recall curve of all frames with straight lines between its points.

    Arguments and errors are those of `frame_auc`.
    """
    return FrameMetrics(scores, labels).one("frame_ap_trapezoid")


def anomalous_auc(scores: Tables, labels: Tables) -> float:
    """`frame_auc` of the frames of anomalous videos only: whether the right part of them is found.

    Arguments and errors are those of `frame_auc`.
    """
    return FrameMetrics(scores, labels).one("anomalous_videos_auc")


def video_auc(scores: Tables, labels: Tables) -> float:
    """Area under the ROC curve of the videos, each with its highest score.

    Arguments and errors are those of `frame_auc`.
    """
    return FrameMetrics(scores, labels).one("video_auc")


def false_alarm_rate(scores: Tables, labels: Tables) -> float:
    """Share of the frames of normal videos that score at least 0.5.

    Arguments and errors are those of `frame_auc`.
    """
    return FrameMetrics(scores, labels).one("false_alarm_rate")


def join(scores: Tables, labels: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of all videos, concatenated in the order of their ids; errors are those of `FrameMetrics`."""
    if set(scores) != set(labels):
        raise PipelineError(
            f"no scores for {sorted(set(labels) - set(scores))}, no labels for {sorted(set(scores) - set(labels))}"
        )
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
