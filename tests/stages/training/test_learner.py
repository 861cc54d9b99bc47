"""Batches of a training, and windows in the parts that a head sees."""

from __future__ import annotations

import pytest
import torch

from pipeline.stages.training.learner import draw_batches
from pipeline.stages.training.windows import ReducedWindows, in_parts


class TestBatches:
    labels = torch.tensor([[1.0, 0]] * 3 + [[0, 1.0]] * 7)

    def test_pairs_are_balanced_and_leave_no_bag_out(self):
        batches = draw_batches(self.labels, 4, True, torch.Generator().manual_seed(0))
        for batch in batches:
            half = len(batch) // 2
            assert (batch[:half] < 3).all()
            assert (batch[half:] >= 3).all()
        assert set(torch.cat(batches).tolist()) == set(range(10))

    def test_without_pairs_every_bag_comes_once(self):
        batches = draw_batches(self.labels, 4, False, torch.Generator().manual_seed(0))
        assert sorted(torch.cat(batches).tolist()) == list(range(10))

    def test_one_kind_alone_is_an_error(self):
        with pytest.raises(ValueError, match="needs normal and anomalous videos, got 3 and 0"):
            draw_batches(self.labels[:3], 4, True, torch.Generator())


@pytest.mark.parametrize(
    ("windows", "context", "expected"), [(10, None, [3, 3, 3, 1]), (10, 5, [6, 4]), (7, 512, [7]), (9, 6, [6, 3])]
)
def test_a_video_is_scored_in_parts_of_bounded_length(windows, context, expected):
    rows = torch.arange(float(windows))[None, :, None]
    pieces = [ReducedWindows(rows[:, 0], *[rows[:, i : i + 3]] * 3) for i in range(0, windows, 3)]
    parts = list(in_parts(iter(pieces), windows, context))
    assert [part.vectors.shape[1] for part in parts] == expected
    assert torch.equal(torch.cat([part.vectors for part in parts], dim=1), rows)
