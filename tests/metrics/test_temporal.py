"""Temporal detection, by hand: proposals, matching, and the mean over classes."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics import DetectionMetrics
from pipeline.metrics.temporal import iou, match, propose, runs

ONE = np.ones((1, 1))


def video(length: int, *parts: tuple[int, int, float]) -> np.ndarray:
    """One class column, 0 but for some [start, end) at a height."""
    scores = np.zeros((length, 1))
    for start, end, height in parts:
        scores[start:end] = height
    return scores


def test_runs_are_half_open_and_reach_both_ends():
    assert runs(np.array([1, 1, 0, 1, 0, 0, 1])).tolist() == [[0, 2], [3, 4], [6, 7]]
    assert runs(np.zeros(3, bool)).shape == (0, 2)


def test_iou_by_hand():
    assert iou(np.array([[0, 10]]), np.array([[0, 10], [5, 15], [10, 20], [2, 4]])).tolist() == [[1, 5 / 15, 0, 0.2]]


def test_a_plateau_is_one_proposal_with_its_mean():
    found, confidence = propose(video(20, (4, 9, 0.62))[:, 0])
    assert found.tolist() == [[4, 9]]
    assert confidence == pytest.approx([0.62])


def test_of_nested_proposals_those_that_hardly_overlap_stay():
    peak = video(40, (0, 30, 0.3), (10, 14, 0.9))[:, 0]
    found, confidence = propose(peak)
    assert found.tolist() == [[10, 14], [0, 30]]
    assert confidence == pytest.approx([0.9, 0.38])
    wide = video(40, (0, 30, 0.3), (10, 28, 0.9))[:, 0]
    assert propose(wide)[0].tolist() == [[10, 28]]  # 18 of 30 frames: the lower one is suppressed


def test_a_true_interval_is_found_once():
    detections, truth = np.array([[0, 10], [1, 10], [20, 26]]), np.array([[0, 10], [20, 30]])
    assert match(detections, truth, 0.5).tolist() == [True, False, True]
    assert match(detections, truth, 0.7).tolist() == [True, False, False]
    assert match(detections, np.zeros((0, 2)), 0.1).tolist() == [False] * 3


def test_map_by_hand():
    labels = {"a": video(100, (10, 20, 1), (50, 60, 1)) > 0, "b": video(50) > 0}
    scores = {"a": video(100, (10, 18, 0.9), (80, 90, 0.5)), "b": video(50, (0, 5, 0.7))}
    # Detections by confidence: 0.9 (IoU 0.8 with the first interval), 0.7 false, 0.5 false; the second interval is
    # missed.
    metrics = DetectionMetrics(scores, labels, ("x",))(ONE.repeat(2, axis=0))
    assert {name: float(value[0]) for name, value in metrics.items()} == {
        **{f"detection_map_{least}": 0.5 for least in (0.1, 0.2, 0.3, 0.4, 0.5)},
        "detection_map": 0.5,
    }


def test_the_overlap_asked_for_matters():
    labels, scores = {"a": video(30, (0, 20, 1)) > 0}, {"a": video(30, (0, 7, 0.8))}  # IoU 0.35
    metrics = DetectionMetrics(scores, labels, ("x",))(ONE)
    assert [float(metrics[f"detection_map_{least}"][0]) for least in (0.1, 0.2, 0.3, 0.4, 0.5)] == [1, 1, 1, 0, 0]
    assert metrics["detection_map"][0] == pytest.approx(0.6)


def test_a_class_without_a_true_interval_is_no_part_of_the_mean():
    labels = {"a": np.concatenate([video(30, (0, 20, 1)), video(30)], axis=1) > 0}
    scores = {"a": np.concatenate([video(30, (0, 20, 0.8)), video(30, (0, 9, 0.9))], axis=1)}
    assert DetectionMetrics(scores, labels, ("x", "y"))(ONE)["detection_map"][0] == 1
    nothing = DetectionMetrics(scores, {"a": np.zeros((30, 2), bool)}, ("x", "y"))(ONE)
    assert np.isnan(nothing["detection_map"][0])


def test_a_class_that_is_never_scored_counts_as_missed():
    labels = {"a": video(30, (0, 20, 1)) > 0}
    assert DetectionMetrics({"a": video(30)}, labels, ("x",))(ONE)["detection_map"][0] == 0
