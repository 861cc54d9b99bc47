"""The things of the lessons: single shapes, rigid compounds, jointed chains, clouds, swarms and heaps.

None of them is a person, vehicle, animal or tool, and nothing that happens to them has a name: their shapes, colours,
numbers of limbs, proportions and motions are drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.synthetic.drawing import KINDS
from pipeline.data.synthetic.playground.layers import TEXTURES, Part
from pipeline.data.synthetic.playground.motions import MOTIONS, STYLES, Pose, pose, swing

__all__ = ["ATTRIBUTES", "MEETINGS", "Thing", "make_thing"]

FAMILIES = ("single", "compound", "chain", "cloud", "swarm", "heap")
SHARES = (0.22, 0.16, 0.34, 0.1, 0.1, 0.08)
HUES = np.array(
    [(205, 62, 48), (235, 150, 55), (215, 205, 90), (75, 150, 75), (65, 100, 195), (125, 80, 145), (150, 150, 150)]
    + [(228, 226, 220), (45, 45, 50), (190, 145, 115), (115, 90, 65)],
    dtype=np.float32,
)
HELD = ("rod", "block")
TILTS = tuple(f"limb{i}" for i in range(8))
"""Directions of limbs in the picture, in eighths of a turn from straight down."""
LIMBS = ("limbs1", "limbs2", "limbs3", "limbs4+")
SIZES = ("tiny", "small", "middle", "large")
CLOUDS = ("dense", "thin")
SWARMS = ("few", "many", "in rows", "scattered", "alike", "unlike")
HEAPS = ("gathers", "dissolves", "stays")
MEETINGS = ("meets", "parts", "keeps apart", "to and fro", "by jerks")
ATTRIBUTES = (
    *FAMILIES,
    *KINDS,
    *TEXTURES,
    *(f"hue{i}" for i in range(len(HUES))),
    *MOTIONS,
    *(f"limb {style}" for style in STYLES),
    *TILTS,
    *LIMBS,
    *HELD,
    *SIZES,
    *CLOUDS,
    *SWARMS,
    *HEAPS,
    *MEETINGS,
)
_INDEX = {name: i for i, name in enumerate(ATTRIBUTES)}


@dataclass(frozen=True)
class Thing:
    """What is drawn together.

    Attributes:
        parts: from the back to the front.
        attributes: (len(ATTRIBUTES),) float32, 0 to 1, which it has.
    """

    parts: tuple[Part, ...]
    attributes: np.ndarray


class _Maker:
    """Gathers the parts and attributes of one thing, placed by its pose."""

    def __init__(self, rng: np.random.Generator, at: tuple[np.ndarray, np.ndarray], moves: Pose, fresh: bool) -> None:
        self.rng, self.pose, self.fresh = rng, moves, fresh
        self.x, self.y = at[0] + moves.dx, at[1] + moves.dy
        self.parts: list[Part] = []
        self.attributes = np.zeros(len(ATTRIBUTES), dtype=np.float32)

    def note(self, *names: str) -> None:
        """It has these attributes."""
        for name in names:
            self.attributes[_INDEX[name]] = 1

    def colour(self) -> np.ndarray:
        """A random hue, noted, somewhat varied."""
        hue = int(self.rng.integers(len(HUES)))
        self.note(f"hue{hue}")
        colour: np.ndarray = np.clip(
            HUES[hue] * self.rng.uniform(0.75, 1.1) + self.rng.normal(0, 9, size=3), 5, 250
        ).astype(np.float32)
        return colour

    def add(
        self,
        kind: str,
        u: np.ndarray | float,
        v: np.ndarray | float,
        a: np.ndarray | float,
        b: np.ndarray | float,
        colour: np.ndarray,
        angle: np.ndarray | float = 0.0,
        opacity: np.ndarray | float = 1.0,
        texture: str = "plain",
        haze: bool = False,
    ) -> None:
        """Add a part at (u, v) of the thing's own coordinates."""
        moves, ones = self.pose, np.ones(len(self.x))
        cosine, sine = np.cos(moves.angle), np.sin(moves.angle)
        part = Part(
            kind,
            self.x + moves.scale * (u * cosine - v * sine),
            self.y + moves.scale * (u * sine + v * cosine),
            np.maximum(moves.scale * a, 0.4),
            np.maximum(moves.scale * b, 0.4),
            moves.angle + angle,
            colour,
            moves.gain,
            moves.opacity * opacity * ones,
            texture,
            float(self.rng.uniform(4, 11)),
            self.fresh,
            haze,
        )
        self.parts.append(part)

    def thing(self, extent: float) -> Thing:
        """What was gathered; `extent` is its half-height in pixels."""
        self.note(SIZES[int(np.searchsorted((7.0, 13.0, 22.0), extent))])
        return Thing(tuple(self.parts), self.attributes)


