"""Sultani, Chen, Shah, "Real-World Anomaly Detection in Surveillance Videos", CVPR 2018. UCF-Crime: AUC 75.41.

The score s of a segment is a network D - 512 - 32 - 1 of its vector, ReLU after the first layer, dropout 0.6, a sigmoid
at the end. With n normal bags in a batch

    l = 1/n sum_a sum_n max(0, 1 - max_t s_a,t + max_t s_n,t) + 8e-5 sum_a,t (s_a,t - s_a,t+1)^2 + 8e-5 sum_a,t s_a,t,

the form of the authors' released code: every anomalous bag a is compared with every normal bag n; terms are summed over
anomalous bags, and the first is a mean over normal ones. In the paper the bags come in single pairs.

In the released code (Keras 1.1, Theano): Adagrad, learning rate 0.01, 30 bags of each kind a batch, 20,000 steps, 32
segments of C3D features; 0.001 times the sum of the squared weights is added to the loss. torch's weight decay is the
factor in the gradient, twice as much: 0.002.

Compared with custom_objective of the released code, written in numpy as there is no Theano here, on the same scores (32
segments, 30 + 30 bags): total and every term within 1e-7 of their size.

Departures: weight decay applies to biases too, unlike in Keras, since optimisers here have one decay for all
parameters. T is the cache's. The features are pooled maps of the cache's backbone.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize

from pipeline.models.heads.base import BinaryHead, register
from pipeline.models.heads.dropout import Dropout

__all__ = ["MilRanking", "ranking_terms", "segment_network"]


@register("mil_ranking")
class MilRanking(BinaryHead):
    """The head of Sultani et al.

    Args:
        channels: D.
        classes: C.
        normalize: divide every vector by its length.
        dropout: after the first two layers.
        smoothness: weight of the squared differences of neighbouring scores.
        sparsity: weight of the sum of scores.
    """

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
        super().__init__(channels, classes)
        self.normalize, self.smoothness, self.sparsity = normalize, smoothness, sparsity
        self.network = segment_network(channels, dropout)

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits (B, T)."""
        return {"logits": self.network(self.seen(vectors))[..., 0]}

    def seen(self, vectors: torch.Tensor) -> torch.Tensor:
        """The vectors (B, T, D) as the networks get them."""
        return normalize(vectors, dim=-1) if self.normalize else vectors

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's equation."""
        scores = torch.sigmoid(parts["logits"])
        return ranking_terms(scores, scores.amax(dim=1), anomalous, self.smoothness, self.sparsity)


def segment_network(channels: int, dropout: float) -> nn.Sequential:
    """D - 512 - 32 - 1, without the last sigmoid."""
    layers = (
        nn.Linear(channels, 512),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(512, 32),
        Dropout(dropout),
        nn.Linear(32, 1),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)  # Glorot, as in the authors' code
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def ranking_terms(
    scores: torch.Tensor, bags: torch.Tensor, anomalous: torch.Tensor, smoothness: float, sparsity: float
) -> dict[str, torch.Tensor]:
    """The ranking hinge over all pairs of bags, smoothness and sparsity, each summed over the anomalous bags.

    Args:
        scores: (B, T) in [0, 1].
        bags: (B,), one score per bag.
        anomalous: (B,) bool; both kinds must occur.
        smoothness: weight of the smoothness term.
        sparsity: weight of the sparsity term.

    Returns:
        Scalars: `total`, and its terms before weighting.
    """
    hinge = torch.relu(1 - bags[anomalous][:, None] + bags[~anomalous][None, :]).sum(dim=0).mean()
    high = scores[anomalous]
    smooth = (high[:, 1:] - high[:, :-1]).square().sum()
    sparse = high.sum()
    return {
        "total": hinge + smoothness * smooth + sparsity * sparse,
        "ranking": hinge,
        "smooth": smooth,
        "sparse": sparse,
    }
