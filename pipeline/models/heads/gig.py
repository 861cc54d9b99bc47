"""The paper's head: phi1 on the global pattern cue, phi2 on the spatial pattern vectors.

Lv, Xu, Cui, "Global Information Guided Video Anomaly Detection", 2020. CitySCENE: AUC 84.09, MF1 52.33.

Its parts can be switched off: `lambda0: 0` (no cue loss), `enhancement: false` (no eq. 2), `reduction: mean` or `max`
(no spatial reasoning), `relation: dot`, and every other loss term by its lambda.

Not in the paper: `channel_attention`. With frozen features, what l_g (eq. 4) trains is not used for scores; a channel
attention before eq. 1 is. It is X' = s * X with s = s(g), so g' = s * g, and eqs. 2 to 14 are those of X' and g'.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.heads.base import HeadModule, HeadOutput, register
from pipeline.models.heads.dropout import Dropout
from pipeline.models.losses import LossSettings, vs_loss
from pipeline.models.reduction import pattern_vectors

__all__ = ["ChannelAttention", "GIGHead"]


class ChannelAttention(nn.Module):
    """Squeeze and excitation (Hu, Shen, Sun 2018): s = 2 sigmoid(W2 ReLU(W1 g + b1) + b2), (B, D) -> (B, D) in (0, 2).

    Departures: the squeeze is the cue, a maximum over time and space that the cache holds, in place of a mean. The
    sigmoid is doubled and W2 = b2 = 0 at the start, so that training begins at s = 1, the head without attention.

    Args:
        channels: D.
        width: of the bottleneck.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(channels, width), nn.Linear(width, channels)
        nn.init.zeros_(self.excite.weight)
        nn.init.zeros_(self.excite.bias)

    def forward(self, cue: torch.Tensor) -> torch.Tensor:
        """The scale (B, D) of the channels of bags with these cues (B, D)."""
        return 2 * torch.sigmoid(self.excite(torch.relu(self.squeeze(cue))))


@register("gig")
class GIGHead(HeadModule):
    """Two linear layers with dropout before them (eqs. 3 and 7; the maxima are in the losses).

    Args:
        channels: D.
        classes: C.
        dropout: probability, 0.5 in the paper.
        p: segments of the consensus, eq. 8.
        lambda0: weight of the cue loss, eq. 4; the paper has none, which is 1.
        lambda1: weight of the segment loss, eq. 12.
        lambda2: weight of the class loss, eq. 12.
        lambda3: weight of the sparsity loss, eq. 14.
        channel_attention: width of the attention's bottleneck; 0 for none.
        reduction: see `pipeline.models.reduction.pattern_vectors`. This and the next three arguments are used only with
            a channel attention, since the head then reduces the maps itself.
        k: positions that are chosen, or their share.
        relation: see `pipeline.models.reduction.relation_map`.
        enhancement: see `pipeline.models.reduction.relation_map`.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        dropout: float = 0.5,
        *,
        p: int = 2,
        lambda0: float = 1.0,
        lambda1: float = 1.0,
        lambda2: float = 0.5,
        lambda3: float = 0.1,
        channel_attention: int = 0,
        reduction: str = "spatial",
        k: float = 8,
        relation: str = "cosine",
        enhancement: bool = True,
    ) -> None:
        super().__init__(channels, classes)
        self.dropout = Dropout(dropout)
        self.phi1 = nn.Linear(channels, 1 + classes)
        self.phi2 = nn.Linear(channels, 1 + classes)
        self.loss_settings = LossSettings(p=p, lambda0=lambda0, lambda1=lambda1, lambda2=lambda2, lambda3=lambda3)
        self.attention = ChannelAttention(channels, channel_attention) if channel_attention else None
        self.reduction, self.k, self.relation, self.enhancement = reduction, k, relation, enhancement

    def forward(self, cue: torch.Tensor, patterns: torch.Tensor) -> HeadOutput:
        """Logits of cues (B, D) and pattern vectors (B, T, D).

        With a channel attention `patterns` are maps (B, T, H, W, D), or maps pooled without eq. 2 (B, T, D).
        """
        positions, relations, scale = None, None, self.scale(cue)
        if scale is not None:
            maps = patterns if patterns.ndim == 5 else patterns[:, :, None, None]
            cue = scale * cue
            found = pattern_vectors(
                maps,
                cue,
                reduction=self.reduction,
                k=self.k,
                relation=self.relation,
                enhancement=self.enhancement,
                scale=scale,
            )
            patterns, positions, relations = found.vectors, found.positions, found.relations
        video, segments = self.phi1(self.dropout(cue)), self.phi2(self.dropout(patterns))
        return HeadOutput(video, segments, positions=positions, relations=relations)

    def scale(self, cue: torch.Tensor) -> torch.Tensor | None:
        """The channel attention's scale (B, D); None without an attention."""
        return self.attention(cue) if self.attention else None

    def loss(self, output: HeadOutput, video_labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Eqs. 4 and 8 to 14."""
        return vs_loss(output.video_logits, output.segment_logits, video_labels, self.loss_settings).by_name()