def make_thing(rng: np.random.Generator, at: tuple[np.ndarray, np.ndarray], times: np.ndarray) -> Thing:
    """Draw a random thing.

    Args:
        rng: source of everything random.
        at: (L + 2,) and (L + 2,), the place that its own motion is added to, pixels.
        times: (L + 2,) moments of the clip.
    """
    family = str(rng.choice(FAMILIES, p=SHARES))
    count = int(rng.choice([1, 2], p=[0.65, 0.35]))
    motions = tuple(str(name) for name in rng.choice(MOTIONS, size=count, replace=False, p=_LIKELY[family]))
    maker = _Maker(rng, at, pose(rng, motions, times), fresh=bool("flicker" in motions and rng.random() < 0.7))
    maker.note(family, *motions)
    return _MAKERS[family](maker, times)


def _single(maker: _Maker, times: np.ndarray) -> Thing:
    rng = maker.rng
    kind, texture = str(rng.choice(KINDS)), str(rng.choice(TEXTURES))
    a, b = np.exp(rng.uniform(np.log(3), np.log(30), size=2))
    b = float(np.clip(b, a / 3, 3 * a))
    maker.note(kind, texture)
    maker.add(kind, 0, 0, a, b, maker.colour(), rng.uniform(0, 2 * np.pi), texture=texture)
    return maker.thing(float(np.hypot(a, b) / 1.4))


def _compound(maker: _Maker, times: np.ndarray) -> Thing:
    """Two to five shapes that move as one."""
    rng = maker.rng
    size = float(np.exp(rng.uniform(np.log(5), np.log(16))))
    for i in range(rng.integers(2, 6)):
        kind, texture = str(rng.choice(KINDS)), str(rng.choice(TEXTURES, p=(0.7, 0.1, 0.1, 0.1)))
        a, b = size * rng.uniform(0.25, 1.2, size=2)
        u, v = (0.0, 0.0) if i == 0 else size * rng.uniform(-1.3, 1.3, size=2)
        maker.note(kind, texture)
        maker.add(kind, u, v, a, b, maker.colour(), rng.choice([0.0, rng.uniform(0, np.pi)]), texture=texture)
    return maker.thing(1.5 * size)


def _chain(maker: _Maker, times: np.ndarray) -> Thing:
    """A trunk with one to five limbs of one or two pieces, which all move in their own way or all alike.

    A limb can hold a rod or a block.
    """
    rng = maker.rng
    size = float(np.exp(rng.uniform(np.log(5), np.log(17))))  # half the length of the trunk
    lie = rng.normal(0, 0.25) if rng.random() < 0.7 else rng.uniform(-np.pi, np.pi)
    lean = lie + (0.4 * swing(rng, str(rng.choice(STYLES)), times) if rng.random() < 0.4 else 0.0) * np.ones(len(times))
    trunk, limb_colour = maker.colour(), maker.colour()
    width = size * rng.uniform(0.25, 0.7)
    count = int(rng.integers(1, 6))
    maker.note(LIMBS[min(count, 4) - 1])
    alike = str(rng.choice(STYLES)) if rng.random() < 0.6 else ""
    held_by = int(rng.integers(count)) if rng.random() < 0.5 else -1
    for number in range(count):
        end = rng.choice([-0.85, 0.85]) * size  # limbs leave from near either end of the trunk
        u, v = -np.sin(lean) * end, np.cos(lean) * end
        style = alike or str(rng.choice(STYLES))
        maker.note(f"limb {style}")
        angle = rng.uniform(-np.pi, np.pi) * rng.choice([0.25, 1.0]) + swing(rng, style, times)
        pieces, length, thick = int(rng.integers(1, 3)), size * rng.uniform(0.7, 2.0), size * rng.uniform(0.1, 0.26)
        for piece in range(pieces):
            if piece:
                angle = angle + rng.normal(0, 0.5) + (0.6 * swing(rng, style, times) if rng.random() < 0.5 else 0.0)
            u, v = _piece(maker, u, v, angle, length / pieces, thick, limb_colour)
        if number == held_by:
            _hold(maker, u, v, angle, size)
    maker.add(str(rng.choice(["box", "disc"])), 0, 0, width, size, trunk, lean)
    if rng.random() < 0.7:
        knob = size * rng.uniform(0.25, 0.5)
        far = -(size + 0.8 * knob)
        maker.add("disc", -np.sin(lean) * far, np.cos(lean) * far, knob, knob, maker.colour())
    return maker.thing(1.8 * size)


