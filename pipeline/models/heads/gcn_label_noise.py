"""A cleaner of noisy segment labels, beside a classifier.

Zhong et al., "Graph Convolutional Label Noise Cleaner: Train a Plug-and-play Action Classifier for Anomaly Detection",
CVPR 2019. UCF-Crime: AUC 82.12; ShanghaiTech: AUC 84.44 (with TSN features).

The video label is a noisy label of every segment. A classifier p is trained on segment labels, a graph network cleans
the labels of anomalous bags, and the two alternate. The cleaner is that of the authors' released code: it squeezes
features by D - 512 - 128 (ReLU, dropout 0.6 after each) and runs two graph networks 128 - 32 - 1 without biases,

    H' = A^ H W,   A^ = D^-1/2 A D^-1/2,
    by likeness A_ij = exp(x_i x_j - max_j x_i x_j),   by time A_ij = exp(-|i - j|),

D the sums of rows, with ReLU between; the sigmoid of the mean of both outputs is the cleaned probability c. With p held
fixed its loss is, over the bags of a batch, the mean of

    direct: the cross entropy of c with p, in a normal bag over all segments, in an anomalous one over those where p
        is sure
    indirect: of an anomalous bag, mean |c - c'| with c' a slowly moving average of the cleaner's own predictions.

The classifier's loss is the cross entropy of p with 0 in normal bags and with c in anomalous ones (with 1 at first).

In the released code the cleaner is trained by SGD, learning rate 1e-4, momentum 0.9, weight decay 5e-4 (RGB: 8e-4), the
gradients of 32 videos added up, 20 epochs, a tenth of the rate after every 5 (RGB: 8); the classifier is a C3D or TSN,
fine-tuned in Caffe.

Compared with the released pygcn/models.py, layers.py and experiment_c3d.py on the same tensors (D = 4096, one normal
and one anomalous video of 24 segments, the same weights and sure segments, no dropout, float32 on a CPU): logits of the
cleaner within 2e-7, direct and indirect loss, there summed over the videos, within 3e-7 of their size.

Departures: in the release p is sure at the 30 % of segments where it varies least over ten crops; here, without crops,
at the `sure_share` highest and lowest of a bag, 15 % each. Classifier and cleaner alternate within every step, after
`warmup_steps` of the classifier on the noisy labels, not in rounds of full trainings. c' comes from an average of the
cleaner's weights, not of its predictions for each video, since a head is not told which video a bag is. The loss is a
mean over bags, not a sum, as for other heads. The cleaned probability is taken as it is, not stretched to 0 and 1 in
every video. The classifier is a network D - 128 - 1 on cached features, so that the published training does not apply,
and `training: paper` is refused. Batches hold as many normal as anomalous bags; a graph is that of one bag.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from pipeline.models.heads.base import BinaryHead, normal_bags, register
from pipeline.models.heads.dropout import Dropout

__all__ = ["Cleaner", "GcnLabelNoise", "normalized"]


def normalized(adjacency: torch.Tensor) -> torch.Tensor:
    """D^-1/2 A D^-1/2 of non-negative A, (..., T, T), D the sums of rows."""
    degree = adjacency.sum(dim=-1).clamp_min(1e-12).rsqrt()
    return degree[..., :, None] * adjacency * degree[..., None, :]


class Cleaner(nn.Module):
    """Logits (B, T) of cleaned labels of vectors (B, T, D).

    Args:
        channels: D.
        dropout: after each of the squeezing layers.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        layers = nn.Linear(channels, 512), nn.ReLU(), Dropout(dropout), nn.Linear(512, 128), nn.ReLU(), Dropout(dropout)
        self.squeeze = nn.Sequential(*layers)
        self.likeness, self.time = (nn.ModuleList([_graph_layer(128, 32), _graph_layer(32, 1)]) for _ in range(2))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Both graphs, and the mean of their outputs."""
        features = self.squeeze(vectors)
        alike = features @ features.transpose(1, 2)
        alike = torch.exp(alike - alike.amax(dim=-1, keepdim=True))
        place = torch.arange(vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        near = torch.exp(-(place[:, None] - place[None, :]).abs())
        by_likeness = self._run(self.likeness, normalized(alike), features)
        return (by_likeness + self._run(self.time, normalized(near), features))[..., 0] / 2

    @staticmethod
    def _run(layers: nn.ModuleList, graph: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return graph @ layers[1](torch.relu(graph @ layers[0](features)))


def _graph_layer(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.uniform_(layer.weight, -(outputs**-0.5), outputs**-0.5)
    return layer


@register("gcn_label_noise")
class GcnLabelNoise(BinaryHead):
    """The head of Zhong et al.

    Args:
        channels: D.
        classes: C.
        dropout: in classifier and cleaner.
        sure_share: share of a bag's segments, of highest and of lowest score, at which the classifier counts as sure.
        warmup_steps: first steps, in which the classifier is trained on the noisy labels.
        average: share of the slow cleaner's weights that is kept from step to step.
    """

    steps: torch.Tensor

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        dropout: float = 0.6,
        sure_share: float = 0.15,
        warmup_steps: int = 100,
        average: float = 0.95,
    ) -> None:
        super().__init__(channels, classes)
        self.sure_share, self.warmup_steps, self.average = sure_share, warmup_steps, average
        self.network = nn.Sequential(nn.Linear(channels, 128), nn.ReLU(), Dropout(dropout), nn.Linear(128, 1))
        self.cleaner = Cleaner(channels, dropout)
        self.slow = copy.deepcopy(self.cleaner).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits of p, (B, T).

        In training also `cleaned`, the cleaner's logits; `labels`, its probabilities without dropout; `slow`, those of
        the slow cleaner; and `warming`, whether these are the first steps.
        """
        parts = {"logits": self.network(vectors)[..., 0]}
        if self.training:
            with torch.no_grad():
                for slow, own in zip(self.slow.parameters(), self.cleaner.parameters(), strict=True):
                    slow.lerp_(own, 1 - self.average)
                parts["slow"], parts["labels"] = (
                    torch.sigmoid(each.eval()(vectors)) for each in (self.slow, self.cleaner)
                )
                parts["warming"] = self.steps < self.warmup_steps
                self.steps += 1
            parts["cleaned"] = self.cleaner.train()(vectors)
        return parts

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's losses. Raises ValueError when the first half of the bags is not the normal ones."""
        half = normal_bags("gcn_label_noise", anomalous)
        scores, cleaned = torch.sigmoid(parts["logits"]), parts["cleaned"]
        given = torch.ones_like(scores) if parts["warming"] else parts["labels"]
        classified = binary_cross_entropy(scores, torch.where(anomalous[:, None], given, 0.0))
        fixed = scores.detach()
        count = max(1, int(self.sure_share * fixed.shape[1]))
        sure = torch.cat([fixed[half:].topk(count, dim=1, largest=largest).indices for largest in (True, False)], dim=1)
        normal = binary_cross_entropy_with_logits(cleaned[:half], fixed[:half])
        strange = binary_cross_entropy_with_logits(cleaned[half:].gather(1, sure), fixed[half:].gather(1, sure))
        direct = (normal + strange) / 2  # halves of a batch, so the mean over bags
        indirect = (torch.sigmoid(cleaned[half:]) - parts["slow"][half:]).abs().mean() / 2
        return {
            "total": classified + direct + indirect,
            "classifier": classified,
            "direct": direct,
            "indirect": indirect,
        }
