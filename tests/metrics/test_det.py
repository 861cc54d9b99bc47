"""Miss rate at false alarms per hour: hand-made sweeps, and the sweep against events found one threshold at a time."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics import DetMetrics, EventMetrics, draw_weights, estimate
from pipeline.metrics.hysteresis import EventRule

RULE = EventRule(0.5, 0.25, merge_gap_s=1.0, min_length_s=0.5)
HOUR = 3600


def spiky(frames: int, spikes: dict[int, float], width: int = 10) -> np.ndarray:
    scores = np.zeros(frames)
    for start, height in spikes.items():
        scores[start : start + width] = height
    return scores


def test_hand_made_sweep():
    """Two normal hours at a frame a second with false alarms at 0.9, 0.7 and 0.6, and three anomalies, found at 0.95,
    0.8 and 0.1."""
    normal = spiky(2 * HOUR, {100: 0.9, 1000: 0.7, 3000: 0.6})
    anomalous = spiky(30, {0: 0.95, 20: 0.1}), spiky(10, {0: 0.8})
    labels = spiky(30, {0: 1, 20: 1}) > 0, np.ones(10, bool)
    scores = dict(zip("nab", (normal, *anomalous), strict=True))
    truth = dict(zip("nab", (np.zeros(2 * HOUR, bool), *labels), strict=True))
    times = {v: np.arange(len(s), dtype=float) for v, s in scores.items()}
    made = DetMetrics(scores, truth, times, RULE)
    curve = {name: values.tolist() for name, values in made.curve().items()}
    hours = (2 * HOUR + 10) / HOUR
    assert curve["threshold"] == [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.1, 0.0]
    assert curve["miss_rate"] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert curve["false_alarms_per_hour"] == pytest.approx(np.array([0, 1, 1, 2, 3, 3, 3, 1]) / hours)
    assert curve["most_false_alarms_per_hour"] == pytest.approx(np.array([0, 1, 1, 2, 3, 3, 3, 3]) / hours)
    assert curve["false_alarm_time_rate"][3] == pytest.approx(20 / (2 * HOUR + 10))
    assert curve["false_alarm_time_rate"][-1] == 1
    found = estimate([made], 3, resamples=0, seed=0, needs=made.needs)
    rates = {name.rsplit("_at_")[1]: value for name, value in found.items()}
    assert rates["0.1_per_hour"].value is None
    assert rates["0.1_per_hour"].reason == "not defined without a true interval and at least 10 h of normal footage"
    assert rates["1_per_hour"].value == pytest.approx(1 / 3)  # at most two in these two hours: down to 0.7
    assert rates["10_per_hour"].value == rates["60_per_hour"].value == 0


def test_gaps_and_lengths_at_the_limit_are_those_of_single_videos():
    """The sweep and the events at one threshold round alike."""
    fps, n = 30000 / 1001, 600
    times = {f"v{i}": np.arange(n) / fps for i in range(8)}
    starts = {v: range(7 * i, n, 90) for i, v in enumerate(times)}
    scores = {v: spiky(n, dict.fromkeys(starts[v], 0.9), 30) for v in times}
    rule = EventRule(0.5, 0.5, merge_gap_s=60 / fps, min_length_s=30 / fps)
    truth = {v: np.zeros(n, bool) for v in times} | {"v0": np.arange(n) < 10}
    curve = DetMetrics(scores, truth, times, rule).curve()
    hours = (8 * n - 10) / fps / HOUR
    assert curve["false_alarms_per_hour"][0] * hours == pytest.approx(7)  # one alarm a video; that of v0 is right


def test_a_permanent_alarm_is_not_one_false_alarm_an_hour():
    """At threshold 0 a whole video is one alarm; what was false above it still counts."""
    spikes = dict.fromkeys(range(0, HOUR - 20, 40), 0.5)
    scores = {"n": spiky(HOUR, spikes), "a": np.full(10, 0.1)}
    truth = {"n": np.zeros(HOUR, bool), "a": np.ones(10, bool)}
    times = {v: np.arange(len(s), dtype=float) for v, s in scores.items()}
    made = DetMetrics(scores, truth, times, RULE)
    assert made.curve()["false_alarms_per_hour"][-1] == 1
    found = made(np.ones((2, 1)))
    assert found["events/anomaly/miss_rate_at_1_per_hour"].tolist() == [1.0]
    assert found["events/anomaly/miss_rate_at_60_per_hour"].tolist() == [1.0]


def random_scores(seed: int, decimals: int) -> tuple[dict, dict, dict]:
    rng = np.random.default_rng(seed)
    scores, truth, times = {}, {}, {}
    for i in range(6):
        n = int(rng.integers(1, 120))
        smooth = np.convolve(rng.random(n + 6), np.ones(7) / 7, "valid")
        scores[f"v{i}"] = np.round(np.clip((smooth - 0.3) * 2.2, 0, 1), decimals)
        truth[f"v{i}"] = np.convolve(rng.random(n) > 0.97, np.ones(9))[:n] > 0 if i % 2 else np.zeros(n, bool)
        times[f"v{i}"] = rng.random() + np.cumsum(rng.choice([0.1, 0.2, 0.7], n))
    return scores, truth, times


@pytest.mark.parametrize("seed", range(6))
def test_every_point_is_what_the_events_at_that_threshold_give(seed):
    scores, truth, times = random_scores(seed, 2)
    made = DetMetrics(scores, truth, times, RULE)
    curve = made.curve()
    once = np.ones((6, 1))
    for k, threshold in enumerate(curve["threshold"]):
        rule = EventRule(threshold, min(RULE.lower, threshold), RULE.merge_gap_s, RULE.min_length_s)
        labels = {v: m[:, None] for v, m in truth.items()}
        events = EventMetrics(scores, None, labels, times, ("x",), {"anomaly": rule})(once)
        for name, other in (
            ("false_alarms_per_hour", events["events/anomaly/false_alarms_per_hour"]),
            ("false_alarm_time_rate", events["events/anomaly/false_alarm_time_rate"]),
            ("miss_rate", 1 - events["events/anomaly/hit_at_least_once"]),
        ):
            assert curve[name][k] == pytest.approx(other[0], abs=1e-9), (name, threshold)
    assert (np.diff(curve["miss_rate"]) <= 0).all()
    assert RULE.upper in curve["threshold"]


def test_a_resample_is_what_the_copies_give():
    tables = random_scores(11, 2)
    # Hours, so that a rate of 1 an hour can be shown.
    scores, truth, times = (*tables[:2], {v: 400 * t for v, t in tables[2].items()})
    order = sorted(scores)
    weights = draw_weights(6, 20, seed=2)
    values = DetMetrics(scores, truth, times, RULE)(weights)
    for r in range(20):
        names = [f"{v}#{k}" for v, n in zip(order, weights[:, r], strict=True) for k in range(int(n))]
        copies = DetMetrics(*({n: t[n.split("#")[0]] for n in names} for t in (scores, truth, times)), RULE)
        for name, value in copies(np.ones((6, 1))).items():
            np.testing.assert_allclose(values[name][r], value[0], rtol=1e-12, err_msg=f"{name} {r}")


def test_of_many_thresholds_the_highest_are_kept_whole(monkeypatch):
    monkeypatch.setattr("pipeline.metrics.det.MOST_THRESHOLDS", 20)
    peaks = np.linspace(0.3, 0.99, 500)
    scores = {"n": np.stack([peaks, np.zeros(500)], axis=1).ravel(), "a": np.full(10, 0.3)}
    truth = {"n": np.zeros(1000, bool), "a": np.ones(10, bool)}
    times = {v: 30.0 * np.arange(len(s)) for v, s in scores.items()}
    threshold = DetMetrics(scores, truth, times, RULE).curve()["threshold"]
    assert len(threshold) <= 22
    assert threshold[:3].tolist() == peaks[-3:][::-1].tolist()
    assert threshold[-2] == 0.3


@pytest.mark.parametrize("truth", [np.zeros(9, bool), np.ones(9, bool)])
def test_without_truth_or_normal_footage_there_is_no_curve(truth):
    made = DetMetrics({"a": np.zeros(9)}, {"a": truth}, {"a": np.arange(9.0) * HOUR}, RULE)
    assert all(not len(column) for column in made.curve().values())
    assert all(np.isnan(value).all() for value in made(np.ones((1, 1))).values())


def test_no_score_reaches_any_threshold():
    """Scores of 0 are the lowest threshold: one alarm a video."""
    scores, truth = {"n": np.zeros(HOUR), "a": np.zeros(5)}, {"n": np.zeros(HOUR, bool), "a": np.ones(5, bool)}
    made = DetMetrics(scores, truth, {v: np.arange(len(s), dtype=float) for v, s in scores.items()}, RULE)
    assert made.curve()["threshold"].tolist() == [0.5, 0.0]
    assert made.curve()["miss_rate"].tolist() == [1, 0]
