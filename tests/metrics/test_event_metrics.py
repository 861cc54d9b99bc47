"""Event metrics: hand-made events with known values, degenerate cases, and what must hold for any events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import LengthMismatch, PipelineError
from pipeline.metrics import EventMetrics, draw_weights, estimate
from pipeline.metrics.events import compare_events
from pipeline.metrics.hysteresis import EventRule

RULE = EventRule(0.5, 0.5)


def marks(frames: int, *spans: tuple[int, int]) -> np.ndarray:
    found = np.zeros(frames, dtype=bool)
    for start, end in spans:
        found[start:end] = True
    return found


def metrics(found: dict, truth: dict, fps: float = 1.0, shift_s: float = 0.0, rule: EventRule = RULE) -> dict:
    """The metrics of anomaly in general of all videos once, from marked frames."""
    made = make(found, truth, fps, shift_s, rule)
    values = made(np.ones((len(found), 1)))
    return {name.rsplit("/")[-1]: v[0] for name, v in values.items() if name.startswith("events/anomaly/")}


def make(found: dict, truth: dict, fps: float = 1.0, shift_s: float = 0.0, rule: EventRule = RULE) -> EventMetrics:
    scores = {v: np.where(m, 0.9, 0.1) for v, m in found.items()}
    times = {v: shift_s + np.arange(len(m)) / fps for v, m in found.items()}
    labels = {v: m[:, None] for v, m in truth.items()}
    return EventMetrics(scores, None, labels, times, ("x",), {"anomaly": rule})


def test_hand_made_events_have_known_metrics():
    """Two videos of 100 s. The first shows [10, 30) and [60, 70), the second nothing."""
    truth = {"a": marks(100, (10, 30), (60, 70)), "b": marks(100)}
    found = {"a": marks(100, (14, 24), (61, 63), (80, 90)), "b": marks(100, (0, 20), (50, 51))}
    known = metrics(found, truth)
    # IoUs: [14, 24) in [10, 30) is 10 / 20, [61, 63) in [60, 70) is 2 / 10; three others overlap nothing.
    for least, pairs in ((0.1, 2), (0.2, 2), (0.3, 1), (0.4, 1), (0.5, 1)):
        assert known[f"precision_{least}"] == pytest.approx(pairs / 5)
        assert known[f"recall_{least}"] == pytest.approx(pairs / 2)
        assert known[f"f1_{least}"] == pytest.approx(2 * pairs / 7)
    assert known["hit_at_least_once"] == 1
    assert known["delay_median_s"] == known["delay_mean_s"] == pytest.approx((4 + 1) / 2)
    assert known["false_alarms_per_hour"] == pytest.approx(3 / (170 / 3600))
    assert known["false_alarm_time_rate"] == pytest.approx((10 + 20 + 1) / 170)


def test_an_early_alarm_has_no_delay_and_its_early_part_is_false_time():
    known = metrics({"a": marks(50, (5, 20))}, {"a": marks(50, (10, 40))})
    assert known["delay_mean_s"] == 0
    assert known["false_alarms_per_hour"] == 0
    assert known["false_alarm_time_rate"] == pytest.approx(5 / 20)
    assert known["recall_0.2"] == 1  # 10 s of 35 s
    assert known["recall_0.3"] == 0


def test_lengths_are_seconds_where_the_frame_rate_varies():
    """The event covers 4 of the 10 true frames, but they last 12 of 18 s."""
    times = np.concatenate([np.arange(6), 6 + 3 * np.arange(4), 18 + np.arange(10)])
    found, truth = marks(20, (6, 10)), marks(20, (0, 10))
    made = compare_events(np.array([[6, 10]]), truth, truth, times)
    assert made.overlap.tolist() == pytest.approx([12 / 18])
    assert made.delay_s.tolist() == [6.0]
    scores = {"a": np.where(found, 0.9, 0.1)}
    known = EventMetrics(scores, None, {"a": truth[:, None]}, {"a": times}, ("x",), {"anomaly": RULE})
    assert known.normal_s.tolist() == [10.0]


def test_an_event_and_a_true_interval_are_matched_one_to_one_the_largest_overlap_first():
    truth = marks(100, (0, 40), (42, 52))
    made = compare_events(np.array([[0, 10], [12, 38], [39, 60]]), truth, truth, np.arange(100.0))
    assert made.partner.tolist() == [-1, 0, 1]
    assert made.overlap.tolist() == pytest.approx([0, 26 / 40, 10 / 21])
    assert made.delay_s.tolist() == [0.0, 0.0]
    assert made.false.tolist() == [False, False, False]  # the first is surplus, and yet it is no false alarm


def test_an_event_of_the_wrong_class_is_wrong_but_no_false_alarm():
    labels = {"a": np.stack([marks(60, (10, 20)), marks(60)], axis=1)}
    classwise = {"a": np.where(np.stack([marks(60), marks(60, (10, 20))], axis=1), 0.9, 0.1)}
    general = {"a": classwise["a"].max(axis=1)}
    rules = dict.fromkeys(("anomaly", "x", "y"), RULE)
    made = EventMetrics(general, classwise, labels, {"a": np.arange(60.0)}, ("x", "y"), rules)
    found = estimate([made], 1, resamples=0, seed=0, needs=made.needs)
    assert found["events/anomaly/f1_0.5"].value == 1
    assert found["events/class/x/recall_0.5"].value == 0
    assert found["events/class/x/precision_0.5"].reason == "not defined without an event"
    assert found["events/class/y/precision_0.5"].value == 0
    assert found["events/class/y/recall_0.5"].reason == "not defined without a true interval"
    assert found["events/class/y/f1_0.5"].reason == "not defined without a true interval"
    assert found["events/class/y/false_alarms_per_hour"].value == 0
    assert found["events/class_mean/precision_0.5"].value == 0  # of x, which has no event
    assert found["events/class_mean/f1_0.5"].value == 0  # y has no truth and no part in the mean


def test_the_mean_over_classes_is_of_those_with_a_true_interval():
    spans = marks(60, (10, 20)), marks(60, (30, 40)), marks(60)
    labels = {"a": np.stack(spans, axis=1)}
    classwise = {"a": np.where(np.stack([spans[0], spans[2], spans[1]], axis=1), 0.9, 0.1)}
    rules = dict.fromkeys(("anomaly", "x", "y", "z"), RULE)
    made = EventMetrics(
        {"a": classwise["a"].max(axis=1)}, classwise, labels, {"a": np.arange(60.0)}, ("x", "y", "z"), rules
    )
    found = made(np.ones((1, 1)))
    for name in ("precision_0.5", "recall_0.5", "f1_0.5", "hit_at_least_once"):
        assert found[f"events/class_mean/{name}"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("found", "truth", "absent"),
    [
        (marks(9), marks(9, (2, 5)), {"precision": "an event", "delay_mean_s": "a true interval that is hit"}),
        (
            marks(9, (2, 5)),
            marks(9),
            {"recall": "a true interval", "f1": "a true interval", "delay_median_s": "a true"},
        ),
        (marks(9, (2, 5)), marks(9, (0, 9)), {"false_alarms_per_hour": "normal footage", "false_alarm_time": "normal"}),
    ],
)
def test_what_is_not_defined_says_why(found, truth, absent):
    made = make({"a": found, "b": found}, {"a": truth, "b": truth})
    result = estimate([made], 2, resamples=10, seed=0, needs=made.needs)
    for start, need in absent.items():
        values = [value for name, value in result.items() if name.startswith(f"events/anomaly/{start}")]
        assert values
        for value in values:
            assert value.value is None
            assert value.reason.startswith(f"not defined without {need}")


def test_no_event_where_there_is_truth_is_an_f1_of_0():
    known = metrics({"a": marks(9)}, {"a": marks(9, (2, 5))})
    assert known["f1_0.1"] == known["recall_0.1"] == known["hit_at_least_once"] == 0
    assert np.isnan(known["precision_0.1"])


def test_one_video_has_no_interval():
    made = make({"a": marks(40, (2, 5), (20, 22))}, {"a": marks(40, (2, 6))})
    found = estimate([made], 1, resamples=50, seed=0, needs=made.needs)
    assert all(value.low is None and "one video" in value.reason for value in found.values())


def random_events(seed: int, videos: int = 7) -> tuple[dict, dict]:
    rng = np.random.default_rng(seed)
    found, truth = {}, {}
    for i in range(videos):
        spans = [(s, s + int(rng.integers(1, 15))) for s in rng.integers(0, 80, 3)]
        truth[f"v{i}"] = marks(100, *(spans[:2] if i % 3 else []))
        found[f"v{i}"] = marks(100, *[(s + 2, e + 3) for s, e in spans[i % 2 :]])
    return found, truth


def test_a_resample_is_what_the_copies_give():
    found, truth = random_events(3)
    order = sorted(found)
    weights = draw_weights(len(order), 25, seed=1)
    values = make(found, truth)(weights)
    for r in range(25):
        names = [f"{v}#{k}" for v, n in zip(order, weights[:, r], strict=True) for k in range(int(n))]
        copies = metrics(*({name: table[name.split("#")[0]] for name in names} for table in (found, truth)))
        for name, value in copies.items():
            np.testing.assert_allclose(values[f"events/anomaly/{name}"][r], value, rtol=1e-12, err_msg=name)


def test_the_median_of_an_even_number_is_between_the_middle_two():
    truth = {"a": marks(100, (0, 20), (30, 50), (60, 80), (81, 100))}
    found = {"a": marks(100, (1, 20), (33, 50), (70, 80), (81, 90))}
    known = metrics(found, truth)
    assert known["delay_median_s"] == np.median([1, 3, 10, 0])
    assert known["delay_mean_s"] == np.mean([1, 3, 10, 0])


SPANS = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 20)), max_size=5).map(
    lambda spans: [(start, start + length) for start, length in spans]
)
VIDEOS = st.lists(st.tuples(SPANS, SPANS), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(VIDEOS)
def test_perfect_events_are_perfect(videos):
    truth = {f"v{i}": marks(120, *spans) for i, (_, spans) in enumerate(videos)}
    known = metrics(truth, truth)
    assert known["false_alarms_per_hour"] == known["false_alarm_time_rate"] == 0
    if any(m.any() for m in truth.values()):
        for name in ("precision_0.5", "recall_0.5", "f1_0.5", "hit_at_least_once"):
            assert known[name] == 1
        assert known["delay_mean_s"] == known["delay_median_s"] == 0


@settings(max_examples=40, deadline=None)
@given(VIDEOS, st.floats(0, 1e4), st.randoms(use_true_random=False))
def test_neither_a_shift_of_all_times_nor_the_names_of_videos_matter(videos, shift_s, random):
    names = [f"v{i}" for i in range(len(videos))]
    truth = {v: marks(120, *spans) for v, (_, spans) in zip(names, videos, strict=True)}
    found = {v: marks(120, *spans) for v, (spans, _) in zip(names, videos, strict=True)}
    known = metrics(found, truth, fps=8)
    renamed = dict(zip(names, random.sample(names, len(names)), strict=True))
    other = metrics({renamed[v]: m for v, m in found.items()}, {renamed[v]: m for v, m in truth.items()}, 8, shift_s)
    for name, value in known.items():
        np.testing.assert_allclose(other[name], value, rtol=1e-7, atol=1e-7, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(VIDEOS)
def test_what_is_found_at_a_larger_overlap_is_found_at_a_smaller(videos):
    known = metrics(
        {f"v{i}": marks(120, *spans) for i, (spans, _) in enumerate(videos)},
        {f"v{i}": marks(120, *spans) for i, (_, spans) in enumerate(videos)},
    )
    recalls = [known[f"recall_{least}"] for least in (0.1, 0.2, 0.3, 0.4, 0.5)]
    if not np.isnan(recalls[0]):
        assert recalls == sorted(recalls, reverse=True)
        assert recalls[0] <= known["hit_at_least_once"]


def test_times_that_do_not_fit_are_refused():
    scores, labels = {"a": np.zeros(5)}, {"a": np.zeros((5, 1), bool)}
    for times, error in (
        ({"a": np.arange(4.0)}, LengthMismatch),
        ({}, PipelineError),
        ({"a": np.array([0, 2, 1, 3, 4.0])}, PipelineError),
        ({"a": np.array([0, 1, 2, 3, np.nan])}, PipelineError),
    ):
        with pytest.raises(error, match="a: "):
            EventMetrics(scores, None, labels, times, ("x",), {"anomaly": RULE})


def test_a_video_of_one_frame_lasts_no_time_and_is_found_all_the_same():
    known = metrics({"a": marks(1, (0, 1)), "b": marks(9)}, {"a": marks(1, (0, 1)), "b": marks(9)})
    assert known["f1_0.5"] == 1
    assert known["false_alarms_per_hour"] == 0
