"""Zhong et al., "Graph Convolutional Label Noise Cleaner: Train a Plug-and-play Action Classifier for Anomaly Detection", CVPR
2019. UCF-Crime: AUC 82.12; ShanghaiTech: AUC 84.44 (with TSN features).

The video label is a noisy label of every segment. A classifier p is trained on segment labels, a graph network cleans the labels
of anomalous bags, and the two alternate. The cleaner squeezes features to 128 channels and runs two graph networks 128 - 32 - 1,

    H' = A^ H W,   A^ = D^-1/2 A D^-1/2,   by likeness A_ij = exp(x_i x_j - max_j x_i x_j), by time A_ij = exp(-|i - j|),

with ReLU between; the mean of both outputs gives the cleaned probability c. Its loss is direct, the cross entropy of c with p on
the segments where p is sure, and indirect, mean |c - c'| with c' a slowly moving average of the cleaner's own predictions. The
classifier's loss is the cross entropy of p with 0 in normal bags and with c in anomalous ones (with 1 at first).

Departures: where p is sure is, in the paper, where it varies little over ten crops; without crops, here, the `sure_share` highest
and lowest of a bag. Classifier and cleaner alternate within every step, after `warmup_steps` of the classifier on the noisy labels,
not in rounds of full trainings. c' comes from an average of the cleaner's weights, not of its predictions for each video. Likeness
is of unit vectors and made symmetric. The classifier is a network D - 128 - 1 on cached features, not a C3D or TSN that is
fine-tuned. Batches hold both kinds in pairs; the graphs are those of one bag.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, normalize

from pipeline.models.heads.base import BinaryHead, register
from pipeline.models.heads.dropout import Dropout

__all__ = ["Cleaner", "GcnLabelNoise", "symmetric"]


def symmetric(adjacency: torch.Tensor) -> torch.Tensor:
    """D^-1/2 A D^-1/2 of non-negative A, (..., T, T)."""
    degree = adjacency.sum(dim=-1).clamp_min(1e-12).rsqrt()
    return degree[..., :, None] * adjacency * degree[..., None, :]


class Cleaner(nn.Module):
    """Logits (B, T) of cleaned labels of vectors (B, T, D)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Linear(channels, 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU())
        self.likeness = nn.ModuleList([nn.Linear(128, 32), nn.Linear(32, 1)])
        self.time = nn.ModuleList([nn.Linear(128, 32), nn.Linear(32, 1)])

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Both graphs, and the mean of their outputs."""
        features = self.squeeze(vectors)
        unit = normalize(features, dim=-1)
        alike = unit @ unit.transpose(1, 2)
        alike = torch.exp(alike - alike.amax(dim=-1, keepdim=True))
        place = torch.arange(vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        near = torch.exp(-(place[:, None] - place[None, :]).abs())
        both = [self._run(layers, symmetric(graph), features) for layers, graph in self._graphs(alike, near)]
        return (both[0] + both[1])[..., 0] / 2

    def _graphs(self, alike: torch.Tensor, near: torch.Tensor) -> list[tuple[nn.ModuleList, torch.Tensor]]:
        return [(self.likeness, (alike + alike.transpose(1, 2)) / 2), (self.time, near)]

    @staticmethod
    def _run(layers: nn.ModuleList, graph: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return layers[1](graph @ torch.relu(layers[0](graph @ features)))


@register("gcn_label_noise")
class GcnLabelNoise(BinaryHead):
    """Args: channels, classes: D, C. sure_share, warmup_steps: see the module. average: share of the slow weights that is kept."""

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        dropout: float = 0.6,
        sure_share: float = 0.3,
        warmup_steps: int = 100,
        average: float = 0.95,
    ) -> None:
        super().__init__(channels, classes)
        self.sure_share, self.warmup_steps, self.average = sure_share, warmup_steps, average
        self.network = nn.Sequential(nn.Linear(channels, 128), nn.ReLU(), Dropout(dropout), nn.Linear(128, 1))
        self.cleaner = Cleaner(channels)
        self.slow = copy.deepcopy(self.cleaner).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits of p; in training also the cleaner's logits, the slow cleaner's probability, and whether p still warms up."""
        parts = {"logits": self.network(vectors)[..., 0]}
        if self.training:
            with torch.no_grad():
                for slow, own in zip(self.slow.parameters(), self.cleaner.parameters(), strict=True):
                    slow.lerp_(own, 1 - self.average)
                parts["slow"] = torch.sigmoid(self.slow(vectors))
                parts["warming"] = self.steps < self.warmup_steps
                self.steps += 1
            parts["cleaned"] = self.cleaner(vectors)
        return parts

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's losses."""
        scores, cleaned = torch.sigmoid(parts["logits"]), torch.sigmoid(parts["cleaned"])
        given = torch.ones_like(scores) if parts["warming"] else cleaned.detach()
        classified = binary_cross_entropy(scores, torch.where(anomalous[:, None], given, 0.0))
        noisy, clean = scores.detach()[anomalous], cleaned[anomalous]
        count = max(1, int(self.sure_share * noisy.shape[1]))
        sure = torch.cat([noisy.topk(count, dim=1, largest=largest).indices for largest in (True, False)], dim=1)
        direct = binary_cross_entropy(clean.gather(1, sure), noisy.gather(1, sure))
        indirect = (clean - parts["slow"][anomalous]).abs().mean()
        return {"total": classified + direct + indirect, "classifier": classified, "direct": direct, "indirect": indirect}
