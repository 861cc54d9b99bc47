"""Where source pixels go: the resize and centre crop before the backbone."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CropGeometry", "crop_geometry"]


@dataclass(frozen=True)
class CropGeometry:
    """How upright source pixels map to the crop: resized to (width, height), then cut at (left, top).

    Attributes:
        width, height: of the resized picture, pixels.
        left, top: of the crop in it, pixels.
        scale_x, scale_y: from source pixels to pixels of the resized picture.
    """

    width: int
    height: int
    left: int
    top: int
    scale_x: float
    scale_y: float

    def to_crop(self, x: float, y: float) -> tuple[float, float]:
        """A point of the source picture in pixels of the crop; outside the crop it is negative or at least its side."""
        return x * self.scale_x - self.left, y * self.scale_y - self.top

    def from_crop(self, x: float, y: float) -> tuple[float, float]:
        """A point of the crop in pixels of the source picture; undoes `to_crop`."""
        return (x + self.left) / self.scale_x, (y + self.top) / self.scale_y

    def box_to_crop(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        """A box of the source picture in pixels of the crop, not clipped to it."""
        return *self.to_crop(x0, y0), *self.to_crop(x1, y1)


def crop_geometry(width: int, height: int, short_side: int, crop: int) -> CropGeometry:
    """Resize the short side to `short_side`, keeping the aspect (rounded as in mmaction2), then crop the centre.

    Args:
        width, height: of the upright source picture, pixels.
        short_side: shorter side after resizing, pixels.
        crop: side of the centre crop, pixels.

    Raises:
        ValueError: a size is below 1 or the crop is larger than the short side.
    """
    if min(width, height, short_side, crop) < 1 or crop > short_side:
        raise ValueError(f"expected a crop within the short side, got {crop} of {short_side} for {width} x {height}")
    factor = short_side / min(width, height)
    new_width, new_height = int(width * factor + 0.5), int(height * factor + 0.5)
    left, top = (new_width - crop) // 2, (new_height - crop) // 2
    return CropGeometry(new_width, new_height, left, top, new_width / width, new_height / height)
