"""Jointed people, animals, vehicles and things of the generated city, drawn side on with a few shapes each.

Lengths are pixels at size 1, at which a person is about 36 tall. Angles of limbs are radians from straight down,
positive towards `side`, the direction in which somebody looks (1 right, -1 left).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.synthetic.drawing import Colour, darker, stamp

__all__ = ["CLOTHES", "PAINT", "Joints", "Look", "bag", "cart", "dog", "limb", "person", "puff", "vehicle", "walking"]

Point = tuple[float, float]

CLOTHES: tuple[Colour, ...] = (
    (190, 62, 54),
    (62, 92, 188),
    (72, 148, 84),
    (208, 186, 84),
    (122, 74, 142),
    (66, 66, 72),
    (214, 208, 198),
    (202, 120, 60),
)
TROUSERS: tuple[Colour, ...] = ((48, 48, 58), (70, 76, 104), (96, 84, 70), (38, 58, 52))
SKIN: tuple[Colour, ...] = ((222, 180, 152), (186, 140, 110), (128, 90, 68))
PAINT: tuple[Colour, ...] = (
    (188, 52, 46),
    (54, 94, 174),
    (202, 202, 206),
    (62, 62, 68),
    (214, 180, 62),
    (88, 140, 118),
)
LEG, TORSO, ARM, HEAD = 14.0, 12.0, 12.0, 4.0
STANDING, HANGING = (0.12, -0.12), (0.1, -0.1)
"""Angles of the near and the far leg of somebody who stands, and of arms that hang down."""


@dataclass(frozen=True)
class Look:
    """How a person is dressed."""

    shirt: Colour
    trousers: Colour
    skin: Colour

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """Choose colours at random."""

        def one_of(colours: tuple[Colour, ...]) -> Colour:
            return colours[int(rng.integers(len(colours)))]

        return cls(shirt=one_of(CLOTHES), trousers=one_of(TROUSERS), skin=one_of(SKIN))


@dataclass(frozen=True)
class Joints:
    """Where the head and the near hand of a drawn person are, in pixels of the canvas."""

    head: Point
    near_hand: Point


def limb(
    canvas: np.ndarray, start: Point, angle: float, length: float, width: float, colour: Colour, side: int = 1
) -> Point:
    """Draw a straight piece from `start` at an angle; returns its other end."""
    middle, end = _along(start, angle, length / 2, side), _along(start, angle, length, side)
    stamp(canvas, "box", *middle, width / 2, length / 2, colour, -side * angle)
    return end


def _along(start: Point, angle: float, length: float, side: int) -> Point:
    return start[0] + side * float(np.sin(angle)) * length, start[1] + float(np.cos(angle)) * length


def walking(t: float, period: float = 11.0) -> tuple[float, float]:
    """Angles of the near and the far leg of somebody who walks, at frame `t`; `period` is in frames."""
    swing = 0.5 * float(np.sin(2 * np.pi * t / period))
    return swing, -swing


def person(
    canvas: np.ndarray,
    x: float,
    y: float,
    size: float,
    look: Look,
    *,
    side: int = 1,
    legs: tuple[float, float] = STANDING,
    arms: tuple[float, float] = HANGING,
    lean: float = 0.0,
) -> Joints:
    """Draw a person with the feet at (x, y).

    Args:
        canvas: (H, W, 3) float32.
        x, y: between the feet, pixels.
        size: scale.
        look: colours.
        side: where the person looks, 1 right, -1 left.
        legs, arms: angles of the near and the far one; pi is straight up.
        lean: angle by which the trunk leans forwards.
    """
    hip = (x, y - LEG * size)
    for angle in legs:
        limb(canvas, hip, angle, LEG * size, 3.6 * size, look.trousers, side)
    neck = limb(canvas, hip, np.pi - lean, TORSO * size, 7.5 * size, look.shirt, side)
    shoulder = _along(hip, np.pi - lean, 0.85 * TORSO * size, side)
    sleeve = darker(look.shirt, 0.8)
    hands = []
    for angle in arms:
        elbow = limb(canvas, shoulder, angle, 0.5 * ARM * size, 3.0 * size, sleeve, side)
        hands.append(limb(canvas, elbow, angle, 0.5 * ARM * size, 2.8 * size, look.skin, side))
    head = (neck[0] + side * np.sin(lean) * HEAD * size, neck[1] - np.cos(lean) * 1.1 * HEAD * size)
    stamp(canvas, "disc", head[0], head[1], HEAD * size, 1.1 * HEAD * size, look.skin)
    return Joints(head, hands[0])


def vehicle(
    canvas: np.ndarray, x: float, y: float, size: float, colour: Colour, *, side: int = 1, angle: float = 0.0
) -> None:
    """Draw a car from its side, about 44 x 22, its middle at (x, y), turned by `angle`."""
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))

    def part(kind: str, u: float, v: float, a: float, b: float, shade: Colour) -> None:
        u, v, a, b = side * u * size, v * size, a * size, b * size
        stamp(canvas, kind, x + u * cosine - v * sine, y + u * sine + v * cosine, a, b, shade, angle)

    part("box", -2, -6, 11, 5, colour)
    part("box", -2, -6, 9, 3.4, (150, 172, 186))
    part("box", 0, 2, 22, 5, colour)
    for u in (-12, 12):
        part("disc", u, 7, 4.5, 4.5, (28, 28, 30))
        part("disc", u, 7, 2, 2, (150, 150, 150))
    part("box", 20.5, 1, 1.5, 2, (250, 240, 190))


def cart(canvas: np.ndarray, x: float, y: float, size: float, colour: Colour, wheels: bool) -> None:
    """Draw a crate of 22 x 14 with its lower edge at y, with or without wheels."""
    stamp(canvas, "box", x, y - 7 * size, 11 * size, 7 * size, colour)
    for dx in (-5.5, 5.5):
        stamp(canvas, "box", x + dx * size, y - 7 * size, 0.8 * size, 7 * size, darker(colour, 0.6))
    if wheels:
        for dx in (-8, 8):
            stamp(canvas, "disc", x + dx * size, y + 1.5 * size, 2.6 * size, 2.6 * size, (30, 30, 32))


def bag(canvas: np.ndarray, x: float, y: float, size: float, colour: Colour) -> None:
    """Draw a handbag that hangs from (x, y)."""
    stamp(canvas, "ring", x, y + 1.5 * size, 2.6 * size, 2.6 * size, (40, 34, 30))
    stamp(canvas, "box", x, y + 5 * size, 4 * size, 3.2 * size, colour)


def dog(canvas: np.ndarray, x: float, y: float, size: float, colour: Colour, t: float, side: int) -> Point:
    """Draw a trotting dog with its feet at (x, y); returns where its collar is."""
    swing = 0.7 * float(np.sin(2 * np.pi * t / 5))
    for dx, angle in ((-5, swing), (-4, -swing), (5, -swing), (4, swing)):
        limb(canvas, (x + side * dx * size, y - 6 * size), angle, 6 * size, 1.8 * size, darker(colour, 0.7), side)
    stamp(canvas, "box", x, y - 7.5 * size, 7 * size, 2.8 * size, colour)
    limb(canvas, (x - side * 6.5 * size, y - 9 * size), 2.4 + 0.5 * swing, 6 * size, 1.6 * size, colour, -side)
    stamp(canvas, "disc", x + side * 8.5 * size, y - 11 * size, 3.4 * size, 3 * size, colour)
    stamp(canvas, "box", x + side * 11.5 * size, y - 10 * size, 1.8 * size, 1.3 * size, darker(colour, 0.7))
    return x + side * 6 * size, y - 10 * size


def puff(canvas: np.ndarray, x: float, y: float, radius: float, opacity: float, shade: float = 205.0) -> None:
    """Draw a cloud of smoke or dust."""
    stamp(canvas, "disc", x, y, radius, radius * 0.85, (shade, shade, shade * 0.98), opacity=opacity)
