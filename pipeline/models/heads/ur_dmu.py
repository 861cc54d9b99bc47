"""UR-DMU.

H. Zhou, Yu, Yang, "Dual Memory Units with Uncertainty Regulation for Weakly Supervised Video Anomaly Detection", AAAI
2023. UCF-Crime: AUC 86.97; XD-Violence: AP 81.66.

Features x of `transformer` meet two memories M of 60 items each, of normality (N) and of anomaly (A):

    q = sigmoid(x M^T / sqrt(D)),   att = mean of the top (items // 16 + 1) of q,   aug = q M .

Normal bags are augmented by N with uncertainty, mu(aug) + sigma(aug) eps with eps ~ N(0, 1), and by mu of A's aug.
Anomalous bags are augmented by mu of both augs, and so is every bag when it is scored; the bias of mu counts twice in
each case. The score is a network 1024 - 128 - 1 of x beside the sum of the two. With k = T // 16 + 1, top the mean of a
bag's k largest, and att_XY the attention of bags of kind X (n, a) by memory Y,

    l = BCE(top(s), y) + 0.1 l_dual + 0.1 l_triplet + 0.001 l_kl + 0.0001 l_distance
    l_dual = BCE(top(att_aA), 1) + BCE(top(1 - att_aN), 1) + BCE(att_nN, 1) + BCE(att_nA, 0)
    l_triplet = max(0, 1 + d(anchor, positive) - d(anchor, negative)) on unit vectors. Each is the mean of x at k
        segments: the anchor of normal bags with the largest att_nN, the positive of anomalous bags with the largest
        att_aN, the negative of anomalous bags with the largest att_aA
    l_kl = divergence of N(mu, sigma^2) of normal bags from N(0, 1), summed over segments, mean over bags and channels
    l_distance = max(0, 100 - |a| + |n|): a is the mean of A's mu at the k segments of anomalous bags with the largest
        att_aA, n the mean of the augmented normal features at those with the largest att_nN.

In the released code: Adam, learning rate 1e-4, weight decay 5e-5, 64 bags of each kind per batch, T = 200, 3,000 steps.

Compared with the released model.py, memory.py, translayer.py and train.py on the same tensors (D = 1024, T = 40, 3 + 3
bags, the same weights and noise, no dropout, float32 on a CPU): total and every term of the loss within 2e-7 of their
size, scores within 1e-7 in training and in scoring.

Departures: a video is scored in parts of at most about 512 windows, so that memory is bounded. Nothing is averaged over
crops; views take their place, one per epoch.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, normalize, triplet_margin_loss

from pipeline.models.heads.base import WINDOWS_IN_CONTEXT, BinaryHead, normal_bags, register, strongest, top_mean
from pipeline.models.heads.transformer import WIDTH, TemporalEncoder

__all__ = ["UrDmu"]


class Memory(nn.Module):
    """A bank of vectors that features are compared with and rebuilt from.

    Args:
        items: number of vectors.
    """

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
    """The head of H. Zhou et al.

    Args:
        channels: D.
        classes: C.
        memory_normal: items of the memory of normality.
        memory_anomalous: items of the memory of anomaly.
        dropout: in the transformer.
        dual: weight of l_dual.
        triplet: weight of l_triplet.
        divergence: weight of l_kl.
        distance: weight of l_distance.
        margin: of l_distance.
    """

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
        """logits (B, T); in training also what the loss needs, for a batch whose first half is normal."""
        x = self.encoder(vectors)
        normal_attention, normal_augmented = self.normality(x)
        anomaly_attention, anomaly_augmented = self.anomaly(x)
        if not self.training:
            both = self.mean(normal_augmented) + self.mean(anomaly_augmented)
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
        half = normal_bags("ur_dmu", anomalous)
        count = parts["logits"].shape[1] // 16 + 1
        x, by_normality, by_anomaly = parts["features"], parts["normal_attention"], parts["anomaly_attention"]
        video = _bce(top_mean(torch.sigmoid(parts["logits"]), count), anomalous.to(x.dtype))
        dual = (
            _bce(top_mean(by_anomaly[half:], count), 1)
            + _bce(top_mean(1 - by_normality[half:], count), 1)
            + _bce(by_normality[:half], 1)
            + _bce(by_anomaly[:half], 0)
        )
        anchor = normalize(strongest(x[:half], by_normality[:half], count), dim=-1)
        positive = normalize(strongest(x[half:], by_normality[half:], count), dim=-1)
        negative = normalize(strongest(x[half:], by_anomaly[half:], count), dim=-1)
        triplet = triplet_margin_loss(anchor, positive, negative)
        mean, log_variance = parts["mean"], parts["log_variance"]
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        far = strongest(parts["strange"], by_anomaly[half:], count).norm(dim=-1)
        near = strongest(parts["uncertain"], by_normality[:half], count).norm(dim=-1)
        distance = torch.relu(self.margin - far + near).mean()
        terms = {"dual": dual, "triplet": triplet, "divergence": divergence, "distance": distance}
        total = video + sum(self.weights[name] * term for name, term in terms.items())
        return {"total": total, "video": video} | terms


def _bce(scores: torch.Tensor, wanted: torch.Tensor | float) -> torch.Tensor:
    if not isinstance(wanted, torch.Tensor):
        wanted = torch.full_like(scores, wanted)
    return binary_cross_entropy(scores, wanted)
