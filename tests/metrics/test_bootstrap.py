"""The bootstrap: equal to resampling by concatenation, and intervals that cover as often as they claim."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from pipeline.metrics import ClassMetrics, DetectionMetrics, FrameMetrics, difference, draw_weights, estimate
from pipeline.metrics.bootstrap import ALIKE, Estimate
from pipeline.metrics.temporal import IOUS

CLASSES = ("x", "y")


def make(videos: int = 9, seed: int = 0, decimals: int = 1, skill: float = 0.3) -> tuple[dict, dict]:
    """Scores and labels (N, 2) of some videos; every third one is normal. The truth does not depend on the skill."""
    rng = np.random.default_rng(seed)
    labels, scores = {}, {}
    for i in range(videos):
        frames = 20 + 3 * i
        truth = np.zeros((frames, 2), bool)
        if i % 3:
            truth[5 : 9 + i, i % 2] = True
        labels[f"v{i}"] = truth
        scores[f"v{i}"] = np.round(skill * truth + (1 - skill) * rng.random(truth.shape), decimals)
    return scores, labels


def best(tables: dict) -> dict:
    return {name: table.max(axis=1) for name, table in tables.items()}


def copies(tables: dict, weights: np.ndarray) -> dict:
    """The resample as people write it: every video as often as it was drawn."""
    return {f"{name}#{k}": tables[name] for name, n in zip(sorted(tables), weights, strict=True) for k in range(int(n))}


@pytest.mark.parametrize("decimals", [1, 9])
def test_areas_of_a_resample_equal_scikit_learn_on_the_copies(decimals):
    scores, labels = (best(tables) for tables in make(decimals=decimals))
    weights = draw_weights(len(labels), 20, seed=1)
    found = FrameMetrics(scores, labels)(weights)
    video = np.repeat(np.arange(len(labels)), [len(labels[v]) for v in sorted(labels)])
    truth, values = (np.concatenate([table[v] for v in sorted(labels)]) for table in (labels, scores))
    for r in range(20):
        many = np.repeat(np.arange(len(truth)), weights[video, r].astype(int))
        precision, recall, _ = precision_recall_curve(truth[many], values[many])
        assert found["frame_auc"][r] == pytest.approx(
            roc_auc_score(truth, values, sample_weight=weights[video, r]), abs=1e-12
        )
        assert found["frame_auc"][r] == pytest.approx(roc_auc_score(truth[many], values[many]), abs=1e-12)
        assert found["frame_ap"][r] == pytest.approx(average_precision_score(truth[many], values[many]), abs=1e-12)
        assert found["frame_ap_trapezoid"][r] == pytest.approx(auc(recall, precision), abs=1e-12)


@pytest.mark.parametrize("kind", ["frames", "classes", "argmax", "detections"])
def test_every_metric_of_a_resample_is_that_of_the_copies(kind):
    scores, labels = make()
    build = {
        "frames": lambda s, t: FrameMetrics(best(s), best(t)),
        "classes": lambda s, t: ClassMetrics(s, t, CLASSES, threshold=[0.5, 0.6]),
        "argmax": lambda s, t: ClassMetrics(s, t, CLASSES, threshold=0.4, mode="argmax"),
        "detections": lambda s, t: DetectionMetrics(s, t, CLASSES),
    }[kind]
    weights = draw_weights(len(labels), 12, seed=2)
    found = build(scores, labels)(weights)
    for r in range(12):
        many = build(copies(scores, weights[:, r]), copies(labels, weights[:, r]))
        again = many(np.ones((len(labels), 1)))
        assert set(found) == set(again)
        for name, values in again.items():
            assert found[name][r] == pytest.approx(values[0], abs=1e-12, nan_ok=True), name


def test_results_do_not_depend_on_how_many_resamples_run_at_once(monkeypatch):
    scores, labels = (best(tables) for tables in make())
    weights = draw_weights(len(labels), 30, seed=3)
    whole = FrameMetrics(scores, labels)(weights)
    monkeypatch.setattr("pipeline.metrics.ranking.CELLS_AT_ONCE", 1)
    for name, values in FrameMetrics(scores, labels)(weights).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-12)


def test_draws_are_of_whole_videos_and_follow_the_seed():
    weights = draw_weights(7, 100, seed=4)
    assert weights.shape == (7, 100)
    assert (weights.sum(axis=0) == 7).all()
    np.testing.assert_array_equal(weights, draw_weights(7, 100, seed=4))
    assert (weights != draw_weights(7, 100, seed=5)).any()


def test_an_interval_holds_the_middle_95_percent_of_the_resamples():
    def metrics(weights):
        return {"first": weights[0]}

    found = estimate([metrics], 50, resamples=4000, seed=0, needs={})["first"]
    spread = np.sort(draw_weights(50, 4000, 0)[0])
    assert found.value == 1.0
    assert (found.low, found.high) == (spread[100], spread[3899])
    assert found.resamples == 4000


def test_an_interval_of_a_mean_is_as_wide_as_theory_says():
    videos = np.random.default_rng(0).normal(size=400)
    found = estimate([lambda w: {"mean": videos @ w / w.sum(axis=0)}], 400, resamples=2000, seed=0, needs={})["mean"]
    expected = 1.96 * videos.std() / 20
    assert found.high - found.value == pytest.approx(expected, rel=0.1)
    assert found.value - found.low == pytest.approx(expected, rel=0.1)


def test_a_metric_that_is_not_defined_says_what_it_lacks():
    labels = {"a": np.array([True, False]), "b": np.array([True, False])}
    metrics = FrameMetrics({"a": np.array([0.9, 0.1]), "b": np.array([0.2, 0.3])}, labels)
    found = estimate([metrics], 2, resamples=10, seed=0, needs=metrics.NEEDS)
    assert found["false_alarm_rate"] == Estimate(None, reason="not defined without a normal video")
    assert found["frame_auc"].value == 0.75


def test_resamples_without_the_metric_are_left_out_and_counted():
    labels = {"a": np.array([True]), "b": np.array([False]), "c": np.array([True]), "d": np.array([False])}
    metrics = FrameMetrics(
        {"a": np.array([0.9]), "b": np.array([0.2]), "c": np.array([0.1]), "d": np.array([0.3])}, labels
    )
    found = estimate([metrics], 4, resamples=200, seed=0, needs={})["frame_auc"]
    drawn = draw_weights(4, 200, 0) > 0
    both = int(((drawn[0] | drawn[2]) & (drawn[1] | drawn[3])).sum())
    assert 0 < both < 200
    assert (found.value, found.low, found.high, found.resamples) == (0.5, 0.0, 1.0, both)


class TestOneVideo:
    """An interval over videos needs at least two that the metric rests on."""

    kept = "the interval is not defined: the figure rests on one video"

    def test_of_one_video_no_interval_is_defined(self):
        scores, labels = make(videos=2)
        scores, labels = {"v1": scores["v1"]}, {"v1": labels["v1"]}
        groups = [
            FrameMetrics(best(scores), best(labels)),
            ClassMetrics(scores, labels, CLASSES, threshold=0.5),
            DetectionMetrics(scores, labels, CLASSES),
        ]
        found = estimate(groups, 1, resamples=50, seed=0, needs={})
        defined = {name: metric for name, metric in found.items() if metric.value is not None}
        assert {"frame_auc", "frame_ap", "mf1", "detection_map"} <= set(defined)
        for name, metric in defined.items():
            assert (metric.low, metric.high, metric.resamples, metric.reason) == (None, None, 50, self.kept), name
        gap = difference(groups[:1], groups[:1], 1, resamples=50, seed=0, needs={})["frame_auc"]
        assert (gap.value, gap.low, gap.high, gap.reason) == (0, None, None, self.kept)

    def test_one_normal_video_among_others_gives_the_false_alarms_no_interval(self):
        scores, labels = (best(tables) for tables in make(videos=3))  # v0 is normal
        found = estimate([FrameMetrics(scores, labels)], 3, resamples=200, seed=0, needs={})
        assert found["false_alarm_rate"].reason == self.kept
        assert found["frame_auc"].low < found["frame_auc"].high
        assert found["frame_auc"].reason is None


def test_without_resamples_there_is_no_interval():
    scores, labels = (best(tables) for tables in make())
    found = estimate([FrameMetrics(scores, labels)], len(labels), resamples=0, seed=0, needs={})["frame_auc"]
    assert found.value is not None
    assert (found.low, found.high, found.resamples) == (None, None, 0)


def test_paired_differences_are_surer_than_unpaired_ones():
    better, labels = make(videos=30, decimals=9, skill=0.35)
    worse = {v: np.clip(s - 0.02 * labels[v], 0, 1) for v, s in better.items()}
    first, second = (FrameMetrics(best(s), best(labels)) for s in (better, worse))
    options = {"resamples": 300, "seed": 0, "needs": {}}
    gap = difference([first], [second], 30, **options)["frame_auc"]
    one, other = (estimate([f], 30, **options)["frame_auc"] for f in (first, second))
    assert gap.value == pytest.approx(one.value - other.value)
    assert gap.low > 0
    assert gap.high - gap.low < (one.high - one.low) / 2
    same = difference([first], [first], 30, **options)["frame_auc"]
    assert same == Estimate(0.0, None, None, 300, ALIKE)


def test_names_of_detection_metrics():
    scores, labels = make()
    assert set(DetectionMetrics(scores, labels, CLASSES)(np.ones((9, 1)))) == {
        *(f"detection_map_{least}" for least in IOUS),
        "detection_map",
    }
