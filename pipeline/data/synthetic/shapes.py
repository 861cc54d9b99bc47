"""Generic moving shapes: what the stand-in weights of `tpn_tiny` are trained on.

A clip shows one to five shapes on a still background. Every shape has a kind (disc, box, triangle, cross, ring), a
texture (plain, stripes, checks, grain), a hue (six) and a motion: still, drift (straight line), turn (rotation about
itself), grow (or shrink), shake (a new random offset every frame), flicker (a new brightness and grain every frame).
Labels say which of these are in the clip and in which of its cells. No scene, person, vehicle or event is among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.synthetic.drawing import KINDS, Paint, rgb, stamp

__all__ = ["ATTRIBUTES", "ShapeClip", "shape_clip"]

TEXTURES = ("plain", "stripes", "checks", "grain")
MOTIONS = ("still", "drift", "turn", "grow", "shake", "flicker")
HUES = np.array(
    [(220, 60, 40), (240, 150, 40), (220, 215, 70), (60, 170, 70), (60, 100, 210), (150, 150, 150)], dtype=np.float32
)
DARK, LIGHT = np.float32(0.45), np.float32(1.0)
ATTRIBUTES = (*KINDS, *TEXTURES, *MOTIONS, *(f"hue{i}" for i in range(len(HUES))))


@dataclass(frozen=True)
class ShapeClip:
    """A clip and its labels.

    Attributes:
        images: (L, S, S, 3) uint8.
        cells: (S / 32, S / 32, A) float32, 1 where a shape with that attribute covers a good part of the cell.
        clip: (A,) float32, 1 where the clip holds the attribute.
    """

    images: np.ndarray
    cells: np.ndarray
    clip: np.ndarray


def shape_clip(rng: np.random.Generator, frames: int = 6, size: int = 224) -> ShapeClip:
    """Draw one random clip. Its frames are 1 or 5 steps of motion apart, as in test windows and training clips.

    Args:
        rng: source of everything random.
        frames: frames of the clip, L.
        size: side of the picture, S, pixels; a multiple of 32.
    """
    step = float(rng.choice([1.0, 5.0]))
    background = _background(rng, size)
    shapes = [_Shape(rng, size) for _ in range(rng.integers(1, 6))]
    images = np.empty((frames, size, size, 3), dtype=np.uint8)
    count = size // 32
    cells = np.zeros((count, count, len(ATTRIBUTES)), dtype=np.float32)
    for index in range(frames):
        canvas = background.copy()
        time = step * (index - (frames - 1) / 2)
        for shape in shapes:
            x, y = shape.draw(canvas, time, rng)
            column, row = int(x // 32), int(y // 32)
            if 0 <= column < count and 0 <= row < count:
                cells[row, column, shape.attributes] = 1
        canvas += rng.normal(0, 3, size=(size, size, 1)).astype(np.float32)
        images[index] = np.clip(canvas, 0, 255)
    return ShapeClip(images, cells, cells.max(axis=(0, 1)))


class _Shape:
    """One shape with its motion; speeds are in pixels (or radians, or shares) per step."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        kind, texture = rng.integers(len(KINDS)), rng.integers(len(TEXTURES))
        motion, hue = rng.integers(len(MOTIONS)), rng.integers(len(HUES))
        offsets = np.cumsum([0, len(KINDS), len(TEXTURES), len(MOTIONS)])
        self.attributes = offsets + [kind, texture, motion, hue]
        self.kind, self.texture, self.motion = KINDS[kind], TEXTURES[texture], MOTIONS[motion]
        self.colour = HUES[hue] + rng.normal(0, 12, size=3).astype(np.float32)
        self.x, self.y = rng.uniform(16, size - 16, size=2)
        self.a, self.b = rng.uniform(6, 30), rng.uniform(6, 30)
        self.angle = rng.uniform(0, 2 * np.pi)
        direction, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 4.0)
        self.velocity = speed * np.cos(direction), speed * np.sin(direction)
        self.turn = rng.choice([-1, 1]) * rng.uniform(0.08, 0.3)
        self.growth = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05)
        self.shake = rng.uniform(2.0, 6.0)
        self.period = rng.uniform(6, 12)

    def draw(self, canvas: np.ndarray, time: float, rng: np.random.Generator) -> tuple[float, float]:
        """Draw the shape at a time (steps) and return its centre."""
        x, y, a, b, angle, gain = self.x, self.y, self.a, self.b, self.angle, 1.0
        if self.motion == "drift":
            x, y = x + self.velocity[0] * time, y + self.velocity[1] * time
        elif self.motion == "turn":
            angle += self.turn * time
        elif self.motion == "grow":
            factor = float(np.clip(1 + self.growth * time, 0.3, 2.0))
            a, b = a * factor, b * factor
        elif self.motion == "shake":
            x, y = x + rng.normal(0, self.shake), y + rng.normal(0, self.shake)
            angle += rng.normal(0, 0.15)
        elif self.motion == "flicker":
            gain = rng.uniform(0.55, 1.35)
        seed = int(rng.integers(1 << 31)) if self.motion == "flicker" else 7
        stamp(canvas, self.kind, x, y, a, b, self._paint(gain, seed), angle)
        return x, y

    def _paint(self, gain: float, seed: int) -> Paint:
        colour: np.ndarray
        colour, period = self.colour * np.float32(gain), np.float32(self.period)

        def paint(u: np.ndarray, v: np.ndarray) -> np.ndarray:
            brightness: np.ndarray
            if self.texture == "plain":
                return np.broadcast_to(colour, (*u.shape, 3))
            if self.texture == "grain":
                brightness = 0.5 + np.random.default_rng(seed).random(u.shape, dtype=np.float32)
            elif self.texture == "stripes":
                brightness = np.where(np.sin(u * (2 * np.pi / period)) < 0, DARK, LIGHT)
            else:  # checks
                odd = (np.floor(u / period * 2) + np.floor(v / period * 2)) % 2 == 0
                brightness = np.where(odd, DARK, LIGHT)
            painted: np.ndarray = colour * brightness[..., None]
            return painted

        return paint


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A still background: a gradient and a few large faint rectangles."""
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    tilt = ramp[:, None] * rng.normal(0, 20) + ramp[None, :] * rng.normal(0, 20)
    canvas = np.repeat((rng.uniform(60, 170) + tilt)[..., None], 3, axis=2).astype(np.float32)
    for _ in range(rng.integers(2, 7)):
        colour = rgb(rng.uniform(40, 200, size=3))
        x, y = rng.uniform(0, size, size=2)
        stamp(canvas, "box", x, y, rng.uniform(15, 90), rng.uniform(15, 90), colour, opacity=0.5)
    return canvas
