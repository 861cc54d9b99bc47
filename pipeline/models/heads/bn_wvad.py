"""BN-WVAD: Y. Zhou et al., "BatchNorm-based Weakly Supervised Video Anomaly Detection", IEEE TCSVT 2024 (arXiv
2311.15367). UCF-Crime: AUC 87.24; XD-Violence: AP 84.93.

Features of `transformer` go through two pointwise layers 512 - 32 - 16 with BatchNorm and ReLU after each, then to a
score s. Anomaly is divergence from the running mean m of each norm, in its running variance v (a Mahalanobis distance):

    d_t = sqrt(sum_c (h_t,c - m_c)^2 / v_c),   h the input of the norm.

In training, a segment of an anomalous bag is selected when its d is among the largest 20 % of its bag, or among the
largest 40 % of all anomalous segments of the batch. Of normal bags as many segments are selected, those of largest d.
With the i-th selected normal and anomalous segment as a pair, the mean-based pull-push loss of a norm is

    l_mpp = mean_i max(0, 1 + d(normal_i) - d(anomalous_i)),
    l     = mean over normal bags of |s| + 5 l_mpp,1 + 20 l_mpp,2

The anomaly score is s (d_1 + d_2).

In the released code, which is for XD-Violence: shares of 0.2 and 0.4, Adam, learning rate 1e-4, weight decay 5e-5,
gradients clipped at a norm of 1 (`training.clip_norm`), 64 bags of each kind per batch, T = 200, 1,000 steps.

Compared with the released models and losses on the same tensors (D = 1024, T = 40, 3 + 3 bags, the same weights,
float32 on a CPU; the release lacks its transformer, so UR-DMU's was used, which has the same arguments): total and
every term of the loss within 2e-7 of their size, also after four steps of Adam with the clipping; the anomaly score
within 4e-7 of its size.

Departures: the published score a = s (d_1 + d_2) has no upper bound; it is written as a / (1 + a), which keeps every
order and so every AUC. At least one segment of a bag is selected, since the share of a short bag may be none. Views
take the place of crops. A video is scored in parts of at most about 512 windows.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.heads.base import WINDOWS_IN_CONTEXT, BinaryHead, register
from pipeline.models.heads.transformer import WIDTH, TemporalEncoder

__all__ = ["BnWvad", "divergence", "select"]


@register("bn_wvad")
class BnWvad(BinaryHead):
    """The head of Y. Zhou et al.

    Args:
        channels: D.
        classes: C.
        sample_share: share of a bag's segments selected.
        batch_share: share of the batch's anomalous segments selected.
        margin: of the pull-push losses.
        weight1: weight of the pull-push loss of the first norm.
        weight2: weight of the pull-push loss of the second norm.
        dropout: in the transformer.
    """

    context = WINDOWS_IN_CONTEXT

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        sample_share: float = 0.2,
        batch_share: float = 0.4,
        margin: float = 1.0,
        weight1: float = 5.0,
        weight2: float = 20.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(channels, classes)
        self.shares, self.margin, self.weights = (sample_share, batch_share), margin, (weight1, weight2)
        self.encoder = TemporalEncoder(channels, dropout)
        self.layers = nn.ModuleList([nn.Linear(WIDTH, 32), nn.Linear(32, 16)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(32), nn.BatchNorm1d(16)])
        self.score = nn.Linear(16, 1)

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits of a / (1 + a); normality_logits of s; distance1 and distance2; all (B, T)."""
        hidden, distances = self.encoder(vectors), []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            before = layer(hidden)
            hidden = torch.relu(norm(before.transpose(1, 2)).transpose(1, 2))
            # In training the norm has just updated its statistics with this batch; the distance takes them as
            # constants.
            mean, variance = norm.get_buffer("running_mean").clone(), norm.get_buffer("running_var").clone()
            distances.append(divergence(before, mean, variance))
        score = self.score(hidden)[..., 0]
        product = torch.sigmoid(score) * (distances[0] + distances[1])
        logits = product.clamp_min(1e-12).log()
        return {"logits": logits, "normality_logits": score, "distance1": distances[0], "distance2": distances[1]}

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's equation."""
        normal = torch.sigmoid(parts["normality_logits"][~anomalous]).norm(dim=1).mean()
        terms, total = {"normal": normal}, normal
        for name, weight in zip(("1", "2"), self.weights, strict=True):
            low, high = select(parts[f"distance{name}"], anomalous, *self.shares)
            terms[f"pull_push{name}"] = torch.relu(self.margin + low - high).mean()
            total = total + weight * terms[f"pull_push{name}"]
        return {"total": total} | terms


def divergence(features: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """The d of the module: (B, T, D), (D,), (D,) -> (B, T)."""
    return ((features - mean).square() / variance.clamp_min(1e-12)).sum(dim=-1).clamp_min(1e-12).sqrt()


def select(
    distances: torch.Tensor, anomalous: torch.Tensor, sample_share: float, batch_share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances of the selected normal and anomalous segments, equally many of each.

    Anomalous ones are in the order of bags and segments; normal ones are sorted by rank within their bag, then by bag,
    as in the released code.

    Args:
        distances: (B, T).
        anomalous: (B,) bool; both kinds must occur.
        sample_share: of the segments of each bag, in [0, 1].
        batch_share: of all segments of the batch, in [0, 1].
    """
    high, low = distances[anomalous], distances[~anomalous]
    segments = high.shape[1]
    chosen = torch.zeros_like(high, dtype=torch.bool)
    chosen.scatter_(1, high.topk(max(1, int(segments * sample_share)), dim=1).indices, True)
    flat = chosen.flatten()
    flat[high.flatten().topk(int(high.numel() * batch_share)).indices] = True
    picked = high.flatten()[flat]
    each = min(segments, len(picked) // len(low) + 1)
    normal = low.topk(each, dim=1).values.T.flatten()[: len(picked)]
    return normal, picked[: len(normal)]
