"""The paper's head: phi1 on the global pattern cue, phi2 on the spatial pattern vectors.

Lv, Xu, Cui, "Global Information Guided Video Anomaly Detection", 2020. CitySCENE: AUC 84.09, MF1 52.33.

Its parts can be switched off: `lambda0: 0` (no cue loss), `enhancement: false` (no eq. 2), `reduction: mean` or `max` (no spatial
reasoning), `relation: dot`, and every other loss term by its lambda.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.heads.base import HeadModule, HeadOutput, register
from pipeline.models.losses import vs_loss

__all__ = ["GIGHead"]


@register("gig")
class GIGHead(HeadModule):
    """Two linear layers with dropout before them (eqs. 3 and 7; the maxima are in the losses).

    Args:
        channels: D.
        classes: C.
        dropout: probability, 0.5 in the paper.
        p: segments of the consensus, eq. 8.
        lambda0, lambda1, lambda2, lambda3: weights of the cue, segment, class and sparsity terms of eqs. 12 and 14; the paper has
            no lambda0.
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
    ) -> None:
        super().__init__(channels, classes)
        self.dropout = nn.Dropout(dropout)
        self.phi1 = nn.Linear(channels, 1 + classes)
        self.phi2 = nn.Linear(channels, 1 + classes)
        self.terms = {"p": p, "lambda0": lambda0, "lambda1": lambda1, "lambda2": lambda2, "lambda3": lambda3}

    def forward(self, cue: torch.Tensor, patterns: torch.Tensor) -> HeadOutput:
        """Logits of cues (B, D) and pattern vectors (B, T, D)."""
        return HeadOutput(self.phi1(self.dropout(cue)), self.phi2(self.dropout(patterns)))

    def loss(self, output: HeadOutput, video_labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Eqs. 4 and 8 to 14."""
        terms = vs_loss(output, video_labels, **self.terms)
        return {name: getattr(terms, name) for name in ("total", "video", "segment", "classes", "sparse")}
