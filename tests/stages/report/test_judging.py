"""What was found, missed and falsely raised, and what is shown first."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.events import ANOMALY, Event
from pipeline.stages.report.judging import Highlight, Verdict, judge, pick_highlights


def event(start: int, end: int, score: float, name: str = ANOMALY) -> Event:
    return Event("v", "", name, start / 10, end / 10, start, end, start / 10, score, score)


def judged(scores: np.ndarray, marks: slice | None, *events: Event) -> Verdict:
    times = np.arange(len(scores)) / 10
    truth = np.zeros(len(scores), dtype=bool)
    if marks:
        truth[marks] = True
    return judge("v", scores, times, times + 0.1, truth, events)


def test_an_interval_is_found_where_an_event_overlaps_it_and_an_event_beside_all_is_false():
    scores = np.full(100, 0.1)
    scores[48:55], scores[80:90] = 0.7, 0.9
    verdict = judged(scores, slice(50, 60), event(48, 55, 0.7), event(80, 90, 0.9))
    assert [(hit.start_s, hit.end_s, hit.frame) for hit in verdict.hits] == [(5.0, pytest.approx(6.0), 50)]
    assert verdict.misses == ()
    assert [(alarm.frame, alarm.score) for alarm in verdict.false_alarms] == [(80, 0.9)]
    assert (verdict.peak, verdict.outside) == (0.9, 0.9)


def test_an_event_that_only_touches_an_interval_finds_nothing():
    verdict = judged(np.full(100, 0.1), slice(50, 60), event(40, 50, 0.7))
    assert (len(verdict.hits), len(verdict.misses), len(verdict.false_alarms)) == (0, 1, 1)


def test_events_of_classes_play_no_part():
    verdict = judged(np.full(100, 0.1), slice(50, 60), event(52, 55, 0.7, "Fighting"), event(0, 9, 0.7, "Fighting"))
    assert (len(verdict.misses), verdict.false_alarms) == (1, ())


def test_the_error_is_the_larger_of_what_is_too_high_and_what_is_too_low():
    scores = np.full(100, 0.2)
    scores[50] = 0.7
    assert judged(scores, slice(50, 60)).error == pytest.approx(0.3)
    scores[10] = 0.6
    assert judged(scores, slice(50, 60)).error == pytest.approx(0.6)
    assert judged(scores, None).error == pytest.approx(0.7)
    assert judged(scores, slice(0, 100)).outside is None


def moment(name: str, score: float) -> Highlight:
    return Highlight(name, 0, 0.0, score, 0.0, 1.0)


def test_the_most_telling_moments_come_first_and_each_video_once():
    def of(name: str, alarms: list[float], hits: list[float], misses: list[float]) -> Verdict:
        return Verdict(name, 1.0, 1.0, *(tuple(moment(name, s) for s in scores) for scores in (alarms, hits, misses)))

    verdicts = [of("a", [0.6, 0.9], [], [0.3, 0.2]), of("b", [0.95], [0.5], [0.4]), of("c", [0.9], [0.8, 0.99], [])]
    found = pick_highlights(verdicts, most=2)
    assert [(m.video_id, m.score) for m in found.false_alarms] == [("b", 0.95), ("a", 0.9)]
    assert [(m.video_id, m.score) for m in found.misses] == [("a", 0.2), ("b", 0.4)]
    assert [(m.video_id, m.score) for m in found.hits] == [("c", 0.99), ("b", 0.5)]
