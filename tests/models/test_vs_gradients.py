"""The VS loss of many settings with its gradient by hand, against autograd on the loss of each."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.losses import LossSettings, vs_loss
from pipeline.models.vs_gradients import SegmentWeights, segment_gradient, video_gradient

SETTINGS = (
    LossSettings(p=2, lambda0=1.0, lambda1=1.0, lambda2=0.5, lambda3=0.1),
    LossSettings(p=1, lambda0=0.0, lambda1=0.3, lambda2=2.0, lambda3=0.0),
    LossSettings(p=5, lambda0=2.0, lambda1=0.0, lambda2=0.5, lambda3=1.0),
    LossSettings(p=3, lambda0=1.0, lambda1=1.0, lambda2=0.0, lambda3=0.1),
)
LABELS = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]], dtype=torch.float64)


@pytest.mark.parametrize("settings", [SETTINGS, SETTINGS[:1], SETTINGS[1:2]], ids=["several", "p of 2", "p of 1"])
@pytest.mark.parametrize("scale", [1.0, 60.0], ids=["usual", "saturated"])
def test_terms_and_gradients_equal_autograd(settings, scale):
    generator = torch.Generator().manual_seed(0)
    video = scale * torch.randn(3, len(settings), 4, generator=generator, dtype=torch.float64)
    segments = scale * torch.randn(3, 5, len(settings), 4, generator=generator, dtype=torch.float64)
    each = {
        name: torch.tensor([getattr(setting, name) for setting in settings], dtype=torch.float64)
        for name in ("p", "lambda0", "lambda1", "lambda2", "lambda3")
    }
    video_terms, by_video = video_gradient(video, 1 - LABELS[:, 0], each.pop("lambda0"))
    terms, by_segments = segment_gradient(segments, LABELS, SegmentWeights(**each))
    for r, setting in enumerate(settings):
        own = [video[:, r].clone().requires_grad_(), segments[:, :, r].clone().requires_grad_()]
        expected = vs_loss(own[0], own[1], LABELS, setting)
        expected.total.backward()
        for found, name in zip((video_terms, *terms), ("video", "segment", "classes", "sparse"), strict=True):
            torch.testing.assert_close(found[r], getattr(expected, name).detach())
        torch.testing.assert_close(by_video[:, r], own[0].grad)
        torch.testing.assert_close(by_segments[:, :, r], own[1].grad)


def test_gradients_are_finite_at_any_logits():
    logits = torch.tensor([-1e4, -200.0, -90.0, 90.0, 200.0, 1e4]).expand(3, 2, 6)[..., None].repeat(1, 1, 1, 4)
    weights = SegmentWeights(*(torch.ones(6) for _ in range(4)))
    found = (
        *video_gradient(logits[:, 0], 1 - LABELS[:, 0].float(), torch.ones(6)),
        *segment_gradient(logits, LABELS.float(), weights),
    )
    assert all(torch.isfinite(value).all() for value in found)
