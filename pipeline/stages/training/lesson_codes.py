"""What every channel of a small backbone's features is to say of a cell of a generated lesson.

A lesson (pipeline.data.synthetic.playground) knows of each cell how much moves, how fast and how evenly, and which
attributes the things in it have. Channels are divided between three kinds of answers, all zero where nothing is:

- a quantity beyond a threshold, max(0, q - t), with many thresholds for each quantity: the mean of such channels over
  cells tells how the quantity is distributed and not only its mean;
- an attribute of a thing in the cell;
- two attributes at once.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.data.synthetic.playground.lesson import ATTRIBUTES, VALUES

__all__ = ["Codes", "quantities"]

LEVELS = 24
"""Thresholds for each quantity."""
COPIES = 6
"""Channels for each attribute: their errors differ, so that their mean is better than each."""
RAREST = 0.003
"""Smallest share of cells that two attributes must have together to get a channel."""
AMOUNTS = ("covered", "speed", "jerk", "change", "unrest", "contrast", "flicker", "haze")
SIGNED = ("right", "down", "turn", "growth", "fade")


def _columns(name: str) -> list[int]:
    return [i for i, each in enumerate(VALUES) if each.split(" ")[0] == name]


def quantities(values: torch.Tensor) -> torch.Tensor:
    """The quantities of cells, none negative.

    Args:
        values: (..., len(VALUES)) as of a lesson.

    Returns:
        (..., Q): mean and maximum over the places of a cell, of signed ones for either sign; the number of things; and
        how uneven the movement is, the change of the change against the change.
    """
    found = []
    for name in AMOUNTS:
        places = values[..., _columns(name)].clamp(min=0)
        found += [places.mean(dim=-1), places.amax(dim=-1)]
    for name in SIGNED:
        places = values[..., _columns(name)]
        found += [places.clamp(min=0).mean(dim=-1), (-places).clamp(min=0).mean(dim=-1), places.abs().amax(dim=-1)]
    change, unrest = (values[..., _columns(name)].clamp(min=0).expm1().mean(dim=-1) for name in ("change", "unrest"))
    found += [values[..., VALUES.index("number")], unrest / (change + 0.2)]
    return torch.stack(found, dim=-1)


class Codes(nn.Module):
    """From what a lesson knows to what the features are to be.

    Args:
        attributes: (N, h, w, len(ATTRIBUTES)) of examples, which give the thresholds and the scale.
        values: (N, h, w, len(VALUES)) likewise.
        channels: of the features.
        seed: of the choice of pairs of attributes.
    """

    thresholds: torch.Tensor
    pairs: torch.Tensor
    scale: torch.Tensor

    def __init__(self, attributes: torch.Tensor, values: torch.Tensor, channels: int, seed: int) -> None:
        super().__init__()
        found = quantities(values)
        held = found[values[..., VALUES.index("number")] > 0]
        thresholds = torch.quantile(held, torch.linspace(0.02, 0.98, LEVELS), dim=0)
        self.register_buffer("thresholds", thresholds.T.contiguous())
        together = torch.einsum("ni,nj->ij", attributes.flatten(0, 2), attributes.flatten(0, 2))
        common = (together / attributes.flatten(0, 2).shape[0]).triu(diagonal=1) >= RAREST
        count = channels - self.thresholds.numel() - COPIES * len(ATTRIBUTES)
        candidates = common.nonzero()
        if count < 0 or len(candidates) < count:
            raise ValueError(f"expected {count} pairs of attributes for the channels left, got {len(candidates)}")
        chosen = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))[:count]
        self.register_buffer("pairs", candidates[chosen.sort().values])
        self.register_buffer("scale", torch.ones(channels))
        self.scale = 1 / self(attributes, values).flatten(0, 2).std(dim=0).clamp(min=0.1)

    def forward(self, attributes: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """(N, h, w, channels) float32, none negative, of unit deviation over the cells of the examples."""
        beyond = (quantities(values)[..., None] - self.thresholds).clamp(min=0).flatten(-2)
        both = attributes[..., self.pairs[:, 0]] * attributes[..., self.pairs[:, 1]]
        return torch.cat([beyond, *[attributes] * COPIES, both], dim=-1) * self.scale
