"""An interval is not surer than the data: what it is where the bootstrap over videos sees no difference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.metrics import (
    DetMetrics,
    EventMetrics,
    FrameMetrics,
    LocalisationMetrics,
    difference,
    draw_weights,
    estimate,
)
from pipeline.metrics.bootstrap import ALIKE, ON_ONE_VIDEO
from pipeline.metrics.exact import Rate, Share, rate_interval
from pipeline.metrics.hysteresis import EventRule
from pipeline.metrics.spatial import SeenWindows

RULE = EventRule(0.5, 0.5)
NORMAL = ((), ())


def intervals(videos: dict, hours: float = 0.1, rule: EventRule = RULE) -> dict:
    """The event and DET metrics of videos of 100 frames; of each the spans found and the true ones."""
    found, truth = ({v: marks(spans[i]) for v, spans in videos.items()} for i in (0, 1))
    times = {v: np.arange(100) * hours * 36 for v in videos}
    scores = {v: m.astype(float) for v, m in found.items()}
    groups = [
        EventMetrics(scores, None, {v: m[:, None] for v, m in truth.items()}, times, ("x",), {"anomaly": rule}),
        DetMetrics(scores, truth, times, rule),
    ]
    edges = groups[0].edges | groups[1].edges
    values = estimate(groups, len(videos), resamples=300, seed=0, needs={}, edges=edges)
    return {name.removeprefix("events/anomaly/"): value for name, value in values.items()}


def marks(spans) -> np.ndarray:
    marked = np.zeros(100, dtype=bool)
    for start, end in spans:
        marked[start:end] = True
    return marked


def hit(start: int = 10) -> tuple:
    return ((start, start + 10),), ((start, start + 10),)


class TestByHand:
    @pytest.mark.parametrize(("hours", "high"), [(2.0, 1.8444), (0.1, 36.8888), (100.0, 0.0369)])
    def test_no_event_in_some_hours(self, hours, high):
        assert rate_interval(0, hours) == (0.0, pytest.approx(-math.log(0.025) / hours))
        assert Rate(hours).interval(0.0) == (0.0, pytest.approx(high, abs=1e-4))
        assert Rate(hours).interval(0.5) is None

    def test_some_events(self):
        assert rate_interval(3, 1.0) == pytest.approx((0.6187, 8.7673), abs=1e-4)

    @pytest.mark.parametrize(("videos", "low"), [(2, 0.1581), (3, 0.2924), (10, 0.6915), (100, 0.9638)])
    def test_all_or_none_of_some_videos(self, videos, low):
        assert Share(videos).interval(1.0) == (pytest.approx(low, abs=1e-4), 1.0)
        assert Share(videos).interval(0.0) == (0.0, pytest.approx(1 - low, abs=1e-4))
        assert 0.025 ** (1 / videos) == pytest.approx(low, abs=1e-4)

    def test_a_sum_of_seconds_reaches_1_up_to_rounding(self):
        assert Share(3).interval(1 - 2e-16) == Share(3).interval(1.0)

    @pytest.mark.parametrize(("videos", "value"), [(3, 0.5), (1, 1.0), (0, 0.0)])
    def test_there_is_none_between_or_for_fewer_than_two_videos(self, videos, value):
        assert Share(videos).interval(value) is None


class TestEvents:
    def test_no_false_alarm_in_two_hours(self):
        found = intervals(dict.fromkeys("abcd", NORMAL), hours=0.5)["false_alarms_per_hour"]
        assert (found.value, found.low, found.resamples, found.reason) == (0, 0, 300, None)
        assert found.high == pytest.approx(1.8444, abs=1e-4)

    def test_hours_count_and_not_how_many_videos_they_are_in(self):
        one, many = (intervals({f"v{i}": NORMAL for i in range(n)}, hours=2 / n) for n in (1, 8))
        assert one["false_alarms_per_hour"].high == pytest.approx(many["false_alarms_per_hour"].high)

    def test_three_of_three_intervals_in_three_videos(self):
        found = intervals({v: hit() for v in "abc"} | {"n": NORMAL})
        for name in ("hit_at_least_once", "recall_0.5", "precision_0.1", "f1_0.3"):
            assert (found[name].value, found[name].high, found[name].reason) == (1, 1, None), name
            assert found[name].low == pytest.approx(0.2924, abs=1e-4), name
        miss = found["miss_rate_at_10_per_hour"]
        assert (miss.value, miss.low, miss.high) == (0, 0, pytest.approx(0.7076, abs=1e-4))

    def test_none_of_three_intervals_in_three_videos(self):
        found = intervals(dict.fromkeys("abc", ((), ((10, 20),))) | {"n": NORMAL})
        for name in ("hit_at_least_once", "recall_0.5", "f1_0.3"):
            assert (found[name].value, found[name].low) == (0, 0), name
            assert found[name].high == pytest.approx(0.7076, abs=1e-4), name

    def test_videos_count_and_not_the_intervals_in_them(self):
        three = tuple((i, i + 5) for i in (10, 30, 50))
        found = intervals({"a": (three, three), "b": hit(), "n": NORMAL})
        assert found["hit_at_least_once"].low == pytest.approx(0.1581, abs=1e-4)
        alone = intervals({"a": (three, three), "n": NORMAL})["hit_at_least_once"]
        assert (alone.value, alone.low, alone.high, alone.reason) == (1, None, None, ON_ONE_VIDEO)

    def test_precision_counts_the_videos_with_an_event(self):
        false = ((50, 60),), ()
        found = intervals({"a": false, "b": false, "c": ((), ((10, 20),)), "d": NORMAL, "e": NORMAL})
        assert found["precision_0.1"].high == pytest.approx(0.8419, abs=1e-4)

    def test_time_in_alarms_counts_the_videos_with_normal_footage(self):
        found = intervals({"a": ((), ((0, 100),)), "b": NORMAL, "c": NORMAL})["false_alarm_time_rate"]
        assert (found.value, found.low, found.high) == (0, 0, pytest.approx(0.8419, abs=1e-4))

    def test_a_delay_that_is_the_same_in_every_video_has_no_interval(self):
        found = intervals({v: hit() for v in "abc"})
        assert (found["delay_mean_s"].low, found["delay_mean_s"].reason) == (None, ALIKE)

    def test_a_median_that_single_videos_do_not_change_keeps_its_interval(self):
        late = ((15, 20),), ((10, 20),)
        found = intervals({f"v{i}": hit() if i < 38 else late for i in range(40)})
        assert (found["delay_median_s"].value, found["delay_median_s"].low, found["delay_median_s"].high) == (0, 0, 0)
        assert found["delay_mean_s"].low < found["delay_mean_s"].high


class TestFrames:
    labels = {v: np.arange(10) < 5 for v in "abc"} | {v: np.zeros(10, bool) for v in "nop"}

    def test_no_alarm_in_three_normal_videos(self):
        made = FrameMetrics({v: np.full(10, 0.1) + 0.1 * t for v, t in self.labels.items()}, self.labels)
        found = estimate([made], 6, resamples=200, seed=0, needs=made.NEEDS, edges=made.edges)["false_alarm_rate"]
        assert (found.value, found.low, found.high) == (0, 0, pytest.approx(0.7076, abs=1e-4))

    def test_a_ranking_without_a_mistake_does_not_say_how_sure_it_is(self):
        made = FrameMetrics({v: t.astype(float) for v, t in self.labels.items()}, self.labels)
        found = estimate([made], 6, resamples=200, seed=0, needs=made.NEEDS, edges=made.edges)
        for name in ("frame_auc", "frame_ap", "video_auc"):
            assert (found[name].value, found[name].low, found[name].high, found[name].reason) == (1, None, None, ALIKE)


def test_hits_of_spatial_reasoning_count_the_videos_with_a_window():
    one = SeenWindows(*(np.array(values) for values in ([1.0, 1.0], [0.2, 0.3], [0.5, 0.4], [0.1, 0.1])))
    none = SeenWindows(*(np.zeros(0) for _ in range(4)))
    made = LocalisationMetrics({"a": one, "b": one, "c": one, "d": none})
    found = estimate([made], 4, resamples=100, seed=0, needs=made.needs, edges=made.edges)["anomaly/hit_rate"]
    assert (found.value, found.low, found.high) == (1, pytest.approx(0.2924, abs=1e-4), 1)


def test_two_systems_that_are_both_at_the_edge_are_not_surely_equal():
    labels = TestFrames.labels
    first, second = (FrameMetrics({v: k * t for v, t in labels.items()}, labels) for k in (0.3, 0.4))
    found = difference([first], [second], 6, resamples=100, seed=0, needs=first.NEEDS)
    for name in ("frame_auc", "false_alarm_rate"):
        assert (found[name].value, found[name].low, found[name].high, found[name].reason) == (0, None, None, ALIKE)


def test_figures_that_videos_change_are_those_of_the_bootstrap_alone():
    """Whatever is not the same in all resamples has their percentiles, bit for bit."""
    rng = np.random.default_rng(0)
    labels = {f"v{i}": marks([(20, 40)] if i % 2 else []) for i in range(8)}
    scores = {v: np.clip(0.4 * t + rng.random(100) * 0.6, 0, 1) for v, t in labels.items()}
    times = {v: np.arange(100) * 6.0 for v in labels}
    rules = {"anomaly": EventRule(0.55, 0.4)}
    groups = [
        FrameMetrics(scores, labels),
        EventMetrics(scores, None, {v: t[:, None] for v, t in labels.items()}, times, ("x",), rules),
        DetMetrics(scores, labels, times, rules["anomaly"]),
    ]
    edges = {name: edge for group in groups for name, edge in group.edges.items()}
    found = estimate(groups, 8, resamples=200, seed=3, needs={}, edges=edges)
    varied = 0
    for name, figures in (item for group in groups for item in group(draw_weights(8, 200, 3)).items()):
        defined = figures[~np.isnan(figures)]
        if len(defined) and np.ptp(defined) > 0:
            low, high = np.quantile(defined, [(1 - 0.95) / 2, (1 + 0.95) / 2])
            assert (found[name].low, found[name].high, found[name].resamples) == (low, high, len(defined)), name
            varied += 1
    assert varied > 15
