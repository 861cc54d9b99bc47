"""Heads: one module each, behind one small interface and a registry.

A head takes reduced bags - the cue (B, D) and the pattern vectors (B, T, D) - and gives logits.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["HEADS", "HeadOutput", "build_head", "register"]

HEADS: dict[str, Callable[..., nn.Module]] = {}


@dataclass(frozen=True)
class HeadOutput:
    """Logits of a batch of bags.

    Attributes:
        video_logits: (B, 1 + C), phi1 of the cue; index 0 is Normal.
        segment_logits: (B, T, 1 + C), phi2 of the pattern vectors.
    """

    video_logits: torch.Tensor
    segment_logits: torch.Tensor

    @property
    def video_scores(self) -> torch.Tensor:
        """Scores of eq. 3 before the maximum, (B, 1 + C) in [0, 1]."""
        return torch.sigmoid(self.video_logits)

    @property
    def segment_scores(self) -> torch.Tensor:
        """Eq. 7, (B, T, 1 + C) in [0, 1]."""
        return torch.sigmoid(self.segment_logits)


def register(name: str) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Make a head known by a name."""

    def add(kind: type[nn.Module]) -> type[nn.Module]:
        HEADS[name] = kind
        return kind

    return add


def build_head(name: str, *, channels: int, classes: int, **options: object) -> nn.Module:
    """A head by name, for D channels and C anomaly classes. Raises ValueError naming the nearest name."""
    if name not in HEADS:
        near = difflib.get_close_matches(name, HEADS, n=1, cutoff=0.0)
        raise ValueError(f"unknown head {name!r}; did you mean {near[0]!r}? There are {', '.join(HEADS)}")
    return HEADS[name](channels=channels, classes=classes, **options)


from pipeline.models.heads import gig, pattern_norm  # noqa: E402, F401 - they register themselves
