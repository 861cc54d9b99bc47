"""A control that learns nothing: the length of the pattern vector as the score of every anomaly class."""

from __future__ import annotations

import torch

from pipeline.models.heads.base import HeadModule, HeadOutput, register

__all__ = ["PatternNorm"]


@register("pattern_norm")
class PatternNorm(HeadModule):
    """Scores every anomaly class |x_t| / (1 + |x_t|), and Normal one minus that; it has no parameters."""

    def forward(self, cue: torch.Tensor, patterns: torch.Tensor) -> HeadOutput:
        """Logits of cues (B, D) and pattern vectors (B, T, D)."""
        return HeadOutput(self._logits(cue), self._logits(patterns))

    def _logits(self, vectors: torch.Tensor) -> torch.Tensor:
        """log |x| is the logit of |x| / (1 + |x|)."""
        anomaly = vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12).log()
        return torch.cat([-anomaly, *[anomaly] * self.classes], dim=-1)
