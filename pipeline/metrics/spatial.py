"""Whether spatial reasoning looks at the anomaly. Needs to know where the anomaly is, so only for synthetic data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from pipeline.errors import DegenerateTruth

__all__ = ["HitRate", "hit_rate"]


@dataclass(frozen=True)
class HitRate:
    """How often the chosen cells hold the anomaly.

    Attributes:
        rate: share of the anomalous windows whose anomaly lies in a chosen cell.
        chance: the same share for cells chosen at random.
        windows: number of windows.
    """

    rate: float
    chance: float
    windows: int


def hit_rate(positions: np.ndarray, cells: Sequence[Collection[int]], count: int) -> HitRate:
    """Hit rate of the k chosen positions.

    Args:
        positions: (W, k) integers, the chosen cells of W anomalous windows.
        cells: for each window, the cells that hold an anomaly; a window is a hit if any of them was chosen.
        count: number of cells of a map, H x W.

    Raises:
        DegenerateTruth: there is no window.
        ValueError: lengths differ.
    """
    if len(positions) != len(cells):
        raise ValueError(f"{len(positions)} choices for {len(cells)} windows")
    if not cells:
        raise DegenerateTruth("no window shows an anomaly inside the crop: the hit rate is not defined")
    k = positions.shape[1]
    hits = [not set(truth).isdisjoint(chosen.tolist()) for chosen, truth in zip(positions, cells, strict=True)]
    misses = [comb(count - len(set(truth)), k) / comb(count, k) for truth in cells]
    return HitRate(rate=float(np.mean(hits)), chance=1 - float(np.mean(misses)), windows=len(cells))
