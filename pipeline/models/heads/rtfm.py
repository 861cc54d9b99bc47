"""RTFM: Tian et al., "Weakly-supervised Video Anomaly Detection with Robust Temporal Feature Magnitude Learning", ICCV 2021.
UCF-Crime: AUC 84.30; ShanghaiTech: AUC 97.21; XD-Violence: AP 77.81.

A multi-scale temporal network turns the vectors of all segments into features f: three dilated convolutions over time (kernel 3,
dilation 1, 2, 4, a quarter of the channels each) beside self-attention over all segments on a quarter of the channels, joined by a
convolution and added to the input. With m_i the mean of the p largest |f_i,t| of bag i, and S_i the mean score of those segments,

    l = sum_i BCE(S_i, y_i) + alpha (max(0, margin - m_a + m_n))^2 + 8e-4 sum_t (s_a,t - s_a,t+1)^2 + 8e-3 |s_a|

with scores s of a network D - 512 - 128 - 1, dropout 0.7, margin 100, alpha 1e-4, p = 3 of T = 32; Adam, learning rate 1e-3, weight
decay 5e-3, 32 bags of each kind a batch.

Departures: the paper's hinge is not squared, the authors' code squares a form of it that has no hinge; here the hinge is squared,
over all pairs of a batch. The sparsity is the sum of an anomalous bag's scores. Segments are chosen on magnitudes without the
dropout that the authors' code applies to them. Views take the place of ten crops, one an epoch. The norms within the network are
left out: with batches of few bags they would see too little. A video is scored in parts of at most about 512 windows.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy

from pipeline.models.heads.base import WINDOWS_IN_CONTEXT, BinaryHead, register
from pipeline.models.heads.dropout import Dropout

__all__ = ["Rtfm", "TemporalNetwork"]


class TemporalNetwork(nn.Module):
    """The multi-scale temporal network: (B, T, D) -> (B, T, D) for any T; D is a multiple of 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.pyramid = nn.ModuleList(nn.Conv1d(channels, quarter, 3, padding=d, dilation=d) for d in (1, 2, 4))
        self.narrow = nn.Conv1d(channels, quarter, 1, bias=False)
        # Keys have no bias: it would add the same to all relations of a query, which the softmax does not feel.
        self.query, self.key = nn.Conv1d(quarter, quarter, 1), nn.Conv1d(quarter, quarter, 1, bias=False)
        self.value = nn.Conv1d(quarter, quarter, 1)
        self.join = nn.Conv1d(channels, channels, 3, padding=1, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Features of every segment."""
        signal = vectors.transpose(1, 2)
        near = [torch.relu(conv(signal)) for conv in self.pyramid]
        narrow = self.narrow(signal)
        query, key, value = self.query(narrow), self.key(narrow), self.value(narrow)
        attention = (query.transpose(1, 2) @ key / query.shape[1] ** 0.5).softmax(dim=-1)
        far = narrow + value @ attention.transpose(1, 2)
        return (signal + torch.relu(self.join(torch.cat([*near, far], dim=1)))).transpose(1, 2)


@register("rtfm")
class Rtfm(BinaryHead):
    """Args: channels, classes: D, C. p: segments of greatest magnitude. The others: see the module."""

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
            raise ValueError(f"rtfm: expected channels in quarters, got {channels}")
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

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits and magnitudes, (B, T)."""
        features = self.temporal(vectors)
        return {"logits": self.network(self.drop(features))[..., 0], "magnitudes": features.norm(dim=-1)}

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's equation."""
        scores = torch.sigmoid(parts["logits"])
        greatest = parts["magnitudes"].topk(self.p, dim=1)
        magnitudes = greatest.values.mean(dim=1)
        classified = binary_cross_entropy(scores.gather(1, greatest.indices).mean(dim=1), anomalous.to(scores.dtype))
        hinge = torch.relu(self.margin - magnitudes[anomalous][:, None] + magnitudes[~anomalous][None, :]).square().mean()
        high = scores[anomalous]
        smooth = (high[:, 1:] - high[:, :-1]).square().sum(dim=1).mean()
        sparse = high.sum(dim=1).mean()
        total = classified + self.alpha * hinge + self.smoothness * smooth + self.sparsity * sparse
        return {"total": total, "video": classified, "magnitude": hinge, "smooth": smooth, "sparse": sparse}
