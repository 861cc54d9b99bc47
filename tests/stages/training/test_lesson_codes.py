"""What the channels of a small backbone are to say of the cells of a lesson."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.synthetic.playground.lesson import ATTRIBUTES, VALUES, draw_lesson
from pipeline.stages.training.lesson_codes import COPIES, LEVELS, Codes, quantities


@pytest.fixture(scope="module")
def lessons() -> tuple[torch.Tensor, torch.Tensor]:
    drawn = [draw_lesson(np.random.default_rng([3, i])) for i in range(16)]
    attributes, values = (np.stack([getattr(each, name) for each in drawn]) for name in ("attributes", "values"))
    return torch.from_numpy(attributes), torch.from_numpy(values)


def test_codes_have_unit_deviation_and_are_zero_where_nothing_is(lessons):
    attributes, values = lessons
    codes = Codes(attributes, values, 2048, seed=0)
    found = codes(attributes, values)
    assert found.shape == (16, 7, 7, 2048)
    assert found.min() >= 0
    deviation = found.flatten(0, 2).std(dim=0)
    assert deviation.max() == pytest.approx(1, abs=1e-3)  # less where a channel is rare
    nothing = codes(torch.zeros_like(attributes), torch.zeros_like(values))
    assert nothing.max() == 0


def test_a_quantity_beyond_its_thresholds_and_attributes_alone_and_together(lessons):
    attributes, values = lessons
    codes = Codes(attributes, values, 2048, seed=0)
    found = codes(attributes, values) / codes.scale
    first = quantities(values)[..., 0]
    expected = (first[..., None] - codes.thresholds[0]).clamp(min=0)
    torch.testing.assert_close(found[..., :LEVELS], expected, rtol=1e-4, atol=1e-5)
    begin = codes.thresholds.numel()
    torch.testing.assert_close(found[..., begin : begin + len(ATTRIBUTES)], attributes, rtol=1e-4, atol=1e-5)
    one, other = codes.pairs[7].tolist()
    both = found[..., begin + COPIES * len(ATTRIBUTES) + 7]
    torch.testing.assert_close(both, attributes[..., one] * attributes[..., other], rtol=1e-4, atol=1e-5)


def test_signed_quantities_count_for_either_sign_and_uneven_movement_is_told_from_even():
    values = torch.zeros(2, len(VALUES))
    right = [i for i, name in enumerate(VALUES) if name.startswith("right ")]
    values[0, right], values[1, right] = 1.5, -1.5
    found = quantities(values)
    differ = (found[0] != found[1]).nonzero().flatten()
    assert found[:, differ].T.tolist() == [[1.5, 0], [0, 1.5]]
    steady, jerky = torch.zeros(len(VALUES)), torch.zeros(len(VALUES))
    for i, name in enumerate(VALUES):
        if name.startswith("change "):
            steady[i] = jerky[i] = 1.0
        if name.startswith("unrest "):
            steady[i], jerky[i] = 0.1, 1.5
    assert quantities(jerky)[-1] > 5 * quantities(steady)[-1]


def test_too_few_channels_or_pairs_are_named(lessons):
    with pytest.raises(ValueError, match="pairs of attributes"):
        Codes(*lessons, 512, seed=0)
    with pytest.raises(ValueError, match=r"expected \d+ pairs of attributes for the channels left, got \d+"):
        Codes(*lessons, 100_000, seed=0)
