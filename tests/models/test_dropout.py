"""Dropout is torch's own, draw for draw."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.heads.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.6, 0.7])
def test_dropout_is_torchs_own_draw_for_draw(rate):
    values = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    found, gradients, states = [], [], []
    for module in (Dropout(rate), torch.nn.Dropout(rate)):
        torch.manual_seed(4)
        given = values.clone().requires_grad_()
        found.append(module.train()(given))
        found[-1].sum().backward()
        gradients.append(given.grad)
        states.append(torch.get_rng_state())
    assert 0 < (found[0] == 0).sum() < found[0].numel()
    assert all(torch.equal(*pair) for pair in (found, gradients, states))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_leaves_scoring_alone(rate):
    values = torch.randn(3, 5)
    assert torch.equal(Dropout(rate).eval()(values), values)
    assert torch.equal(Dropout(0.0).train()(values), values)
