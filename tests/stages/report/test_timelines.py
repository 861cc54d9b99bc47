"""Timelines in few points."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from pipeline.stages.report.timelines import encode, envelope


def test_the_highest_and_the_lowest_score_are_kept():
    scores = np.full(10_000, 0.5)
    scores[7_777], scores[3_333] = 0.99, 0.01
    bounds = envelope(scores, np.arange(10_000) / 25, 100)
    assert bounds.shape == (100, 2)
    assert bounds[77].tolist() == [0.5, 0.99]
    assert bounds[33].tolist() == [0.01, 0.5]
    assert np.delete(bounds, [33, 77], axis=0).tolist() == [[0.5, 0.5]] * 98


def test_parts_are_of_time_and_a_pause_shows_the_frame_before_it():
    times = np.array([0.0, 1.0, 2.0, 7.0, 8.0, 9.0])  # nothing new is shown from 3 s to 7 s
    bounds = envelope(np.array([0.1, 0.2, 0.8, 0.3, 0.4, 0.5]), times, 5)
    assert bounds.tolist() == [[0.1, 0.2], [0.8, 0.8], [0.8, 0.8], [0.3, 0.3], [0.4, 0.5]]


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_short_video_has_as_many_parts_as_frames(frames):
    scores = np.linspace(0, 1, frames)
    assert envelope(scores, np.arange(frames) / 10, 100).tolist() == [[score, score] for score in scores.tolist()]


def test_no_score_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        envelope(np.zeros(0), np.zeros(0), 10)


def test_bytes_are_low_then_high():
    assert list(base64.b64decode(encode(np.array([[0.0, 1.0], [0.2, 0.4], [-1.0, 2.0]])))) == [0, 255, 51, 102, 0, 255]
