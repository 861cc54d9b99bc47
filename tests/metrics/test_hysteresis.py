"""Events by two thresholds: hand-made scores with known spans."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.hysteresis import EventRule, find_spans, frame_ends

SCORES = np.array([0.1, 0.5, 0.9, 0.5, 0.1, 0.5, 0.1, 0.6, 0.8, 0.2])
TIMES = np.arange(10) / 2  # two frames a second


def spans(rule: EventRule, scores=SCORES, times=TIMES) -> list[list[int]]:
    return find_spans(np.asarray(scores), np.asarray(times, dtype=float), rule).tolist()


def test_an_event_reaches_the_upper_threshold_and_spreads_to_the_lower():
    assert spans(EventRule(0.8, 0.5)) == [[1, 4], [7, 9]]
    assert spans(EventRule(0.9, 0.5)) == [[1, 4]]
    assert spans(EventRule(0.8, 0.8)) == [[2, 3], [8, 9]]
    assert spans(EventRule(0.95, 0.1)) == []
    assert spans(EventRule(0.5, 0.1)) == [[0, 10]]


def test_gaps_are_merged_by_their_length_in_seconds():
    assert spans(EventRule(0.8, 0.5, merge_gap_s=1.4)) == [[1, 4], [7, 9]]
    assert spans(EventRule(0.8, 0.5, merge_gap_s=1.5)) == [[1, 9]]  # from the end of frame 3 at 2.0 s to 3.5 s
    late = np.where(np.arange(10) >= 4, TIMES + 3, TIMES)  # frame 3 lasts until the next one
    assert spans(EventRule(0.8, 0.5, merge_gap_s=1.5), times=late) == [[1, 9]]
    late = np.where(np.arange(10) >= 6, TIMES + 3, TIMES)
    assert spans(EventRule(0.8, 0.5, merge_gap_s=1.5), times=late) == [[1, 4], [7, 9]]


def test_short_events_are_none_after_merging():
    assert spans(EventRule(0.8, 0.5, min_length_s=1.0)) == [[1, 4], [7, 9]]
    assert spans(EventRule(0.8, 0.5, min_length_s=1.1)) == [[1, 4]]
    assert spans(EventRule(0.8, 0.5, merge_gap_s=1.5, min_length_s=4.0)) == [[1, 9]]


@pytest.mark.parametrize("fps", [10, 24, 25, 30, 30000 / 1001])
def test_a_gap_or_length_of_exactly_the_limit_counts_wherever_it_lies(fps):
    """Differences of times are not exact: at 30000/1001 frames a second half of such gaps came out too long."""
    second = round(fps)
    times = np.arange(8 * second) / fps
    rule = EventRule(0.5, 0.5, merge_gap_s=second / fps, min_length_s=second / fps)
    for start in range(5 * second):
        scores = np.zeros(8 * second)
        scores[start : start + second] = 1
        assert spans(rule, scores, times) == [[start, start + second]]
        scores[start + 2 * second : start + 2 * second + 2] = 1
        assert spans(rule, scores, times) == [[start, start + 2 * second + 2]]
        scores[start + 2 * second : start + 2 * second + 2] = 0
        scores[start + 2 * second + 1] = 1
        assert spans(rule, scores, times) == [[start, start + second]]


@pytest.mark.parametrize(("scores", "expected"), [([], []), ([0.9], [[0, 1]]), ([0.1], []), ([0.9, 0.9], [[0, 2]])])
def test_videos_of_hardly_any_frames(scores, expected):
    assert spans(EventRule(0.8, 0.5), scores, np.arange(len(scores)) / 25) == expected


def test_a_frame_lasts_until_the_next_one():
    assert frame_ends(np.array([0.0, 0.1, 0.5, 0.6])).tolist() == pytest.approx([0.1, 0.5, 0.6, 0.7])


@pytest.mark.parametrize("bad", [(0.5, 0.6), (1.1, 0.5), (0.5, -0.1), (float("nan"), 0.1)])
def test_thresholds_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="lower <= upper"):
        EventRule(*bad)
    with pytest.raises(ValueError, match="merge_gap_s"):
        EventRule(0.5, 0.5, merge_gap_s=-1)
    with pytest.raises(ValueError, match="one time per score"):
        find_spans(np.zeros(3), np.zeros(2), EventRule(0.5, 0.5))
