"""Relation maps laid over the picture, where the backbone sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.data.decoding.geometry import crop_geometry

__all__ = ["Heat", "HeatMaps"]

SHARE = 0.45
"""Of the colour in the picture; the rest is the picture's own."""


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Maps of the windows of a video.

    Attributes:
        maps: (W, H, W') float32.
        middles: (W,) int64, the frame in the middle of each window, rising.
        short_side, crop: of the preprocessing, pixels: what the backbone saw of the picture.
    """

    maps: np.ndarray
    middles: np.ndarray
    short_side: int
    crop: int


class Heat:
    """Lays the map of the nearest window over the pictures of one video. Colours span the range of all its maps.

    Args:
        heat: the maps.
        width, height: of the pictures, pixels.
    """

    def __init__(self, heat: HeatMaps, width: int, height: int) -> None:
        import matplotlib

        self._heat = heat
        self._colours = (255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3]).astype(np.uint8)
        self._low, self._high = (float(edge) for edge in np.percentile(heat.maps, (1, 99)))
        geometry = crop_geometry(width, height, heat.short_side, heat.crop)
        left, top = (max(0, round(edge)) for edge in geometry.from_crop(0, 0))
        right, bottom = geometry.from_crop(heat.crop, heat.crop)
        self._box = left, top, min(width, round(right)), min(height, round(bottom))
        self._edges = (heat.middles[1:] + heat.middles[:-1]) / 2
        self._window, self._laid = -1, np.zeros((0, 0, 3))

    def over(self, image: np.ndarray, index: int) -> np.ndarray:
        """The picture of a frame with its map, (height, width, 3) uint8."""
        window = int(np.searchsorted(self._edges, index))
        left, top, right, bottom = self._box
        if window != self._window:
            level = (self._heat.maps[window] - self._low) / max(self._high - self._low, 1e-12)
            small = Image.fromarray((255 * np.clip(level, 0, 1)).astype(np.uint8))
            large = small.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
            self._window, self._laid = window, SHARE * self._colours[np.asarray(large)]
        laid = image.copy()
        part = laid[top:bottom, left:right]
        part[:] = (self._laid + (1 - SHARE) * part).astype(np.uint8)
        return laid
