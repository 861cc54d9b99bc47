"""Draws one part of a thing in all frames of a clip at once, and writes beside the picture what it does there.

Arrays over time have L + 2 entries: one moment before the clip's first frame and one after its last, so that every
frame has a speed and a change of speed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.synthetic.drawing import distance

__all__ = ["FACTS", "GRID", "TEXTURES", "Canvas", "Part", "draw_part"]

GRID = 4
"""Facts are kept for every fourth pixel of every fourth row."""
TEXTURES = ("plain", "stripes", "checks", "grain")
FACTS = ("covered", "right", "down", "speed", "jerk", "turn", "growth", "flicker", "fade", "haze")
"""What is known of each point: covered by a thing (0 to 1), then of the thing on top: its velocity, speed and change of
velocity, pixels a frame; its turning, radians a frame; its growth, change of brightness and of opacity, shares a frame;
whether one sees through it."""
_GRAIN = (0.5 + np.random.default_rng(5).random((128, 128))).astype(np.float32)


@dataclass(frozen=True)
class Canvas:
    """The pictures of a clip while they are drawn. Colours and facts are planes, over which numpy works faster.

    Attributes:
        images: (L, 3, S, S) float32, 0 to 255.
        facts: (L, len(FACTS), S / GRID, S / GRID) float32, in logarithmic units (`squash`) where they have a scale.
    """

    images: np.ndarray
    facts: np.ndarray

    @classmethod
    def on(cls, background: np.ndarray) -> Canvas:
        """A canvas that shows a background, (L, 3, S, S) float32, which it takes over."""
        frames, size = len(background), background.shape[-1]
        return cls(background, np.zeros((frames, len(FACTS), size // GRID, size // GRID), dtype=np.float32))


@dataclass(frozen=True)
class Part:
    """One shape over the L + 2 moments of a clip.

    Attributes:
        kind: one of `drawing.KINDS`.
        x, y: (L + 2,) its middle, pixels.
        a, b: (L + 2,) half-width and half-height, pixels.
        angle: (L + 2,) radians.
        colour: (3,) 0 to 255.
        gain: (L + 2,) factor of the colour.
        opacity: (L + 2,) 0 to 1.
        texture: one of TEXTURES.
        period: of stripes and checks, pixels.
        fresh: whether grain is new in every frame.
        haze: whether one sees through it.
    """

    kind: str
    x: np.ndarray
    y: np.ndarray
    a: np.ndarray
    b: np.ndarray
    angle: np.ndarray
    colour: np.ndarray
    gain: np.ndarray
    opacity: np.ndarray
    texture: str = "plain"
    period: float = 8.0
    fresh: bool = False
    haze: bool = False

    def facts(self) -> np.ndarray:
        """What it does in every frame: (L, len(FACTS)) float32."""
        right, down = self.x[1:] - self.x[:-1], self.y[1:] - self.y[:-1]
        length = np.hypot(right, down)
        found = np.empty((len(FACTS), len(right) - 1))
        found[0] = 1
        found[1], found[2] = (right[1:] + right[:-1]) / 2, (down[1:] + down[:-1]) / 2
        found[3] = (length[1:] + length[:-1]) / 2
        found[4] = np.hypot(right[1:] - right[:-1], down[1:] - down[:-1])
        found[1:5] = squash(found[1:5])
        found[5] = 2 * _per_frame(self.angle)
        found[6] = 2.5 * _per_frame(np.log(self.a * self.b))
        found[7] = 2 * np.abs(self.gain[2:] - self.gain[1:-1])
        found[8] = 2 * _per_frame(self.opacity)
        found[9] = self.haze
        return np.minimum(np.maximum(found.T, -3), 3).astype(np.float32)


def squash(values: np.ndarray) -> np.ndarray:
    """The logarithm of 1 + |value|, with its sign."""
    squashed: np.ndarray = np.sign(values) * np.log1p(np.abs(values))
    return squashed


def _per_frame(values: np.ndarray) -> np.ndarray:
    change: np.ndarray = (values[2:] - values[:-2]) / 2
    return change


def draw_part(canvas: Canvas, part: Part, rng: np.random.Generator) -> np.ndarray:
    """Draw a part in all frames.

    Args:
        canvas: is drawn on.
        part: what to draw.
        rng: of fresh grain.

    Returns:
        (S / GRID, S / GRID) float32, how much of each point it covers, mean over frames.
    """
    frames, size = len(canvas.images), canvas.images.shape[-1]
    shown = np.zeros(canvas.facts.shape[2:], dtype=np.float32)
    x, y, a, b, angle = (
        values[1:-1].astype(np.float32)[:, None, None] for values in (part.x, part.y, part.a, part.b, part.angle)
    )
    reach = int(np.ceil(float(_reach(part.kind, a, b).max()))) + 1
    left, top = np.floor(x).astype(int) - reach, np.floor(y).astype(int) - reach
    grid = np.arange(2 * reach + 2, dtype=np.float32)
    dx, dy = grid[None, None, :] - (x - left.astype(np.float32)), grid[None, :, None] - (y - top.astype(np.float32))
    cosine, sine = np.cos(angle), np.sin(angle)
    u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
    alpha = np.minimum(np.maximum(np.float32(0.5) - distance(part.kind, u, v, a, b), 0), 1)
    alpha *= part.opacity[1:-1, None, None].astype(np.float32)
    paint = (part.colour * part.gain[1:-1, None])[:, :, None, None].astype(np.float32)  # (L, 3, 1, 1)
    if part.texture != "plain":
        paint = paint * _brightness(part, u, v, rng)[:, None]
    facts = part.facts()[:, :, None, None]
    for i in range(frames):
        x0, y0 = int(left[i, 0, 0]), int(top[i, 0, 0])
        x1, y1 = min(size, x0 + len(grid)), min(size, y0 + len(grid))
        column, row = max(0, -x0), max(0, -y0)
        if x0 + column >= x1 or y0 + row >= y1:
            continue
        rows, columns = slice(row, y1 - y0), slice(column, x1 - x0)
        here = alpha[i, rows, columns]
        patch = canvas.images[i, :, y0 + row : y1, x0 + column : x1]
        patch += here * ((paint[i, :, rows, columns] if part.texture != "plain" else paint[i]) - patch)
        sx, sy = (GRID // 2 - x0 - column) % GRID, (GRID // 2 - y0 - row) % GRID
        coarse = here[sy::GRID, sx::GRID]
        if coarse.size:
            gx, gy = (x0 + column + sx) // GRID, (y0 + row + sy) // GRID
            points = canvas.facts[i, :, gy : gy + coarse.shape[0], gx : gx + coarse.shape[1]]
            points += coarse * (facts[i] - points)
            shown[gy : gy + coarse.shape[0], gx : gx + coarse.shape[1]] += coarse / frames
    return shown


def _reach(kind: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far a shape reaches from its middle at most."""
    reach: np.ndarray = np.maximum(a, b) if kind in ("disc", "ring") else np.hypot(a, b)
    return reach


def _brightness(part: Part, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A factor for every point of the part's own coordinates."""
    if part.texture == "stripes":
        return np.where(np.sin(u * np.float32(2 * np.pi / part.period)) < 0, np.float32(0.45), np.float32(1))
    if part.texture == "checks":
        scale = np.float32(2 / part.period)
        odd = (np.floor(u * scale) + np.floor(v * scale)) % 2 == 0
        return np.where(odd, np.float32(0.45), np.float32(1))
    start = rng.integers(128, size=(2, len(u), 1, 1)) if part.fresh else np.full((2, 1, 1, 1), int(part.period * 16))
    brightness: np.ndarray = _GRAIN[(v.astype(int) + start[0]) % 128, (u.astype(int) + start[1]) % 128]
    return brightness
