"""Relation maps laid over the picture, where the backbone sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.data.decoding.geometry import Fit

__all__ = ["Heat", "HeatMaps"]

SHARE = 0.45
"""Of the colour in the picture; the rest is the picture's own."""


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Maps of the windows of a video.

    Attributes:
        maps: (W, H, W') float32.
        middles: (W,) int64, the frame in the middle of each window, rising.
        fit: what the backbone saw of the picture.
    """

    maps: np.ndarray
    middles: np.ndarray
    fit: Fit


class Heat:
    """Lays the map of the nearest window over the pictures of one video. Colours span the range of all its maps.

    Args:
        heat: the maps.
        width, height: of the pictures, pixels.
    """

    def __init__(self, heat: HeatMaps, width: int, height: int) -> None:
        import matplotlib

        fit, (rows, columns) = heat.fit, heat.maps.shape[1:]
        down, across = fit.seen_cells(width, height, rows, columns)
        self._maps = heat.maps[:, down, across]
        self._colours = (255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3]).astype(np.uint8)
        self._low, self._high = (float(edge) for edge in np.percentile(self._maps, (1, 99)))
        geometry, cell = fit.geometry(width, height), (fit.width / columns, fit.height / rows)
        x0, y0 = geometry.from_picture(across.start * cell[0], down.start * cell[1])
        x1, y1 = geometry.from_picture(across.stop * cell[0], down.stop * cell[1])
        self._box = max(0, round(x0)), max(0, round(y0)), min(width, round(x1)), min(height, round(y1))
        self._part = _part(self._box, (x0, y0, x1, y1), self._maps.shape[1:])
        self._edges = (heat.middles[1:] + heat.middles[:-1]) / 2
        self._window, self._laid = -1, np.zeros((0, 0, 3))

    def over(self, image: np.ndarray, index: int) -> np.ndarray:
        """The picture of a frame with its map, (height, width, 3) uint8."""
        window = int(np.searchsorted(self._edges, index))
        left, top, right, bottom = self._box
        if window != self._window:
            level = (self._maps[window] - self._low) / max(self._high - self._low, 1e-12)
            small = Image.fromarray((255 * np.clip(level, 0, 1)).astype(np.uint8))
            large = small.resize((right - left, bottom - top), Image.Resampling.BILINEAR, self._part)
            self._window, self._laid = window, SHARE * self._colours[np.asarray(large)]
        laid = image.copy()
        part = laid[top:bottom, left:right]
        part[:] = (self._laid + (1 - SHARE) * part).astype(np.uint8)
        return laid


def _part(
    box: tuple[int, int, int, int], cells: tuple[float, float, float, float], size: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """What a box of the picture covers of a map of rows and columns that lies at `cells`: x0, y0, x1, y1 in cells."""
    down, across = size[0] / (cells[3] - cells[1]), size[1] / (cells[2] - cells[0])
    x0, x1 = ((edge - cells[0]) * across for edge in (box[0], box[2]))
    y0, y1 = ((edge - cells[1]) * down for edge in (box[1], box[3]))
    return max(0.0, x0), max(0.0, y0), min(size[1], x1), min(size[0], y1)
