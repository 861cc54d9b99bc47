"""Dropout with a faster draw of its random numbers on a CPU."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["Dropout", "dropout"]


def dropout(values: torch.Tensor, rate: float) -> torch.Tensor:
    """As `torch.nn.functional.dropout` of contiguous float values on a CPU, faster.

    The draws are those of torch 2.13, which compares uniform numbers made one by one from the lowest 53 of 64 random
    bits.
    """
    bits = torch.empty(values.shape, dtype=torch.int64).random_(-(2**63), None).bitwise_and_(2**53 - 1)
    kept = bits.lt_(math.ceil((1 - rate) * 2**53))
    return kept.to(values.dtype).div_(1 - rate) * values


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` that uses the faster `dropout` where it can."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values of any shape with some set to 0 in training mode."""
        if self.training and 0 < self.p < 1 and values.device.type == "cpu" and values.is_contiguous():
            return dropout(values, self.p)
        return super().forward(values)
