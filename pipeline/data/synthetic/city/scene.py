"""The places of the generated city, each with its camera, and the people and vehicles that pass.

Every place has a wall at the back, down to row `wall`, and ground before it where anything may happen, so no place
belongs to a class. Places differ in kind, colours, light, furniture and noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.data.synthetic.drawing import Colour, rgb, stamp
from pipeline.data.synthetic.people import PAINT, Look, limb, person, vehicle, walking
from pipeline.data.synthetic.street import SIDE

__all__ = ["KINDS", "Camera", "camera", "city_passers"]

KINDS = ("street", "square", "park", "shops", "yard", "underpass")
ROADS = ("street", "shops", "yard")
Walker = tuple[float, Callable[[np.ndarray, int], None]]
"""The row of the feet, and a function that draws them on a canvas as in the frame of that number."""


@dataclass(frozen=True)
class Camera:
    """A fixed camera.

    Attributes:
        kind: of its place, one of KINDS.
        background: (SIDE, SIDE, 3) float32, without people.
        wall: the row where the ground begins, pixels.
        size: scale of people at the wall, see `pipeline.data.synthetic.people`.
        light: (3,) float32, factors of the three colours.
        noise: standard deviation of the noise, grey levels.
    """

    kind: str
    background: np.ndarray
    wall: int
    size: float
    light: np.ndarray
    noise: float

    def size_at(self, y: float) -> float:
        """The scale of people whose feet are at row y: the nearer, the larger."""
        return self.size * (1 + 0.6 * (y - self.wall) / (SIDE - self.wall))


def camera(seed: int, split: str, number: int) -> Camera:
    """The camera of a number. The two splits have different cameras."""
    rng = np.random.default_rng([seed, 3, ("train", "test").index(split), number])
    kind = KINDS[number % len(KINDS)]
    wall = int(rng.integers(98, 109))
    canvas = np.zeros((SIDE, SIDE, 3), dtype=np.float32)
    _back(canvas, rng, kind, wall)
    _ground(canvas, rng, kind, wall)
    _furniture(canvas, rng, wall)
    ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
    canvas *= (
        1
        + np.float32(rng.uniform(-0.12, 0.12)) * ramp[None, :, None]
        + np.float32(rng.uniform(-0.08, 0.08)) * ramp[:, None, None]
    )
    light = rng.uniform(0.72, 1.1) * (1 + rng.uniform(-0.07, 0.07, size=3))
    return Camera(
        kind, canvas, wall, float(rng.uniform(0.9, 1.0)), light.astype(np.float32), float(rng.uniform(2, 4.5))
    )


def _tone(rng: np.random.Generator, low: float, high: float, spread: float = 14.0) -> Colour:
    return rgb(rng.uniform(low, high) + rng.uniform(-spread, spread, size=3))


def _back(canvas: np.ndarray, rng: np.random.Generator, kind: str, wall: int) -> None:
    """Draw what stands behind the ground, down to row `wall`."""
    canvas[:wall] = _tone(rng, 125, 185)
    if kind in ("street", "square", "yard"):
        _houses(canvas, rng, wall)
    elif kind == "park":
        _trees(canvas, rng, wall)
    elif kind == "shops":
        _shop_windows(canvas, rng, wall)
    else:
        _tiles(canvas, rng, wall)


def _houses(canvas: np.ndarray, rng: np.random.Generator, wall: int) -> None:
    for left in range(0, SIDE, int(rng.integers(50, 80))):
        width, height = rng.uniform(22, 38), rng.uniform(35, 48)
        stamp(canvas, "box", left + width, wall - height, width, height, _tone(rng, 90, 180))
    for y in (wall - 62, wall - 36):
        for x in range(int(rng.integers(6, 16)), SIDE, int(rng.integers(22, 36))):
            stamp(canvas, "box", x, y, 5, 7, _tone(rng, 50, 110))


def _trees(canvas: np.ndarray, rng: np.random.Generator, wall: int) -> None:
    canvas[:wall] = np.array(_tone(rng, 150, 200)) + np.array((-10, 4, 18))
    for _ in range(14):
        x, y, radius = rng.uniform(0, SIDE), rng.uniform(20, wall - 12), rng.uniform(14, 30)
        green = (rng.uniform(40, 80), rng.uniform(85, 130), rng.uniform(40, 70))
        stamp(canvas, "disc", x, y, radius, radius * 0.8, green)
    canvas[wall - 24 : wall] = _tone(rng, 110, 150)  # a low wall


def _shop_windows(canvas: np.ndarray, rng: np.random.Generator, wall: int) -> None:
    canvas[:wall] = _tone(rng, 100, 160)
    for x in np.arange(rng.uniform(10, 40), SIDE, rng.integers(60, 80)):
        stamp(canvas, "box", x, wall - 18, 24, 14, _tone(rng, 150, 215))
        stamp(canvas, "box", x, wall - 40, 27, 4, PAINT[rng.integers(len(PAINT))])
        stamp(canvas, "box", x, wall - 52, 18, 5, _tone(rng, 60, 200))


def _tiles(canvas: np.ndarray, rng: np.random.Generator, wall: int) -> None:
    """The tiled wall of an underpass."""
    for x in range(0, SIDE, int(rng.integers(36, 60))):
        stamp(canvas, "box", x, wall / 2, 1.2, wall / 2, _tone(rng, 80, 110))
    stamp(canvas, "box", SIDE / 2, 20, SIDE / 2, 14, _tone(rng, 45, 80))


def _ground(canvas: np.ndarray, rng: np.random.Generator, kind: str, wall: int) -> None:
    base = np.array(_tone(rng, 105, 160, 8), dtype=np.float32)
    if kind == "park":
        base += np.array((-20, 12, -26), dtype=np.float32)
    canvas[wall:] = base
    if kind in ("square", "underpass"):
        step = int(rng.integers(18, 30))
        for y in range(wall, SIDE, step):
            canvas[y : y + 1] -= 22
        for x in range(int(rng.integers(step)), SIDE, step):
            canvas[wall:, x : x + 1] -= 14
    if kind == "park":
        top = int(rng.integers(wall + 20, 170))
        canvas[top : top + 44] = _tone(rng, 140, 175, 10)
    if kind in ROADS:
        top = int(rng.integers(wall + 18, 160))
        canvas[top:] = _tone(rng, 70, 110, 5)
        canvas[top : top + 2] = 190
        for x in range(int(rng.integers(40)), SIDE, 48):
            stamp(canvas, "box", x, (top + SIDE) / 2, 11, 1.4, (205, 205, 196))
    for _ in range(6):
        _stain(canvas, rng, wall)


def _stain(canvas: np.ndarray, rng: np.random.Generator, wall: int) -> None:
    x, y, width, height = rng.uniform(0, SIDE), rng.uniform(wall, SIDE), rng.uniform(8, 30), rng.uniform(4, 9)
    stamp(canvas, "disc", x, y, width, height, _tone(rng, 60, 150), opacity=0.3)


def _furniture(canvas: np.ndarray, rng: np.random.Generator, wall: int) -> None:
    """Draw lamps, benches, planters and bins."""
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(0, SIDE), rng.uniform(wall + 6, SIDE - 6)
        kind = rng.integers(4)
        if kind == 0:
            stamp(canvas, "box", x, y - 32, 1.4, 32, (60, 62, 64))
            stamp(canvas, "disc", x, y - 66, 4, 4, (248, 240, 200))
        elif kind == 1:
            stamp(canvas, "box", x, y - 6, 15, 1.8, (120, 84, 52))
            stamp(canvas, "box", x, y - 12, 15, 1.8, (120, 84, 52))
            for dx in (-12, 12):
                stamp(canvas, "box", x + dx, y - 3, 1.2, 4, (50, 50, 50))
        elif kind == 2:
            stamp(canvas, "box", x, y - 4, 9, 5, _tone(rng, 90, 150))
            stamp(canvas, "disc", x, y - 12, 8, 6, (60, 118, 58))
        else:
            stamp(canvas, "box", x, y - 6, 4, 7, _tone(rng, 50, 110))


def city_passers(rng: np.random.Generator, place: Camera) -> list[Walker]:
    """People and vehicles that cross the picture in a straight line.

    Returns:
        (row of the feet, drawing function) of each, from the back to the front.
    """
    found: list[Walker] = []
    for _ in range(rng.integers(1, 5)):
        found.append(_pedestrian(rng, place))
    if rng.random() < 0.35:
        found.append(_cyclist(rng, place))
    for _ in range(rng.integers(0, 3) if place.kind in ROADS else 0):
        found.append(_car(rng, place))
    return sorted(found, key=lambda walker: walker[0])


def _pedestrian(rng: np.random.Generator, place: Camera) -> Walker:
    x, y, side = rng.uniform(0, SIDE), rng.uniform(place.wall + 8, SIDE + 10), int(rng.choice((-1, 1)))
    size = place.size_at(y)
    speed, look, phase = side * size * rng.uniform(0.7, 1.5), Look.draw(rng), rng.uniform(0, 11)

    def draw(canvas: np.ndarray, t: int) -> None:
        swing = walking(t + phase)
        arms = (0.8 * swing[1], 0.8 * swing[0])
        person(canvas, (x + speed * t) % (SIDE + 40) - 20, y, size, look, side=side, legs=swing, arms=arms, lean=0.05)

    return y, draw


def _cyclist(rng: np.random.Generator, place: Camera) -> Walker:
    x, y, side = rng.uniform(0, SIDE), rng.uniform(place.wall + 20, SIDE), int(rng.choice((-1, 1)))
    s = place.size_at(y)
    speed, look, phase = side * s * rng.uniform(2.0, 3.2), Look.draw(rng), rng.uniform(0, 8)

    def draw(canvas: np.ndarray, t: int) -> None:
        at = (x + speed * t) % (SIDE + 60) - 30
        for dx in (-9, 9):
            stamp(canvas, "ring", at + dx * s, y - 6 * s, 6.5 * s, 6.5 * s, (36, 36, 40))
        limb(canvas, (at - 9 * s, y - 6 * s), np.pi / 2 + 0.5, 20 * s, 1.6 * s, (160, 60, 50), side)
        turn = 0.6 * float(np.sin(2 * np.pi * (t + phase) / 8))
        person(
            canvas,
            at - side * 3 * s,
            y - 3 * s,
            s,
            look,
            side=side,
            legs=(0.35 + turn, 0.35 - turn),
            arms=(0.9, 0.8),
            lean=0.5,
        )

    return y, draw


def _car(rng: np.random.Generator, place: Camera) -> Walker:
    x, y, side = rng.uniform(0, SIDE), rng.uniform(175, 246), int(rng.choice((-1, 1)))
    size = place.size_at(y)
    speed, paint = side * size * rng.uniform(1.6, 3.6), PAINT[int(rng.integers(len(PAINT)))]

    def draw(canvas: np.ndarray, t: int) -> None:
        vehicle(canvas, (x + speed * t) % (SIDE + 100) - 50, y - 10, size, paint, side=side)

    return y, draw
