"""The paper's head: phi1 on the global pattern cue, phi2 on the spatial pattern vectors.

Lv, Xu, Cui, "Global Information Guided Video Anomaly Detection", 2020. CitySCENE: AUC 84.09, MF1 52.33.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.heads import HeadOutput, register

__all__ = ["GIGHead"]


@register("gig")
class GIGHead(nn.Module):
    """Two linear layers with dropout before them (eqs. 3 and 7; the maxima are in the losses).

    Args:
        channels: D.
        classes: C.
        dropout: probability, 0.5 in the paper.
    """

    def __init__(self, channels: int, classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.phi1 = nn.Linear(channels, 1 + classes)
        self.phi2 = nn.Linear(channels, 1 + classes)

    def forward(self, cue: torch.Tensor, patterns: torch.Tensor) -> HeadOutput:
        """Logits of cues (B, D) and pattern vectors (B, T, D)."""
        return HeadOutput(self.phi1(self.dropout(cue)), self.phi2(self.dropout(patterns)))