def _piece(
    maker: _Maker,
    u: np.ndarray,
    v: np.ndarray,
    angle: np.ndarray,
    length: float,
    thick: float,
    colour: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Add a straight piece that begins at (u, v); an angle of 0 is straight down. Returns its other end."""
    du, dv = np.sin(angle) * length, np.cos(angle) * length
    maker.add("box", u + du / 2, v + dv / 2, thick, length / 2, colour, -angle)
    tilts = np.round((angle - maker.pose.angle)[1:-1] / (np.pi / 4)).astype(int) % len(TILTS)
    for tilt in tilts:
        maker.attributes[_INDEX[TILTS[tilt]]] = 1
    return u + du, v + dv


def _hold(maker: _Maker, u: np.ndarray, v: np.ndarray, angle: np.ndarray, size: float) -> None:
    """Add something at the end of a limb."""
    rng = maker.rng
    if rng.random() < 0.6:
        maker.note("rod")
        turn = angle + rng.choice([0.0, np.pi / 2, -np.pi / 2])
        length = size * rng.uniform(0.4, 2.2)
        du, dv = np.sin(turn) * length, np.cos(turn) * length
        maker.add("box", u + du / 2, v + dv / 2, rng.uniform(0.6, 1.6), length / 2, maker.colour(), -turn)
    else:
        maker.note("block")
        maker.add("box", u, v, size * rng.uniform(0.2, 0.9), size * rng.uniform(0.2, 0.7), maker.colour())


def _cloud(maker: _Maker, times: np.ndarray) -> Thing:
    """Puffs that leave one after the other, drift, widen and fade."""
    rng = maker.rng
    size, count = float(np.exp(rng.uniform(np.log(1.5), np.log(9)))), int(rng.integers(3, 8))
    life, reach = rng.uniform(10, 30), rng.uniform(10, 30)
    colour, strength = np.full(3, rng.choice([70.0, 110.0, 200.0, 232.0])), float(rng.uniform(0.3, 0.9))
    maker.note(CLOUDS[int(strength < 0.55)])
    direction, wave = rng.normal(0, 0.5), rng.uniform(0, 3)
    for i in range(count):
        age = ((times + i * life / count) / life) % 1
        u = reach * age * np.sin(direction) + wave * np.sin(6 * age + i)
        radius = size * (1 + 1.3 * age)
        maker.add(
            "disc", u, -reach * age * np.cos(direction), radius, radius, colour, 0.0, strength * (1 - age), haze=True
        )
    return maker.thing(size + reach / 2)


def _swarm(maker: _Maker, times: np.ndarray) -> Thing:
    """Many small shapes, in rows or scattered, that move alike or each in its own way."""
    rng = maker.rng
    count, size = int(rng.integers(5, 15)), float(rng.uniform(1.2, 5))
    rows, alike = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    maker.note(SWARMS[int(count > 9)], "in rows" if rows else "scattered", "alike" if alike else "unlike", "plain")
    extent = size * np.sqrt(count) * rng.uniform(1.0, 2.0)
    kind, colours = str(rng.choice(KINDS)), [maker.colour() for _ in range(2)]
    maker.note(kind)
    columns = int(np.ceil(np.sqrt(count)))
    own = tuple(str(name) for name in rng.choice(("drift", "sway", "tremble", "jump"), size=1))
    common = pose(rng, own, times)
    maker.note(*own)
    for i in range(count):
        if rows:
            u, v = (2 * np.array(divmod(i, columns)) / max(1, columns - 1) - 1) * extent
        else:
            u, v = rng.normal(0, 0.6 * extent, size=2)
        moves = common if alike else pose(rng, own, times)
        maker.add(kind, u + moves.dx, v + moves.dy, size, size * rng.uniform(0.7, 1.6), colours[i % 2])
    return maker.thing(float(extent))


def _heap(maker: _Maker, times: np.ndarray) -> Thing:
    """Blots that come one after the other and stay, or go one after the other, or are all there."""
    rng = maker.rng
    count, size = int(rng.integers(5, 13)), float(rng.uniform(1.2, 4.5))
    fate = str(rng.choice(HEAPS))
    maker.note(fate, "plain")
    colours = [maker.colour() for _ in range(3)]
    span = times[-2] - times[1] + 8
    for i in range(count):
        share = np.clip((times - times[1] + 4) / span * count - i, 0, 1)
        there = {"gathers": share, "dissolves": 1 - share, "stays": np.ones(len(times))}[fate]
        u, v = rng.normal(0, 2.2 * size, size=2)
        maker.add("disc", u, v, size, size * rng.uniform(0.6, 1.0), colours[i % 3], 0.0, np.round(there))
    return maker.thing(3 * size)


def _likely(**favoured: float) -> np.ndarray:
    weights = np.array([favoured.get(name, 1.0) for name in MOTIONS])
    likely: np.ndarray = weights / weights.sum()
    return likely


_MAKERS = {
    "single": _single,
    "compound": _compound,
    "chain": _chain,
    "cloud": _cloud,
    "swarm": _swarm,
    "heap": _heap,
}
_LIKELY = {
    "single": _likely(),
    "compound": _likely(turn=2.0),
    "chain": _likely(still=5.0, drift=4.0, turn=0.5, grow=0.3, shrink=0.3, flicker=0.3, pulse=0.3),
    "cloud": _likely(still=8.0, drift=2.0),
    "swarm": _likely(still=8.0, flicker=0.5),
    "heap": _likely(still=12.0, drift=0.5),
}
