"""What a camera does to a lesson: a still background, light, shake, blur, block compression and noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.data.synthetic.drawing import KINDS, rgb, stamp

__all__ = ["Camera"]

MARGIN = 16
"""How far a shaking camera may turn away, pixels."""
PLACES = 250
_TILE = 256


@dataclass(frozen=True)
class Camera:
    """A camera of one clip.

    Attributes:
        shift: (L, 2) int, rows and columns by which each frame is displaced.
        light: (L, 3) float32, factors of the colours.
        noise: standard deviation, grey levels.
        blur: whether every point is the mean of 3 x 3.
        coarse: step of the block compression, grey levels; 0 for none.
    """

    shift: np.ndarray
    light: np.ndarray
    noise: float
    blur: bool
    coarse: float

    @classmethod
    def draw(cls, rng: np.random.Generator, frames: int) -> Camera:
        """A random camera: most stand still, some shake or drift, in some the light changes."""
        shift = np.zeros((frames, 2))
        kind = rng.random()
        if kind < 0.1:
            shift = rng.normal(0, rng.uniform(0.7, 2.5), size=(frames, 2))
        elif kind < 0.15:
            shift = np.arange(frames)[:, None] * rng.uniform(-2.5, 2.5, size=2)
        tint = rng.uniform(0.7, 1.12) * (1 + rng.uniform(-0.08, 0.08, size=3))
        light = np.repeat(tint[None], frames, axis=0)
        if rng.random() < 0.12:
            light *= (1 + rng.uniform(-0.3, 0.3) * np.linspace(0, 1, frames))[:, None]
        elif rng.random() < 0.05:
            light *= rng.uniform(0.8, 1.2, size=(frames, 1))
        return cls(
            np.clip(np.round(shift), -MARGIN, MARGIN).astype(int),
            light.astype(np.float32),
            float(rng.uniform(0.5, 6)),
            bool(rng.random() < 0.2),
            float(rng.choice([0.0, rng.uniform(4, 14)], p=[0.6, 0.4])),
        )

    def background(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """What it sees when nothing is there: (L, 3, size, size) float32."""
        place = _place(int(rng.integers(PLACES)), size + 4 * MARGIN)
        if rng.random() < 0.5:
            place = place[:, :, ::-1]
        row, column = rng.integers(MARGIN, 3 * MARGIN, size=2)
        seen = np.empty((len(self.shift), 3, size, size), dtype=np.float32)
        gain, lift = np.float32(rng.uniform(0.7, 1.2)), rng.normal(0, 10, size=(3, 1, 1)).astype(np.float32)
        first = place[:, row : row + size, column : column + size] * gain + lift
        for i, (down, right) in enumerate(self.shift.tolist()):
            if down or right:
                seen[i] = place[:, row + down : row + down + size, column + right : column + right + size] * gain + lift
            else:
                seen[i] = first
        return seen

    def develop(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The pictures (L, 3, S, S) float32, which it overwrites, as they leave the camera: (L, S, S, 3) uint8."""
        images *= self.light[:, :, None, None]
        if self.blur:
            images[:, :, 1:-1] = (images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]) / np.float32(3)
            images[..., 1:-1] = (images[..., :-2] + images[..., 1:-1] + images[..., 2:]) / np.float32(3)
        noise, size = np.float32(self.noise) * _noise(), images.shape[-1]
        for image, (row, column) in zip(images, rng.integers(_TILE, size=(len(images), 2)).tolist(), strict=True):
            image += noise[row : row + size, column : column + size]
        if self.coarse:
            _compress(images, np.float32(self.coarse))
        np.minimum(np.maximum(images, 0, out=images), 255, out=images)
        return np.ascontiguousarray(images.astype(np.uint8).transpose(0, 2, 3, 1))


def _compress(images: np.ndarray, step: np.float32) -> None:
    """Round what deviates from the mean of its block of 8 x 8, as strong compression does."""
    size = images.shape[-1] // 8
    blocks = images.reshape(*images.shape[:2], size, 8, size, 8)
    mean = np.repeat(blocks[:, :, :, ::2, :, ::2].mean(axis=(3, 5), keepdims=True), 8, axis=5)
    blocks -= mean
    blocks /= step
    np.rint(blocks, out=blocks)
    blocks *= step
    blocks += mean


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    tile = np.random.default_rng(6).normal(size=(_TILE, _TILE)).astype(np.float32)
    tiled: np.ndarray = np.tile(tile, (2, 2))
    return tiled


@lru_cache(maxsize=PLACES)
def _place(number: int, size: int) -> np.ndarray:
    """A background of a number, (3, size, size) uint8: a gradient, large areas, a grid, small still shapes."""
    rng = np.random.default_rng([9, number])
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    tilt = ramp[:, None] * rng.normal(0, 18) + ramp[None, :] * rng.normal(0, 18)
    canvas = (rng.uniform(60, 180) + rng.normal(0, 14, size=3) + tilt[..., None]).astype(np.float32)
    if rng.random() < 0.7:  # two areas, one above the other
        canvas[int(size * rng.uniform(0.25, 0.6)) :] += rng.normal(0, 25) + rng.normal(0, 10, size=3)
    for _ in range(rng.integers(2, 8)):
        x, y = rng.uniform(0, size, size=2)
        opacity = rng.uniform(0.3, 1.0)
        a, b = rng.uniform(8, 70, size=2)
        stamp(canvas, "box", x, y, a, b, rgb(rng.uniform(40, 210, size=3)), opacity=opacity)
    if rng.random() < 0.5:
        step, depth = int(rng.integers(12, 40)), rng.uniform(-30, 30)
        canvas[int(rng.integers(step)) :: step] += depth
        canvas[:, int(rng.integers(step)) :: step] += depth
    for _ in range(rng.integers(4, 30)):
        kind, (x, y), (a, b) = str(rng.choice(KINDS)), rng.uniform(0, size, size=2), rng.uniform(1.5, 14, size=2)
        stamp(canvas, kind, x, y, a, b, rgb(rng.uniform(30, 225, size=3)), rng.choice([0, rng.uniform(0, 3)]))
    grain = rng.normal(0, rng.uniform(0, 6), size=(size, size, 1))
    seen: np.ndarray = np.clip(canvas + grain, 0, 255).astype(np.uint8).transpose(2, 0, 1)
    return np.ascontiguousarray(seen)
