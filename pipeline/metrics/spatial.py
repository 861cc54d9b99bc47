"""Whether spatial reasoning looks at the anomaly. Needs to know where the anomaly is, so only for generated data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from pipeline.errors import DegenerateTruth
from pipeline.metrics.exact import Edge, share_of

__all__ = ["HitRate", "LocalisationMetrics", "SeenWindows", "box_coverage", "energy_shares", "hit_rate", "hits"]


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
    if not cells and not len(positions):
        raise DegenerateTruth("no window shows an anomaly inside the crop: the hit rate is not defined")
    found, chances = hits(positions, cells, count)
    return HitRate(rate=float(np.mean(found)), chance=float(np.mean(chances)), windows=len(cells))


def hits(positions: np.ndarray, cells: Sequence[Collection[int]], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of W windows is a hit, and how likely cells chosen at random would make it one: (W,) float64 each.

    The arguments and errors are those of `hit_rate`.
    """
    if len(positions) != len(cells):
        raise ValueError(f"{len(positions)} choices for {len(cells)} windows")
    found = [not set(truth).isdisjoint(chosen.tolist()) for chosen, truth in zip(positions, cells, strict=True)]
    chances = [1 - comb(count - len(set(t)), k) / comb(count, k) for t in cells for k in (positions.shape[1],)]
    return np.array(found, dtype=np.float64), np.array(chances, dtype=np.float64)


def box_coverage(
    boxes: Sequence[tuple[float, float, float, float]], height: int, width: int, rows: int, columns: int
) -> np.ndarray:
    """The share of every cell of a map that lies in a box, (rows, columns) float64.

    Args:
        boxes: x0, y0, x1, y1 in pixels of the picture; what reaches beyond the picture does not count.
        height, width: of the picture, pixels.
        rows, columns: of the map, which divide the picture.

    Examples:
        >>> box_coverage([(0, 0, 48, 32)], 64, 64, rows=2, columns=2)
        array([[1. , 0.5],
               [0. , 0. ]])
    """
    inside = np.zeros((height, width), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        left, top, right, bottom = (max(0, round(edge)) for edge in (x0, y0, x1, y1))
        inside[top:bottom, left:right] = True
    # Every pixel counts for the cell that holds its middle, so that any picture can be divided into any map.
    rows_of = ((np.arange(height) + 0.5) * rows / height).astype(int)
    columns_of = ((np.arange(width) + 0.5) * columns / width).astype(int)
    cells = rows_of[:, None] * columns + columns_of
    counts = np.bincount(cells.ravel(), minlength=rows * columns)
    covered = np.bincount(cells.ravel(), weights=inside.ravel(), minlength=rows * columns)
    return np.asarray(covered / counts).reshape(rows, columns)


def energy_shares(relations: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """The share of each relation map's energy that lies in the anomaly, (W,) float64; nan where a map has none.

    A cell's energy is its relation to the cue, or 0 where that is negative, spread evenly over its area.

    Args:
        relations: (W, cells).
        coverage: (W, cells), the share of each cell that the anomaly covers.

    Examples:
        >>> energy_shares(np.array([[0.5, 0.25, -1.0, 0.25]]), np.array([[0.5, 1.0, 1.0, 0.0]]))
        array([0.5])
    """
    energy = np.maximum(relations, 0).astype(np.float64)
    total = energy.sum(axis=1)
    return _ratio((energy * coverage).sum(axis=1), total)


@dataclass(frozen=True)
class SeenWindows:
    """What the windows of a video say in which an anomaly is seen.

    Attributes:
        hits, hit_chances: (n,) see `hits`; of the windows in whose picture the middle of an anomaly lies.
        energies: (m,) see `energy_shares`; of the windows in whose picture any of an anomaly lies.
        areas: (m,) share of the picture that the anomaly covers, which is the share of the energy of a map that is the
            same everywhere.
    """

    hits: np.ndarray
    hit_chances: np.ndarray
    energies: np.ndarray
    areas: np.ndarray


class LocalisationMetrics:
    """Localisation over all windows of some videos: of anomaly in general and of every class.

    Each name is a prefix, `anomaly/` or `class/<label>/`, and one of `METRICS`.

    Args:
        general: by video id; a video without such windows has empty arrays.
        by_class: the same by class, of the windows in which an anomaly of that class is seen.
    """

    METRICS = ("hit_rate", "hit_rate_chance", "relation_energy", "relation_energy_chance", "relation_energy_ratio")
    NEEDS = "a window that shows an anomaly inside the picture"

    def __init__(
        self, general: Mapping[str, SeenWindows], by_class: Mapping[str, Mapping[str, SeenWindows]] | None = None
    ) -> None:
        self.general, self.by_class = general, by_class or {}
        self.video_ids = sorted(general)
        self._sums = {"anomaly/": self._sums_of(general)} | {
            f"class/{label}/": self._sums_of(videos) for label, videos in self.by_class.items()
        }

    @property
    def needs(self) -> dict[str, str]:
        """Metric -> the data without which it is not defined."""
        return {f"{prefix}{name}": self.NEEDS for prefix in self._sums for name in self.METRICS}

    @property
    def edges(self) -> dict[str, Edge]:
        """What metrics with an exact interval count."""
        return {f"{prefix}hit_rate": share_of(sums[0]) for prefix, sums in self._sums.items()}

    def _sums_of(self, videos: Mapping[str, SeenWindows]) -> np.ndarray:
        """(6, V): number of windows, hits, chances; number of windows with energy, energies, areas."""
        columns = []
        for video_id in self.video_ids:
            seen = videos[video_id]
            known = ~np.isnan(seen.energies)
            hit = (len(seen.hits), seen.hits.sum(), seen.hit_chances.sum())
            columns.append((*hit, known.sum(), seen.energies[known].sum(), seen.areas[known].sum()))
        return np.array(columns, dtype=np.float64).reshape(-1, 6).T

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric, (R,) each; nan where it is not defined.

        Args:
            weights: (V, R) float64, how often each video, by sorted id, was drawn.
        """
        found: dict[str, np.ndarray] = {}
        for prefix, sums in self._sums.items():
            windows, hit, chance, seen, energy, area = sums @ weights
            values = (
                _ratio(hit, windows),
                _ratio(chance, windows),
                _ratio(energy, seen),
                _ratio(area, seen),
                _ratio(energy, area),
            )
            found |= {f"{prefix}{name}": value for name, value in zip(self.METRICS, values, strict=True)}
        return found


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    ratios: np.ndarray = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
    return ratios
