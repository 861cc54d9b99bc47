"""Where source pixels go: from a decoded picture to the one that the backbone sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

__all__ = ["PAPER_CROP", "Fit", "PictureGeometry", "centre_crop"]


@dataclass(frozen=True)
class PictureGeometry:
    """How upright source pixels map to the backbone's picture: resized to (width, height), then seen from (left, top).

    Attributes:
        width, height: of the resized source, pixels.
        left, top: of the backbone's picture in it, pixels; negative where that reaches beyond it.
        scale_x, scale_y: from source pixels to pixels of the resized source.
    """

    width: int
    height: int
    left: int
    top: int
    scale_x: float
    scale_y: float

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """A point of the source in pixels of the backbone's picture; one that is not in it is outside its sides."""
        return x * self.scale_x - self.left, y * self.scale_y - self.top

    def from_picture(self, x: float, y: float) -> tuple[float, float]:
        """A point of the backbone's picture in pixels of the source; undoes `to_picture`."""
        return (x + self.left) / self.scale_x, (y + self.top) / self.scale_y

    def box_to_picture(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        """A box of the source in pixels of the backbone's picture, not clipped to it."""
        return *self.to_picture(x0, y0), *self.to_picture(x1, y1)


@dataclass(frozen=True)
class Fit:
    """What the backbone sees of a source, and at what size.

    Attributes:
        kind: `crop`, the centre of the source once its shorter side is `short_side`; `stretch`, all of it, whatever
            becomes of its aspect; or `letterbox`, all of it with its own aspect, in the middle.
        height, width: of the backbone's picture, pixels.
        short_side: of the resized source before a crop, pixels.
        colour: RGB of the padding of a letterbox.

    Raises:
        ValueError: a size is below 1, or the crop is larger than the short side.
    """

    kind: Literal["crop", "stretch", "letterbox"] = "crop"
    height: int = 224
    width: int = 224
    short_side: int = 256
    colour: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.short_side) < 1:
            raise ValueError(f"expected sizes of at least 1 pixel, got {self}")
        if self.kind == "crop" and max(self.height, self.width) > self.short_side:
            crop = max(self.height, self.width)
            raise ValueError(f"crop: expected at most the short side of {self.short_side} pixels, got {crop}")

    def geometry(self, width: int, height: int) -> PictureGeometry:
        """Where the pixels of an upright source go; its sizes are rounded as in mmaction2 for a crop.

        The padding of a letterbox is as wide on either side, so that a mirrored picture has the same.

        Raises:
            ValueError: a size is below 1.
        """
        if min(width, height) < 1:
            raise ValueError(f"expected a picture of at least 1 x 1 pixels, got {width} x {height}")
        if self.kind == "crop":
            factor = self.short_side / min(width, height)
            new_width, new_height = int(width * factor + 0.5), int(height * factor + 0.5)
        elif self.kind == "stretch":
            new_width, new_height = self.width, self.height
        else:
            factor = min(self.width / width, self.height / height)
            new_width, new_height = _alike(width * factor, self.width), _alike(height * factor, self.height)
        left, top = (new_width - self.width) // 2, (new_height - self.height) // 2
        return PictureGeometry(new_width, new_height, left, top, new_width / width, new_height / height)

    def within(self, outer: PictureGeometry, width: int, height: int) -> PictureGeometry:
        """Where the pixels of a source go that is to keep inside the place of another one, `outer`, of this fit."""
        inner = replace(self, width=outer.width, height=outer.height).geometry(width, height)
        return replace(inner, left=inner.left + outer.left, top=inner.top + outer.top)

    def seen_cells(self, width: int, height: int, rows: int, columns: int) -> tuple[slice, slice]:
        """The rows and columns of a map of the backbone's picture that show something of the source, not padding."""
        place = self.geometry(width, height)
        return _touched(rows, self.height, -place.top, place.height), _touched(
            columns, self.width, -place.left, place.width
        )

    def empty_cells(self, width: int, height: int, rows: int, columns: int) -> np.ndarray:
        """Which cells of such a map show padding alone: (rows, columns) bool."""
        empty = np.ones((rows, columns), dtype=bool)
        empty[self.seen_cells(width, height, rows, columns)] = False
        return empty


def centre_crop(crop: int, short_side: int) -> Fit:
    """A square of the centre, `crop` pixels of the `short_side` that the shorter side then has."""
    return Fit("crop", crop, crop, short_side)


PAPER_CROP = centre_crop(224, 256)


def _alike(pixels: float, room: int) -> int:
    """The length nearest to `pixels` that leaves the same padding on both sides of a room."""
    return min(room, max(2 - room % 2, room % 2 + 2 * round((pixels - room % 2) / 2)))


def _touched(cells: int, room: int, first: int, length: int) -> slice:
    """Which of some cells that divide a room hold some of the `length` pixels from `first` on."""
    edges = np.arange(cells + 1) * (room / cells)
    touched = np.flatnonzero((edges[1:] > first) & (edges[:-1] < first + length))
    return slice(int(touched[0]), int(touched[-1]) + 1)
