"""ProDisc-VAD.

Zhu et al., "ProDisc-VAD: An Efficient System for Weakly-Supervised Anomaly Detection in Video Surveillance
Applications", 2025 (arXiv 2505.02179). UCF-Crime: AUC 87.12; ShanghaiTech: AUC 97.98.

The form is that of the authors' released code. Five prototypes of normality, each a key and a value of D numbers, give
every vector x a context (prototype interaction layer):

    n = softmax(x K^T / sqrt(D)) V
    f = GELU(W LayerNorm(10 x + 5 n)),   W to D channels, dropout 0.1 of f

The score s of a segment is a network D - 256 - 128 - 64 - 1 of f with GELU between. With the ceil(T / 6) segments of
highest score of every bag, y their bags' labels smoothed by 1e-5, and for every bag its segments of highest and of
lowest score as e (pseudo-instance discriminative enhancement),

    l = 15 BCE(s, y) + 5 discrimination,   BCE a mean over these segments, y <- (1 - 1e-5) y + 1e-5 / their number
    discrimination = mean over bags and e of log sum_t exp((cos(f_e, f_t) - 1) / 0.1),   t all segments of the bag

The released loss is written as a contrast of pairs of equal pseudo-labels, but of these a bag has only e with itself;
what it does is to push the extreme segments away from all others. Prototypes begin normal with a deviation of 0.02,
weights of layers Xavier uniform, biases at zero.

In the released code: Adam, learning rate 5e-4, weight decay 5e-4, 30 bags of each kind a batch, up to 300 segments of
CLIP features, 100 epochs. An epoch there has as many batches of bags drawn at random as there are training files (ten
crops a video: 1.6 million steps for UCF-Crime), and the best of all steps is chosen by the test AUC, so that no length
of training is published. `training: paper` takes 100 epochs, each one pass over the bags.

Compared with the released ProDisc_VAD.py and train_icic.py, retyped for a CPU, on the same tensors (D = 512 and 1024, T
= 32, 40 and 300, 3 + 3 bags, the same weights, no dropout): in float32 the total within 1e-7 of its size, BCE and
scores within 2e-7, discrimination, a difference of numbers a thousand times its size, within 5e-5; in float64 all
within 1e-9, gradients of four layers within 1e-9 too, and the loss within 3e-11 over 40 steps of Adam (D = 64, 8 + 8
bags). Of the paper only the abstract was at hand: what its equations say beyond the released code could not be checked.

Departures: views take the place of ten crops, one per epoch, so nothing is averaged over crops. Where the score is the
same in a whole bag, the first segment is the lowest and the highest, and counts once, as in the release. The 1e-8 that
the release adds inside the logarithm and to the number of e is left out. A bag is never padded.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, normalize

from pipeline.models.heads.base import BinaryHead, register
from pipeline.models.heads.dropout import Dropout

__all__ = ["ProDiscVad", "PrototypeInteraction"]

SMOOTHING = 1e-5


class PrototypeInteraction(nn.Module):
    """Vectors beside their context of normality: (..., D) -> (..., D).

    Args:
        channels: D.
        prototypes: number of pairs of a key and a value.
        feature_weight: of the vectors.
        context_weight: of the context.
    """

    def __init__(self, channels: int, prototypes: int, feature_weight: float, context_weight: float) -> None:
        super().__init__()
        self.feature_weight, self.context_weight = feature_weight, context_weight
        self.keys, self.values = (nn.Parameter(torch.empty(prototypes, channels).normal_(std=0.02)) for _ in range(2))
        self.norm, self.project = nn.LayerNorm(channels), nn.Linear(channels, channels)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Features f, before dropout."""
        nearest = (vectors @ self.keys.T / vectors.shape[-1] ** 0.5).softmax(dim=-1)
        joined = self.feature_weight * vectors + self.context_weight * (nearest @ self.values)
        return nn.functional.gelu(self.project(self.norm(joined)))


@register("prodisc_vad")
class ProDiscVad(BinaryHead):
    """The head of Zhu et al.

    Args:
        channels: D.
        classes: C.
        prototypes: of normality.
        feature_weight: of the vectors beside their context.
        context_weight: of the context.
        dropout: of the features.
        segments_per_top: of T segments the ceil(T / segments_per_top) of highest score are in the cross entropy.
        video: weight of the cross entropy.
        discrimination: weight of the discrimination.
        temperature: of the discrimination.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        prototypes: int = 5,
        feature_weight: float = 10.0,
        context_weight: float = 5.0,
        dropout: float = 0.1,
        segments_per_top: int = 6,
        video: float = 15.0,
        discrimination: float = 5.0,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(channels, classes)
        self.segments_per_top, self.temperature = segments_per_top, temperature
        self.video, self.discrimination = video, discrimination
        self.prototypes = PrototypeInteraction(channels, prototypes, feature_weight, context_weight)
        self.drop = Dropout(dropout)
        self.network = nn.Sequential(
            nn.Linear(channels, 256),
            nn.GELU(),
            nn.Linear(256, 128),
            nn.GELU(),
            nn.Linear(128, 64),
            nn.GELU(),
            nn.Linear(64, 1),
        )
        for module in (self.prototypes.project, *self.network):
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits (B, T); in training also features (B, T, D)."""
        features = self.drop(self.prototypes(vectors))
        parts = {"logits": self.network(features)[..., 0]}
        return parts | {"features": features} if self.training else parts

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's equation."""
        scores = torch.sigmoid(parts["logits"])
        top = scores.topk(math.ceil(scores.shape[1] / self.segments_per_top), dim=1).values
        labels = anomalous.to(scores.dtype)[:, None].expand_as(top)
        video = binary_cross_entropy(top, (1 - SMOOTHING) * labels + SMOOTHING / top.numel())
        discrimination = self._discrimination(parts["features"], parts["logits"])
        total = self.video * video + self.discrimination * discrimination
        return {"total": total, "video": video, "discrimination": discrimination}

    def _discrimination(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """How alike the segments of highest and of lowest score are to all of their bag."""
        highest, lowest = logits.argmax(dim=1), logits.argmin(dim=1)
        unit = normalize(features, dim=-1)
        chosen = unit.gather(1, torch.stack([lowest, highest], 1)[..., None].expand(-1, -1, unit.shape[-1]))
        alike = chosen @ unit.transpose(1, 2) / self.temperature  # (B, 2, T)
        own = chosen.square().sum(dim=-1) / self.temperature
        each = torch.logsumexp(alike, dim=-1) - own
        once = torch.stack([torch.ones_like(highest), (highest != lowest).long()], dim=1)
        return (each * once).sum() / once.sum()
