"""A manifest beside the counts that a configuration expects."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_dataset import entry

from pipeline.config.expected import Expected
from pipeline.data.expected_counts import compared_counts, unexpected_counts
from pipeline.data.manifest import Interval, Manifest

VIDEOS = (entry("a", "train"), entry("b", "train", "Fire"), entry("c", "test", "Fire", "Fight"), entry("d", "test"))
MANIFEST = Manifest(Path(), ("Fire", "Fight"), VIDEOS, (Interval("c", "Fire", 0, 3),))
RIGHT = {
    "train": {"videos": 2, "normal": 1, "classes": {"Fire": 1, "Fight": 0}, "frames": [30, 50]},
    "test": {"videos": 2, "normal": 1, "classes": {"Fire": 1, "Fight": 1}, "frames": [40, 40]},
    "intervals": 1,
}


def test_what_is_right_is_said_in_one_line():
    expected = Expected.model_validate(RIGHT | {"counts_source": "the list"})
    assert unexpected_counts(expected, MANIFEST) == []
    assert compared_counts(expected, MANIFEST) == "the counts of the data set are as expected (the list)"


def test_nothing_is_said_where_nothing_is_expected():
    assert compared_counts(Expected(), MANIFEST) == ""


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"train": {"videos": 3}}, "train: 2 videos, expected 3"),
        ({"test": {"normal": 0}}, "test: 1 normal videos, expected 0"),
        ({"test": {"classes": {"Fight": 4}}}, "test: 1 videos of Fight, expected 4"),
        ({"test": {"frames": [41, 50]}}, "test: 40 frames, expected 41 to 50"),
        ({"train": {"frames": [39, 39]}}, "train: 40 frames, expected 39"),
        ({"intervals": 2}, "1 intervals, expected 2"),
    ],
)
def test_every_count_is_compared(changes, line):
    expected = Expected.model_validate(RIGHT | changes)
    assert unexpected_counts(expected, MANIFEST) == [line]
    assert line in compared_counts(expected, MANIFEST)


def test_a_split_that_was_left_out_is_not_compared():
    assert unexpected_counts(Expected.model_validate(RIGHT), Manifest(Path(), ("Fire",), VIDEOS[2:], None)) == []
