"""Metrics: pure functions on arrays keyed by video id.

`DEFINITIONS` is the version of their definitions, which docs/evaluation.md describes.
"""

from pipeline.metrics.bootstrap import Estimate, difference, draw_weights, estimate
from pipeline.metrics.classwise import ClassMetrics, ClassScore, ClasswiseReport, classwise_report
from pipeline.metrics.det import DetMetrics
from pipeline.metrics.events import EventMetrics
from pipeline.metrics.frame import (
    FrameMetrics,
    anomalous_auc,
    false_alarm_rate,
    frame_ap,
    frame_ap_trapezoid,
    frame_auc,
    video_auc,
)
from pipeline.metrics.spatial import HitRate, LocalisationMetrics, hit_rate
from pipeline.metrics.temporal import DetectionMetrics

__all__ = [
    "DEFINITIONS",
    "ClassMetrics",
    "ClassScore",
    "ClasswiseReport",
    "DetMetrics",
    "DetectionMetrics",
    "Estimate",
    "EventMetrics",
    "FrameMetrics",
    "HitRate",
    "LocalisationMetrics",
    "anomalous_auc",
    "classwise_report",
    "difference",
    "draw_weights",
    "estimate",
    "false_alarm_rate",
    "frame_ap",
    "frame_ap_trapezoid",
    "frame_auc",
    "hit_rate",
    "video_auc",
]

DEFINITIONS = 2
