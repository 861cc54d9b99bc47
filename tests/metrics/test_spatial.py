"""Where spatial reasoning looks: coverage of cells, energy of relation maps, and both over videos, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics import LocalisationMetrics, estimate
from pipeline.metrics.spatial import SeenWindows, box_coverage, energy_shares, hits


def seen(hits=(), chances=(), energies=(), areas=()) -> SeenWindows:
    return SeenWindows(*(np.array(values, dtype=np.float64) for values in (hits, chances, energies, areas)))


class TestCoverage:
    def test_a_box_covers_parts_of_cells(self):
        found = box_coverage([(16, 8, 40, 32)], 64, 96, rows=2, columns=3)
        np.testing.assert_allclose(found, [[16 * 24 / 1024, 8 * 24 / 1024, 0], [0, 0, 0]])

    def test_boxes_that_overlap_count_once_and_what_is_outside_counts_nothing(self):
        found = box_coverage([(0, 0, 32, 32), (16, 0, 32, 32), (-50, -9, -1, 99), (64, 0, 90, 64)], 64, 64, 2, 2)
        np.testing.assert_array_equal(found, [[1, 0], [0, 0]])

    def test_a_picture_that_the_map_does_not_divide_keeps_its_area(self):
        found = box_coverage([(0, 0, 100, 100)], 100, 100, rows=7, columns=7)
        np.testing.assert_array_equal(found, np.ones((7, 7)))


class TestEnergy:
    def test_share_of_the_relation_inside(self):
        relations = np.array([[0.6, 0.2, 0.2, 0.0], [0.5, -0.5, 0.0, 0.5]])
        inside = np.array([[1.0, 0.5, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
        np.testing.assert_allclose(energy_shares(relations, inside), [0.7, 0.5])

    def test_a_map_that_is_the_same_everywhere_has_the_share_of_the_area(self):
        inside = np.array([[0.25, 1.0, 0.0, 0.0, 0.0]])
        np.testing.assert_allclose(energy_shares(np.full((1, 5), 0.8), inside), inside.mean(axis=1))

    def test_a_map_without_any_positive_relation_has_no_share(self):
        assert np.isnan(energy_shares(np.array([[0.0, -1.0]]), np.ones((1, 2)))).all()


def test_hits_of_each_window_by_hand():
    found, chances = hits(np.array([[0, 1], [2, 3]]), [{1}, {0, 1}], 4)
    assert found.tolist() == [1, 0]
    assert chances.tolist() == pytest.approx([0.5, 5 / 6])


class TestOverVideos:
    videos = {
        "a": seen([1, 0], [0.5, 0.5], [0.4, 0.2], [0.1, 0.1]),
        "b": seen([1], [0.25], [np.nan, 0.3], [0.5, 0.2]),
        "c": seen(),
    }

    def test_every_window_counts_once_and_one_without_energy_does_not(self):
        found = LocalisationMetrics(self.videos, {"Fighting": self.videos | {"a": seen()}})(np.ones((3, 1)))
        assert {name: float(value[0]) for name, value in found.items()} == pytest.approx(
            {
                "anomaly/hit_rate": 2 / 3,
                "anomaly/hit_rate_chance": 1.25 / 3,
                "anomaly/relation_energy": 0.3,
                "anomaly/relation_energy_chance": 0.4 / 3,
                "anomaly/relation_energy_ratio": 0.9 / 0.4,
                "class/Fighting/hit_rate": 1.0,
                "class/Fighting/hit_rate_chance": 0.25,
                "class/Fighting/relation_energy": 0.3,
                "class/Fighting/relation_energy_chance": 0.2,
                "class/Fighting/relation_energy_ratio": 1.5,
            }
        )

    def test_weights_are_how_often_a_video_was_drawn(self):
        both = LocalisationMetrics(self.videos)(np.array([[1.0, 0], [0, 2], [2, 1]]))
        assert both["anomaly/hit_rate"] == pytest.approx([0.5, 1.0])
        assert both["anomaly/relation_energy"] == pytest.approx([0.3, 0.3])

    def test_without_windows_nothing_is_defined_and_the_reason_is_said(self):
        metrics = LocalisationMetrics({"a": seen(), "b": seen()})
        found = estimate([metrics], 2, resamples=10, seed=0, needs=metrics.needs)
        assert {value.reason for value in found.values()} == {
            "not defined without a window that shows an anomaly inside the picture"
        }
