"""Figures against scikit-learn, hand-computed cases and ties."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from pipeline.errors import DegenerateTruth, LengthMismatch, PipelineError
from pipeline.metrics import classwise_report, frame_ap, frame_auc, hit_rate


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


def test_bad_input_is_an_error_that_names_the_video():
    labels = {"v": np.array([True, False])}
    with pytest.raises(LengthMismatch, match="v: 3 scores for 2 frames"):
        frame_auc({"v": np.zeros(3)}, labels)
    with pytest.raises(PipelineError, match="no scores for .*v"):
        frame_auc({"w": np.zeros(2)}, labels)
    with pytest.raises(PipelineError, match="v: the score of frame 1 is not finite"):
        frame_auc({"v": np.array([0.0, np.nan])}, labels)
    with pytest.raises(DegenerateTruth, match="none of the 2 frames"):
        frame_auc({"v": np.zeros(2)}, {"v": np.zeros(2, bool)})
    with pytest.raises(DegenerateTruth, match="all of the 2 frames"):
        frame_ap({"v": np.zeros(2)}, {"v": np.ones(2, bool)})
    with pytest.raises(DegenerateTruth, match="no videos"):
        frame_auc({}, {})


def test_classwise_figures_equal_scikit_learn(videos):
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
