"""Zhu, Newsam, "Motion-Aware Feature for Improved Video Anomaly Detection", BMVC 2019. UCF-Crime: AUC 79.0.

The ranking loss of Sultani et al. on an attention-weighted sum in place of the maximum: with weights w of an attention
block, sum 1 over a bag's segments, and the score s of a segment (the network of `mil_ranking`)

    max(0, 1 - sum_t w_a,t s_a,t + sum_t w_n,t s_n,t)

replaces the hinge of `mil_ranking`. The other terms are the same.

A segment's score at test time is s.

Departures: the paper says little of the attention block's form; here w = softmax_t of a network D - 128 (tanh) - 1. The
paper has a network of its own for motion-aware features; here the features are the cache's. Pairs, sums and T are as in
`mil_ranking`.

There is no released code to compare with, and no published training that could be checked: `training: paper` is
refused.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.heads.base import register
from pipeline.models.heads.mil_ranking import MilRanking, ranking_terms

__all__ = ["AttentionMil"]


@register("attention_mil")
class AttentionMil(MilRanking):
    """`MilRanking` with an attention over segments; it has the same arguments."""

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        normalize: bool = True,
        dropout: float = 0.6,
        smoothness: float = 8e-5,
        sparsity: float = 8e-5,
    ) -> None:
        super().__init__(
            channels, classes, normalize=normalize, dropout=dropout, smoothness=smoothness, sparsity=sparsity
        )
        # No bias at the end: it would cancel in the softmax over segments.
        self.attention = nn.Sequential(nn.Linear(channels, 128), nn.Tanh(), nn.Linear(128, 1, bias=False))

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits and weights, (B, T)."""
        return super().method(vectors) | {"weights": self.attention(self.seen(vectors))[..., 0].softmax(dim=1)}

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's equation."""
        scores = torch.sigmoid(parts["logits"])
        bags = (parts["weights"] * scores).sum(dim=1)
        return ranking_terms(scores, bags, anomalous, self.smoothness, self.sparsity)
