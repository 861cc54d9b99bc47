"""Anti-aliased shapes drawn with numpy: what the synthetic scenes and the pretraining shapes are made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["KINDS", "Colour", "Paint", "darker", "distance", "rgb", "stamp"]

KINDS = ("disc", "box", "triangle", "cross", "ring")
Colour = tuple[float, float, float]
"""RGB, 0 to 255."""
Paint = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A colour for every point: from a shape's own coordinates (u, v) in pixels to RGB (..., 3)."""


def rgb(values: np.ndarray) -> Colour:
    """The three numbers of an array as a colour."""
    red, green, blue = values.tolist()
    return red, green, blue


def darker(colour: Colour, factor: float) -> Colour:
    """A colour whose every channel is multiplied by `factor`."""
    red, green, blue = colour
    return factor * red, factor * green, factor * blue


def distance(kind: str, u: np.ndarray, v: np.ndarray, a: float | np.ndarray, b: float | np.ndarray) -> np.ndarray:
    """Signed distance to the edge of a shape: negative inside, exact only near the edge.

    Args:
        kind: one of KINDS.
        u, v: points relative to the shape's centre, pixels; broadcast together.
        a, b: half-width and half-height, pixels; numbers, or arrays that broadcast with u and v.

    Returns:
        Pixels, of the broadcast shape.

    Raises:
        ValueError: an unknown kind.
    """
    signed: np.ndarray
    less = np.minimum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else min(a, b)
    if kind == "disc":
        signed = (np.hypot(u / a, v / b) - 1) * less
    elif kind == "box":
        signed = np.maximum(np.abs(u) - a, np.abs(v) - b)
    elif kind == "triangle":
        signed = np.maximum(v - b, np.abs(u) * (b / a) * 0.9 - (v + b) * 0.45)
    elif kind == "cross":
        flat = np.maximum(np.abs(u) - a, np.abs(v) - 0.3 * b)
        upright = np.maximum(np.abs(u) - 0.3 * a, np.abs(v) - b)
        signed = np.minimum(flat, upright)
    elif kind == "ring":
        signed = np.abs(np.hypot(u / a, v / b) - 0.75) * less - 0.25 * less
    else:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    return signed


def stamp(
    canvas: np.ndarray,
    kind: str,
    x: float,
    y: float,
    a: float,
    b: float,
    colour: Colour | Paint,
    angle: float = 0.0,
    opacity: float = 1.0,
) -> None:
    """Draw one shape in place.

    Args:
        canvas: (H, W, 3) float32, 0 to 255.
        kind: one of KINDS.
        x, y: centre, pixels.
        a, b: half-width and half-height, pixels.
        colour: one for the whole shape, or a function that gives one for every point.
        angle: radians, clockwise on the picture.
        opacity: 0 to 1.
    """
    reach = float(np.hypot(a, b)) + 1
    x0, x1 = max(0, int(x - reach)), min(canvas.shape[1], int(x + reach) + 2)
    y0, y1 = max(0, int(y - reach)), min(canvas.shape[0], int(y + reach) + 2)
    if x0 >= x1 or y0 >= y1:
        return
    dx = np.arange(x0, x1, dtype=np.float32)[None, :] - np.float32(x)
    dy = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(y)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
    alpha = np.clip(0.5 - distance(kind, u, v, a, b), 0, 1)[..., None].astype(np.float32) * np.float32(opacity)
    paint = colour(u, v) if callable(colour) else np.asarray(colour, dtype=np.float32)
    patch = canvas[y0:y1, x0:x1]
    patch += alpha * (paint - patch)
