"""Events of one video, on scores whose events are known."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config import Events
from pipeline.data.events import ANOMALY, Event
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.metrics.hysteresis import EventRule
from pipeline.stages.events.detect import events_of_video
from pipeline.stages.events.rules import RuleChanges, event_names, make_rules

RULE = EventRule(upper=0.6, lower=0.3)
TWO = {ANOMALY: RULE, "Fight": RULE, "Fire": RULE}


def events(general, classwise=None, times=None, rules=TWO, classes=("Fight", "Fire")) -> list[Event]:
    general = np.asarray(general, dtype=np.float32)
    times = np.arange(len(general)) / 10 if times is None else np.asarray(times, dtype=np.float64)
    return events_of_video("v", "v.mp4", classes, general, classwise, times, rules)


def test_an_event_spreads_over_frames_that_reach_the_lower_threshold():
    [event] = events([0.1, 0.3, 0.7, 0.9, 0.4, 0.2, 0.5, 0.5, 0.1, 0.0])
    assert (event.start_frame, event.end_frame, event.class_name, event.source) == (1, 5, ANOMALY, "v.mp4")
    assert (event.start_s, event.end_s, event.peak_s) == pytest.approx((0.1, 0.5, 0.3))
    assert (event.peak_score, event.mean_score) == pytest.approx((0.9, 0.575))


def test_classes_have_events_of_their_own_and_anomaly_comes_first():
    classwise = np.array([[0.7, 0.0], [0.7, 0.8], [0.0, 0.8], [0.0, 0.0]])
    found = events(classwise.max(axis=1), classwise)
    assert [(e.class_name, e.start_frame, e.end_frame) for e in found] == [
        (ANOMALY, 0, 3),
        ("Fight", 0, 2),
        ("Fire", 1, 3),
    ]


def test_each_class_has_its_own_rule():
    classwise = np.full((4, 2), 0.7)
    rules = TWO | {"Fire": EventRule(0.8, 0.3)}
    assert {e.class_name for e in events(classwise.max(axis=1), classwise, rules=rules)} == {ANOMALY, "Fight"}


def test_times_are_presentation_times_at_a_variable_frame_rate():
    times = [0.0, 0.1, 0.5, 2.5, 2.6, 9.0]
    [event] = events([0.0, 0.7, 0.7, 0.0, 0.0, 0.0], times=times)
    assert (event.start_s, event.end_s) == (0.1, 2.5)  # the second frame of it is shown until the next one
    gapped = EventRule(0.6, 0.3, merge_gap_s=0.15)
    found = events([0.9, 0.0, 0.9, 0.0, 0.9, 0.0], times=[0.0, 0.1, 0.2, 0.3, 1.0, 1.1], rules={ANOMALY: gapped})
    assert [(e.start_frame, e.end_frame) for e in found] == [(0, 3), (4, 5)]


def test_short_events_are_none():
    rule = {ANOMALY: EventRule(0.6, 0.3, min_length_s=0.2)}
    assert [e.start_frame for e in events([0.9, 0.0, 0.9, 0.9, 0.0], rules=rule)] == [2]


def test_a_video_without_events_and_one_without_frames():
    assert events([0.1, 0.2]) == []
    assert events([]) == []


def test_a_video_of_one_frame_has_an_event_that_lasts_no_time():
    [event] = events([0.9], times=[0.0])
    assert (event.start_frame, event.end_frame, event.start_s, event.end_s, event.peak_s) == (0, 1, 0.0, 0.0, 0.0)
    assert events([0.9], times=[0.0], rules={ANOMALY: EventRule(0.6, 0.3, min_length_s=0.1)}) == []


@pytest.mark.parametrize(
    ("general", "times", "message"),
    [
        ([0.1, np.nan], [0, 1], "v, anomaly, frame 1: expected a score from 0 to 1, got nan"),
        ([0.1, 1.5], [0, 1], "v, anomaly, frame 1: expected a score from 0 to 1, got 1.5"),
        ([0.1, 0.2], [0, np.nan], "v, frame 1: expected a time in seconds, got nan"),
        ([0.1, 0.2], [1, 0], "v, frame 1: expected a time not before the last frame's"),
        ([0.1, 0.2], [0], "2 scores, 1 times"),
    ],
)
def test_what_is_no_score_or_time_is_refused(general, times, message):
    with pytest.raises(PipelineError, match=message):
        events(general, times=times)


def test_class_scores_are_as_many_as_classes_and_each_class_has_a_rule():
    with pytest.raises(LengthMismatch, match=r"expected class scores of shape \(2, 2\), got \(2, 1\)"):
        events([0.1, 0.2], np.zeros((2, 1)))
    with pytest.raises(PipelineError, match="expected a rule for each class, got none for Fire"):
        events([0.1], np.zeros((1, 2)), rules={ANOMALY: RULE, "Fight": RULE})


def test_an_only_class_with_the_name_of_anomaly_in_general_is_listed_once():
    assert [e.class_name for e in events([0.9], np.array([[0.9]]), rules={ANOMALY: RULE}, classes=(ANOMALY,))] == [
        ANOMALY
    ]
    with pytest.raises(PipelineError, match="is the name of anomaly in general"):
        event_names(("Fight", ANOMALY))


def test_rules_come_from_the_settings_the_chosen_thresholds_and_the_changes_in_this_order():
    settings = Events(upper=0.5, lower_share=0.5, by_class={"Fire": {"upper": 0.9, "merge_gap_s": 3.0}})
    rules = make_rules(settings, ("Fight", "Fire"), {"Fight": 0.8})
    assert rules == {
        ANOMALY: EventRule(0.5, 0.25, 1.0),
        "Fight": EventRule(0.8, 0.4, 1.0),
        "Fire": EventRule(0.9, 0.45, 3.0),
    }
    changed = make_rules(settings, ("Fire",), {"Fire": 0.8}, RuleChanges(upper=0.6, lower=0.1, merge_gap_s=0.0))
    assert changed["Fire"] == EventRule(0.6, 0.1)
    with pytest.raises(PipelineError, match="events of anomaly: expected 0 <= lower <= upper <= 1, got lower 0.9"):
        make_rules(settings, (), None, RuleChanges(lower=0.9))
