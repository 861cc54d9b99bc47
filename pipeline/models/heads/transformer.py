"""The temporal network that UR-DMU and BN-WVAD share: a convolution, then attention that is global and local.

H. Zhou, Yu, Yang, "Dual Memory Units with Uncertainty Regulation for Weakly Supervised Video Anomaly Detection", AAAI
2023, section on global and local multi-head self-attention. As in the released code, attention by distance is divided
by the sums of its columns, not of its rows: near the ends of a video the weights of a segment do not sum to 1.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import gelu

from pipeline.models.heads.dropout import Dropout

__all__ = ["TemporalEncoder"]

WIDTH, LAYERS, HEADS, HEAD_WIDTH = 512, 2, 4, 128


class TemporalEncoder(nn.Module):
    """(B, T, D) -> (B, T, 512) for any T: a convolution over three segments with ReLU, then two transformer layers.

    Args:
        channels: D.
        dropout: in the attention's output and in the feed-forward networks.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Conv1d(channels, WIDTH, 3, padding=1)
        self.layers = nn.ModuleList(_Layer(dropout) for _ in range(LAYERS))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Features of every segment."""
        features = torch.relu(self.embedding(vectors.transpose(1, 2))).transpose(1, 2)
        for layer in self.layers:
            features = layer(features)
        return features


class _Layer(nn.Module):
    """Attention by content beside attention by distance exp(-|i - j| / e), normalised; then a feed-forward network."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, 4 * inner, bias=False)
        self.out = nn.Linear(2 * inner, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.drop = Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        batch, segments, _ = features.shape
        parts = self.project(self.norm1(features)).reshape(batch, segments, 4, HEADS, HEAD_WIDTH)
        query, key, value, local = parts.permute(2, 0, 3, 1, 4)
        content = (query @ key.transpose(-1, -2) / math.sqrt(HEAD_WIDTH)).softmax(dim=-1)
        place = torch.arange(segments, dtype=features.dtype, device=features.device)
        distance = torch.exp(-(place[:, None] - place[None, :]).abs() / math.e)
        distance = distance / distance.sum(dim=0)
        both = torch.cat([content @ value, distance @ local], dim=-1)  # (B, heads, T, 2 x width)
        features = features + self.drop(self.out(both.transpose(1, 2).reshape(batch, segments, -1)))
        hidden = self.drop(gelu(self.wide(self.norm2(features))))
        return features + self.drop(self.narrow(hidden))
