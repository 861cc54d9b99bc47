"""The Video-Segment loss of many settings at once, with its gradient by the logits written out.

The terms are those of `pipeline.models.losses`. A step of linear layers is so small that autograd would be most of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn.functional import logsigmoid, softplus

__all__ = ["SegmentWeights", "segment_gradient", "video_gradient"]


@dataclass(frozen=True)
class SegmentWeights:
    """p of eq. 8 and the weights of eqs. 12 and 14 for R settings, each (R,) of a floating type."""

    p: torch.Tensor
    lambda1: torch.Tensor
    lambda2: torch.Tensor
    lambda3: torch.Tensor

    @cached_property
    def most(self) -> int:
        """The largest p."""
        return int(self.p.max())

    @cached_property
    def beyond(self) -> torch.Tensor:
        """(most, R, 1): -inf at the ranks beyond a setting's own p, else 0."""
        unused = torch.arange(self.most)[:, None] >= self.p
        return torch.zeros_like(unused, dtype=self.p.dtype).masked_fill_(unused, -torch.inf)[..., None]


def video_gradient(
    logits: torch.Tensor, anomalous: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 4.

    Args:
        logits: (B, R, 1 + C), of the cue.
        anomalous: (B,), y*.
        weights: (R,), lambda0.

    Returns:
        The terms (R,), not weighted, and the gradient of their weighted sum by the logits, (B, R, 1 + C).
    """
    wanted = anomalous[:, None]
    best, where = logits[..., 1:].max(dim=-1)
    slope = (torch.sigmoid(best) - wanted) * (weights / len(logits))
    gradient = torch.zeros_like(logits).scatter_(-1, 1 + where[..., None], slope[..., None])
    return (softplus(best) - wanted * best).mean(dim=0), gradient


def segment_gradient(
    logits: torch.Tensor, labels: torch.Tensor, weights: SegmentWeights
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eqs. 8 to 11 and 13.

    With S the mean of p sigmoids of z_j, d log S / d z_j = softmax_j(log sigmoid(z)) sigmoid(-z_j), which divides by no
    score that may have saturated; log(1 - S) is the same of -z. An axis of two holds both, log S first.

    Args:
        logits: (B, T, R, 1 + C), of the segments.
        labels: (B, 1 + C) multi-hot, column 0 Normal, of the type of the logits.
        weights: of the terms.

    Returns:
        The terms l_s, l_c and l_sparse, (3, R), not weighted, and the gradient of their weighted sum by the logits,
        (B, T, R, 1 + C).
    """
    bags, _, runs, outputs = logits.shape
    wanted = torch.stack([labels, 1 - labels])[:, :, None]  # (2, B, 1, 1 + C)
    anomalous = wanted[..., 0].flip(0)  # (2, B, 1): y* and 1 - y*
    top, chosen = logits.topk(weights.most, dim=1)  # (B, P, R, 1 + C)
    signed = torch.stack([top, -top])
    logs = logsigmoid(signed) + weights.beyond
    sums = logs.logsumexp(dim=2)
    scores = sums - weights.p.log()[:, None]  # log S and log(1 - S), (2, B, R, 1 + C)
    best = (1 + scores[0, ..., 1:].argmax(dim=-1, keepdim=True)).expand(2, -1, -1, -1)  # eq. 9
    segment = -(anomalous * scores.gather(-1, best)[..., 0]).sum(dim=(0, 1)) / bags
    classes = -(wanted * scores).sum(dim=(0, 1, 3)) / (bags * outputs)

    share = wanted * (weights.lambda2 / (bags * outputs))[:, None]  # minus the slopes by log S and log(1 - S)
    share.scatter_add_(-1, best, (anomalous * (weights.lambda1 / bags))[..., None])
    slope = (logs - sums[:, :, None]).exp_().mul_(torch.sigmoid(-signed)).mul_(share[:, :, None])
    gradient = torch.zeros_like(logits).scatter_(1, chosen, slope[1] - slope[0])

    highest, where = logits[..., 1:].max(dim=-1)  # (B, T, R)
    score = torch.sigmoid(highest)
    slope = score * (1 - score) * (weights.lambda3 / bags)
    gradient.scatter_add_(-1, 1 + where[..., None], slope[..., None])
    return torch.stack([segment, classes, score.sum(dim=(0, 1)) / bags]), gradient
