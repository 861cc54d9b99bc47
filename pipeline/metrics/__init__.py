"""Figures: pure functions on arrays keyed by video id."""

from pipeline.metrics.classwise import ClassScore, ClasswiseReport, classwise_report
from pipeline.metrics.frame import frame_ap, frame_auc
from pipeline.metrics.spatial import HitRate, hit_rate

__all__ = ["ClassScore", "ClasswiseReport", "HitRate", "classwise_report", "frame_ap", "frame_auc", "hit_rate"]
