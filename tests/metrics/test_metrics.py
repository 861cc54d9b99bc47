"""Metrics against scikit-learn, hand-computed cases, ties, and ground truth on which they are not defined."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    auc,
    average_precision_score,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
)

from pipeline.errors import DegenerateTruth, LengthMismatch, PipelineError
from pipeline.metrics import (
    anomalous_auc,
    classwise_report,
    false_alarm_rate,
    frame_ap,
    frame_ap_trapezoid,
    frame_auc,
    hit_rate,
    video_auc,
)


@pytest.fixture
def videos():
    rng = np.random.default_rng(0)
    labels = {name: rng.random((n, 3)) < 0.2 for name, n in (("b", 40), ("a", 25), ("c", 60))}
    scores = {name: np.clip(truth * 0.3 + rng.random(truth.shape) * 0.7, 0, 1) for name, truth in labels.items()}
    return scores, labels


def best(tables):
    return {name: table.max(axis=1) for name, table in tables.items()}


def test_auc_and_ap_are_those_of_all_frames_together(videos):
    scores, labels = (best(tables) for tables in videos)
    truth = np.concatenate([labels[v] for v in "abc"])
    values = np.concatenate([scores[v] for v in "abc"])
    assert frame_auc(scores, labels) == pytest.approx(roc_auc_score(truth, values))
    assert frame_ap(scores, labels) == pytest.approx(average_precision_score(truth, values))


def test_auc_by_hand():
    scores = {"v": np.array([0.1, 0.4, 0.35, 0.8])}
    labels = {"v": np.array([False, False, True, True])}
    assert frame_auc(scores, labels) == 0.75
    assert frame_ap(scores, labels) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_constant_scores_give_exactly_a_half():
    labels = {"v": np.arange(10) < 3}
    assert frame_auc({"v": np.full(10, 0.3)}, labels) == 0.5
    assert frame_ap({"v": np.full(10, 0.3)}, labels) == pytest.approx(0.3)
    assert frame_ap_trapezoid({"v": np.full(10, 0.3)}, labels) == pytest.approx((1 + 0.3) / 2)
    several = {f"v{i}": np.arange(i + 3) < i for i in range(1, 40)}
    same = {name: np.full(len(truth), 1 / 3) for name, truth in several.items()}
    assert (frame_auc(same, several), anomalous_auc(same, several)) == (0.5, 0.5)


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_areas_equal_scikit_learn_with_and_without_ties(decimals):
    rng = np.random.default_rng(decimals)
    labels = {f"v{i}": rng.random(50) < 0.15 for i in range(12)}
    scores = {name: np.round(0.2 * truth + 0.8 * rng.random(50), decimals) for name, truth in labels.items()}
    truth, values = (np.concatenate([table[v] for v in labels]) for table in (labels, scores))
    precision, recall, _ = precision_recall_curve(truth, values)
    assert frame_auc(scores, labels) == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    assert frame_ap(scores, labels) == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    assert frame_ap_trapezoid(scores, labels) == pytest.approx(auc(recall, precision), abs=1e-12)


def test_the_two_average_precisions_by_hand():
    scores = {"v": np.array([0.1, 0.4, 0.35, 0.8])}
    labels = {"v": np.array([False, False, True, True])}
    # The curve goes through (0, 1), (1/2, 1), (1/2, 1/2) and (1, 2/3).
    assert frame_ap_trapezoid(scores, labels) == pytest.approx(0.5 * 1 + 0.5 * (1 / 2 + 2 / 3) / 2)


def test_metrics_of_normal_and_of_anomalous_videos_by_hand():
    labels = {
        "a": np.array([0, 1, 1], bool),
        "b": np.array([1, 0], bool),
        "n": np.zeros(4, bool),
        "m": np.zeros(1, bool),
    }
    scores = {
        "a": np.array([0.2, 0.9, 0.1]),
        "b": np.array([0.8, 0.3]),
        "n": np.array([0.5, 0.4, 0.6, 0.1]),
        "m": np.array([0.85]),
    }
    # anomalous frames 0.9, 0.1, 0.8 against normal frames 0.2, 0.3 of the same videos: 4 of 6 pairs are in order
    assert anomalous_auc(scores, labels) == pytest.approx(4 / 6)
    assert false_alarm_rate(scores, labels) == pytest.approx(3 / 5)  # 0.5 itself is an alarm
    assert video_auc(scores, labels) == pytest.approx(3 / 4)  # 0.9 and 0.8 against 0.6 and 0.85


@pytest.mark.parametrize(
    ("metric", "labels", "message"),
    [
        (false_alarm_rate, {"v": [True, False]}, "false_alarm_rate needs a normal video"),
        (video_auc, {"v": [True, False]}, "video_auc needs anomalous and normal videos"),
        (anomalous_auc, {"v": [False, False]}, "anomalous_videos_auc needs anomalous videos"),
        (anomalous_auc, {"v": [True, True], "w": [False]}, "anomalous_videos_auc needs .* a normal frame in one"),
        (frame_ap_trapezoid, {"v": [False, False]}, "frame_ap_trapezoid needs"),
    ],
)
def test_a_metric_that_is_not_defined_is_an_error(metric, labels, message):
    truth = {name: np.array(marks) for name, marks in labels.items()}
    with pytest.raises(DegenerateTruth, match=message):
        metric({name: np.zeros(len(marks)) for name, marks in truth.items()}, truth)


def test_bad_input_is_an_error_that_names_the_video():
    labels = {"v": np.array([True, False])}
    with pytest.raises(LengthMismatch, match="v: 3 scores for 2 frames"):
        frame_auc({"v": np.zeros(3)}, labels)
    with pytest.raises(PipelineError, match="no scores for .*v"):
        frame_auc({"w": np.zeros(2)}, labels)
    with pytest.raises(PipelineError, match="v: the score of frame 1 is not finite"):
        frame_auc({"v": np.array([0.0, np.nan])}, labels)
    with pytest.raises(DegenerateTruth, match="frame_auc needs anomalous and normal frames: 0 of the 2 frames"):
        frame_auc({"v": np.zeros(2)}, {"v": np.zeros(2, bool)})
    with pytest.raises(DegenerateTruth, match="2 of the 2 frames"):
        frame_ap({"v": np.zeros(2)}, {"v": np.ones(2, bool)})
    with pytest.raises(DegenerateTruth, match="no videos"):
        frame_auc({}, {})


def test_classwise_metrics_equal_scikit_learn(videos):
    scores, labels = videos
    report = classwise_report(scores, labels, ("x", "y", "z"), threshold=0.5)
    truth = np.concatenate([labels[v] for v in "abc"])
    given = np.concatenate([scores[v] for v in "abc"]) >= 0.5
    precision, recall, f1, support = precision_recall_fscore_support(truth, given, average=None, zero_division=0)
    assert [c.label for c in report.classes] == ["x", "y", "z"]
    np.testing.assert_allclose([c.precision for c in report.classes], precision)
    np.testing.assert_allclose([c.recall for c in report.classes], recall)
    np.testing.assert_allclose([c.f1 for c in report.classes], f1)
    assert [c.true_frames for c in report.classes] == support.tolist()
    assert report.mf1 == pytest.approx(f1.mean())
    assert report.left_out == ()
    values = np.concatenate([scores[v] for v in "abc"])
    assert [c.ap for c in report.classes] == pytest.approx(
        [average_precision_score(truth[:, i], values[:, i]) for i in range(3)]
    )


def test_a_frame_of_several_classes_counts_for_each():
    labels = {"v": np.array([[True, True], [True, False], [False, False]])}
    scores = {"v": np.array([[0.9, 0.6], [0.2, 0.7], [0.1, 0.1]])}
    first, second = classwise_report(scores, labels, ("x", "y")).classes
    assert (first.true_frames, first.predicted_frames, first.correct_frames) == (2, 1, 1)
    assert (second.true_frames, second.predicted_frames, second.correct_frames) == (1, 2, 1)
    assert classwise_report(scores, labels, ("x", "y")).mf1 == pytest.approx(2 / 3)


def test_without_any_class_in_truth_or_prediction_there_is_no_mf1():
    report = classwise_report({"v": np.zeros((3, 2))}, {"v": np.zeros((3, 2), bool)}, ("x", "y"))
    assert (report.mf1, report.left_out) == (None, ("x", "y"))
    assert [c.ap for c in report.classes] == [None, None]


def test_a_class_in_neither_truth_nor_prediction_is_left_out():
    labels = {"v": np.array([[True, False], [False, False]])}
    report = classwise_report({"v": np.array([[0.9, 0.1], [0.8, 0.2]])}, labels, ("x", "y"))
    assert report.left_out == ("y",)
    assert report.mf1 == pytest.approx(2 / 3)
    assert (report.classes[0].precision, report.classes[0].recall) == (0.5, 1.0)


def test_argmax_gives_a_frame_at_most_one_class_and_thresholds_may_differ():
    labels = {"v": np.array([[True, True]])}
    scores = {"v": np.array([[0.9, 0.8]])}
    assert [c.predicted_frames for c in classwise_report(scores, labels, "xy", mode="argmax").classes] == [1, 0]
    assert [c.predicted_frames for c in classwise_report(scores, labels, "xy").classes] == [1, 1]
    counts = [c.predicted_frames for c in classwise_report(scores, labels, "xy", threshold=[0.95, 0.5]).classes]
    assert counts == [0, 1]
    with pytest.raises(ValueError, match="mode"):
        classwise_report(scores, labels, "xy", mode="best")


def test_hit_rate_by_hand():
    positions = np.array([[0, 1], [2, 3], [0, 3]])
    found = hit_rate(positions, [{1}, {0, 1}, {3}], 4)
    assert found.rate == pytest.approx(2 / 3)
    assert found.chance == pytest.approx((0.5 + 5 / 6 + 0.5) / 3)
    assert found.windows == 3
    with pytest.raises(DegenerateTruth):
        hit_rate(np.empty((0, 2), int), [], 4)
