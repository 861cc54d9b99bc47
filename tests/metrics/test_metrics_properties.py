"""What must hold for any intervals, tried on generated ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.temporal import iou, match, runs

MARKS = st.lists(st.booleans(), max_size=60).map(lambda found: np.array(found, dtype=bool))
INTERVALS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=6).map(
    lambda found: np.array([(start, start + length) for start, length in found])
)


@given(MARKS)
def test_runs_give_the_marks_back_and_do_not_touch(marks):
    again = np.zeros(len(marks), dtype=bool)
    found = runs(marks)
    for start, end in found:
        assert start < end
        again[start:end] = True
    np.testing.assert_array_equal(again, marks)
    assert (found[1:, 0] > found[:-1, 1]).all()


@given(INTERVALS, INTERVALS)
def test_overlaps_are_those_of_the_frames(first, second):
    found = iou(first, second)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            a, b = set(range(*one)), set(range(*other))
            assert found[i, j] == len(a & b) / len(a | b)


@given(INTERVALS, INTERVALS, st.sampled_from([0.1, 0.3, 0.5]))
def test_a_true_interval_is_found_at_most_once(detections, truth, least):
    hits = match(detections, truth, least)
    assert hits.shape == (len(detections),)
    assert hits.sum() <= len(truth)
    assert not (hits & (iou(detections, truth).max(axis=1) < least)).any()
