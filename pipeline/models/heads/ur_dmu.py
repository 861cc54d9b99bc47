"""UR-DMU: H. Zhou, Yu, Yang, "Dual Memory Units with Uncertainty Regulation for Weakly Supervised Video Anomaly Detection", AAAI
2023. UCF-Crime: AUC 86.97; XD-Violence: AP 81.66.

Features x of `transformer` meet two memories M of 60 items each, of normality (N) and of anomaly (A):

    q = sigmoid(x M^T / sqrt(D)),   att = mean of the top (items // 16 + 1) of q,   aug = q M .

Normal bags are augmented by N with uncertainty, mu(aug) + sigma(aug) eps with eps ~ N(0, 1), and by mu of A's aug; anomalous bags
by mu of both augs. The score is a network 1024 - 128 - 1 of x beside the sum of the two. With k = T // 16 + 1, top the mean of a
bag's k largest, and att_XY the attention of bags of kind X (n, a) by memory Y,

    l = BCE(top(s), y) + 0.1 l_dual + 0.1 l_triplet + 0.001 l_kl + 0.0001 l_distance
    l_dual = BCE(top(att_aA), 1) + BCE(top(1 - att_aN), 1) + BCE(att_nN, 1) + BCE(att_nA, 0)
    l_triplet = max(0, 1 + d(anchor, positive) - d(anchor, negative)) on unit vectors: the mean of x at the k segments of normal
        bags with the largest att_nN; of anomalous bags with the largest att_aN; of anomalous bags with the largest att_aA
    l_kl = divergence of N(mu, sigma^2) of normal bags from N(0, 1)
    l_distance = max(0, 100 - |a| + |n|), a the mean of A's mu at the k segments of anomalous bags with the largest att_aA, n that
        of the augmented normal features at those with the largest att_nN.

The paper trains with Adam, learning rate 1e-4, weight decay 5e-5, 64 bags of each kind a batch, T = 200.

Departures: bags of the two kinds are paired in order for triplet and distance, as in the authors' code; both kinds must be as many.
att_nA and the rest of l_dual are as their code has them. l_kl is the mean over segments and channels of its summands, not their
sum over channels, so that its weight does not depend on the width. A video is scored in parts of at most about 512 windows.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, normalize

from pipeline.models.heads.base import WINDOWS_IN_CONTEXT, BinaryHead, register, top_mean
from pipeline.models.heads.transformer import WIDTH, TemporalEncoder

__all__ = ["UrDmu"]


class Memory(nn.Module):
    """Items that features are compared with and rebuilt from."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.empty(items, WIDTH).uniform_(-(WIDTH**-0.5), WIDTH**-0.5))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention (B, T) and augmentation (B, T, 512)."""
        likeness = torch.sigmoid(features @ self.items.T / WIDTH**0.5)
        attention = likeness.topk(len(self.items) // 16 + 1, dim=-1).values.mean(dim=-1)
        return attention, likeness @ self.items


@register("ur_dmu")
class UrDmu(BinaryHead):
    """Args: channels, classes: D, C. memory_normal, memory_anomalous: items. The others are weights of the module's equation."""

    context = WINDOWS_IN_CONTEXT

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        memory_normal: int = 60,
        memory_anomalous: int = 60,
        dropout: float = 0.5,
        dual: float = 0.1,
        triplet: float = 0.1,
        divergence: float = 1e-3,
        distance: float = 1e-4,
        margin: float = 100.0,
    ) -> None:
        super().__init__(channels, classes)
        self.weights = {"dual": dual, "triplet": triplet, "divergence": divergence, "distance": distance}
        self.margin = margin
        self.encoder = TemporalEncoder(channels, dropout)
        self.normality, self.anomaly = Memory(memory_normal), Memory(memory_anomalous)
        self.mean, self.deviation = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.score = nn.Sequential(nn.Linear(2 * WIDTH, 128), nn.ReLU(), nn.Linear(128, 1))

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits; in training also what the loss needs, all of a batch whose first half is normal."""
        x = self.encoder(vectors)
        normal_attention, normal_augmented = self.normality(x)
        anomaly_attention, anomaly_augmented = self.anomaly(x)
        if not self.training:
            both = self.mean(normal_augmented + anomaly_augmented)
            return {"logits": self.score(torch.cat([x, both], dim=-1))[..., 0]}
        half = len(x) // 2
        mean, log_variance = self.mean(normal_augmented[:half]), self.deviation(normal_augmented[:half])
        uncertain = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        strange = self.mean(anomaly_augmented)
        added = torch.cat([uncertain + strange[:half], strange[half:] + self.mean(normal_augmented[half:])])
        return {
            "logits": self.score(torch.cat([x, added], dim=-1))[..., 0],
            "features": x,
            "normal_attention": normal_attention,
            "anomaly_attention": anomaly_attention,
            "mean": mean,
            "log_variance": log_variance,
            "uncertain": uncertain,
            "strange": strange[half:],
        }

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's equation. Raises ValueError when the first half of the bags is not the normal ones."""
        half = len(anomalous) // 2
        if anomalous[:half].any() or not anomalous[half:].all() or len(anomalous) != 2 * half:
            raise ValueError("ur_dmu: expected as many normal as anomalous bags, the normal ones first")
        count = parts["logits"].shape[1] // 16 + 1
        x, by_normality, by_anomaly = parts["features"], parts["normal_attention"], parts["anomaly_attention"]
        video = _bce(top_mean(torch.sigmoid(parts["logits"]), count), anomalous.to(x.dtype))
        dual = (
            _bce(top_mean(by_anomaly[half:], count), 1)
            + _bce(top_mean(1 - by_normality[half:], count), 1)
            + _bce(by_normality[:half], 1)
            + _bce(by_anomaly[:half], 0)
        )
        anchor = normalize(_strongest(x[:half], by_normality[:half], count), dim=-1)
        positive = normalize(_strongest(x[half:], by_normality[half:], count), dim=-1)
        negative = normalize(_strongest(x[half:], by_anomaly[half:], count), dim=-1)
        triplet = torch.relu(1 + _distance(anchor, positive) - _distance(anchor, negative)).mean()
        mean, log_variance = parts["mean"], parts["log_variance"]
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        far = _strongest(parts["strange"], by_anomaly[half:], count).norm(dim=-1)
        near = _strongest(parts["uncertain"], by_normality[:half], count).norm(dim=-1)
        distance = torch.relu(self.margin - far + near).mean()
        terms = {"dual": dual, "triplet": triplet, "divergence": divergence, "distance": distance}
        total = video + sum(self.weights[name] * term for name, term in terms.items())
        return {"total": total, "video": video} | terms


def _bce(scores: torch.Tensor, wanted: torch.Tensor | float) -> torch.Tensor:
    if not isinstance(wanted, torch.Tensor):
        wanted = torch.full_like(scores, wanted)
    return binary_cross_entropy(scores, wanted)


def _distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Euclidean, (B, D), (B, D) -> (B,), with a finite gradient where they are equal: both are chosen from one bag."""
    return ((one - other).square().sum(dim=-1) + 1e-12).sqrt()


def _strongest(features: torch.Tensor, attention: torch.Tensor, count: int) -> torch.Tensor:
    """Mean of the features at the segments of most attention, (B, T, D), (B, T) -> (B, D)."""
    chosen = attention.topk(count, dim=1).indices
    return features.gather(1, chosen[..., None].expand(-1, -1, features.shape[-1])).mean(dim=1)
