"""RTFM: Tian et al., "Weakly-supervised Video Anomaly Detection with Robust Temporal Feature Magnitude Learning", ICCV
2021. UCF-Crime: AUC 84.30; ShanghaiTech: AUC 97.21; XD-Violence: AP 77.81.

The form is that of the authors' released code. A multi-scale temporal network turns the vectors of all segments into
features f:

    near  = three convolutions over time (kernel 3, dilation 1, 2, 4) to a quarter of the channels,
            each with ReLU, then BatchNorm
    x     = ReLU of a 1 x 1 convolution to a quarter of the channels
    far   = x + BatchNorm(W((theta(x) phi(x)^T / T) g(x))),   no softmax;
            theta, phi, g to half of those channels, W back
    f     = input + BatchNorm(ReLU(convolution of kernel 3 of near beside far)),   then dropout 0.7.

The weight of the BatchNorm after W begins at zero, so that far begins as x. Other weights begin Xavier uniform, biases
at zero. Of every bag the p segments of greatest |f_t| are chosen, in training among a random 30 % of its segments
(dropout 0.7 of the magnitudes). With S_i their mean score, m_i the length of their mean feature, and the i-th normal
and the i-th anomalous bag of a batch as a pair,

    l = mean_i BCE(S_i, y_i) + alpha mean_i (|margin - m_a,i| + m_n,i)^2
        + 8e-4 sum_t (s_t - s_t+1)^2 + 8e-3 sqrt(sum_t s_t^2)

with scores s of a network D - 512 - 128 - 1 (ReLU, dropout 0.7), margin 100, alpha 1e-4, p = 3 of T = 32. The last two
sums go over the anomalous bags of a batch end to end, from the last segment of one bag to the first of the next too.

In the released code: Adam, learning rate 1e-3, weight decay 5e-3, 32 bags of each kind a batch, 15,000 steps.

Compared with the released model.py and train.py on the same tensors (D = 2048, T = 32, 4 + 4 bags of one crop, the same
weights, float32 on a CPU): total and every term of the loss within 3e-7 of their size, with equal dropout masks and
without dropout; scores within 2e-6 in training and 1e-6 in scoring; gradients of three layers within 2e-5 of their
size. With equal masks the loss stays within 2e-6 over 40 steps of Adam (D = 64, 16 + 16 bags); later rounding changes a
choice of segments, and the two trainings diverge.

Departures: the quarter of the channels is D / 4, which is the authors' 512 at their D = 2048. W has no bias: the norm
after it would remove it. Views take the place of ten crops, one per epoch, so nothing is averaged over crops. p is an
option, since bags here have any T. A video is scored in parts of at most about 512 windows, so that memory is bounded.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy

from pipeline.models.heads.base import WINDOWS_IN_CONTEXT, BinaryHead, normal_bags, register, strongest
from pipeline.models.heads.dropout import Dropout

__all__ = ["NonLocal", "Rtfm", "TemporalNetwork"]


class NonLocal(nn.Module):
    """Relations of every segment to all others, as products of features: (B, C, T) -> (B, C, T) for any T."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.query, self.key, self.value = (nn.Conv1d(channels, inner, 1) for _ in range(3))
        norm = nn.BatchNorm1d(channels)
        nn.init.zeros_(norm.weight)
        self.out = nn.Sequential(nn.Conv1d(inner, channels, 1, bias=False), norm)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """The signal plus its relations to the other segments."""
        relations = self.query(signal).transpose(1, 2) @ self.key(signal) / signal.shape[-1]  # (B, T, T)
        return signal + self.out(self.value(signal) @ relations.transpose(1, 2))


class TemporalNetwork(nn.Module):
    """The multi-scale temporal network: (B, T, D) -> (B, T, D) for any T; D is a multiple of 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.pyramid = nn.ModuleList(
            nn.Sequential(nn.Conv1d(channels, quarter, 3, padding=d, dilation=d), nn.ReLU(), nn.BatchNorm1d(quarter))
            for d in (1, 2, 4)
        )
        self.narrow = nn.Sequential(nn.Conv1d(channels, quarter, 1, bias=False), nn.ReLU())
        self.relations = NonLocal(quarter)
        self.join = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=1, bias=False), nn.ReLU(), nn.BatchNorm1d(channels)
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Features of every segment, before dropout."""
        signal = vectors.transpose(1, 2)
        near = [scale(signal) for scale in self.pyramid]
        far = self.relations(self.narrow(signal))
        return (signal + self.join(torch.cat([*near, far], dim=1))).transpose(1, 2)


@register("rtfm")
class Rtfm(BinaryHead):
    """The head of Tian et al.

    Args:
        channels: D, a multiple of 4.
        classes: C.
        p: segments of greatest magnitude that are chosen of a bag.
        dropout: of features, of magnitudes and between the layers of the score.
        margin: of the magnitudes of anomalous bags.
        alpha: weight of the magnitude term.
        smoothness: weight of the squared differences of neighbouring scores.
        sparsity: weight of the length of all scores of anomalous bags.

    Raises:
        ValueError: D is not a multiple of 4.
    """

    context = WINDOWS_IN_CONTEXT

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        p: int = 3,
        dropout: float = 0.7,
        margin: float = 100.0,
        alpha: float = 1e-4,
        smoothness: float = 8e-4,
        sparsity: float = 8e-3,
    ) -> None:
        super().__init__(channels, classes)
        if channels % 4:
            raise ValueError(f"rtfm: expected a multiple of 4 channels, got {channels}")
        self.p, self.margin, self.alpha, self.smoothness, self.sparsity = p, margin, alpha, smoothness, sparsity
        self.temporal = TemporalNetwork(channels)
        self.drop = Dropout(dropout)
        self.network = nn.Sequential(
            nn.Linear(channels, 512),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(512, 128),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(128, 1),
        )
        for part in (self.temporal, self.network):
            part.apply(_initialise)

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits (B, T); in training also the features (B, T, D) and the ranks (B, T) that segments are chosen by."""
        features = self.drop(self.temporal(vectors))
        parts = {"logits": self.network(features)[..., 0]}
        if self.training:
            magnitudes = features.norm(dim=-1)
            parts |= {"features": features, "ranks": magnitudes.detach() * self.drop(torch.ones_like(magnitudes))}
        return parts

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's equation. Raises ValueError when the first half of the bags is not the normal ones."""
        half = normal_bags("rtfm", anomalous)
        scores = torch.sigmoid(parts["logits"])
        chosen = strongest(scores[..., None], parts["ranks"], self.p)[:, 0]
        classified = binary_cross_entropy(chosen, anomalous.to(scores.dtype))
        lengths = strongest(parts["features"], parts["ranks"], self.p).norm(dim=-1)
        magnitude = ((self.margin - lengths[half:]).abs() + lengths[:half]).square().mean()
        high = scores[half:].flatten()
        smooth, sparse = (high[1:] - high[:-1]).square().sum(), high.norm()
        total = classified + self.alpha * magnitude + self.smoothness * smooth + self.sparsity * sparse
        return {"total": total, "video": classified, "magnitude": magnitude, "smooth": smooth, "sparse": sparse}


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv1d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
