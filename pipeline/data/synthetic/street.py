"""The generated street scene: background, who passes, and what happens; on a canvas SIDE pixels high and wide or wider.

Anomaly classes, three of the paper's twelve, drawn schematically:

- Explosion: a bright ball of grainy fire that flares irregularly, smoke above it.
- Fighting: two people at close quarters, their bodies and arms jerking at random in every frame.
- Accident: two vehicles run into each other at an angle, spin and throw debris.

Normal footage holds distractors of the same size, colours and duration, as often as anomalous footage holds anomalies:

- a striped orange wheel that turns and swells smoothly (Carousel, against Explosion),
- two people at close quarters who dance, swaying together smoothly, arms held (Dancing, against Fighting),
- two vehicles side by side that shunt to and fro, upright (Shunting, against Accident).

So an anomaly cannot be told by brightness, area, activity or the mere presence of people and vehicles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.data.synthetic.drawing import rgb, stamp

__all__ = ["CLASSES", "DISTRACTORS", "SIDE", "Event", "Walker", "passers", "street"]

SIDE = 256
CLASSES = ("Explosion", "Fighting", "Accident")
DISTRACTORS = {"Explosion": "Carousel", "Fighting": "Dancing", "Accident": "Shunting"}
EXTENTS = {"Explosion": (28, 28), "Fighting": (32, 32), "Accident": (34, 30)}
FIRE = np.array((245, 140, 50), dtype=np.float32)
CLOTHES = np.array(
    [(200, 60, 50), (60, 90, 190), (70, 150, 80), (210, 190, 80), (120, 70, 140), (60, 60, 65)], np.float32
)
Walker = Callable[[np.ndarray, int], None]
"""Draws somebody who passes on a canvas, as they are in the frame of that number."""
PAINT = np.array([(190, 50, 45), (55, 95, 175), (200, 200, 205), (60, 60, 66), (215, 180, 60)], np.float32)


@dataclass(frozen=True)
class Event:
    """Something that happens in the frames [start, end).

    Attributes:
        name: an anomaly class or a distractor.
        start, end: frames, half-open.
        x, y: its middle, pixels of the canvas.
        seed: of everything random about it.
    """

    name: str
    start: int
    end: int
    x: float
    y: float
    seed: int

    @property
    def anomalous(self) -> bool:
        """Whether it is an anomaly."""
        return self.name in CLASSES

    def box_at(self, index: int) -> tuple[float, float, float, float]:
        """The box that holds an anomaly in every frame: x0, y0, x1, y1 in pixels of the canvas."""
        half_width, half_height = EXTENTS[self.name]
        return self.x - half_width, self.y - half_height, self.x + half_width, self.y + half_height

    def draw(self, canvas: np.ndarray, index: int) -> None:
        """Draw it as it looks in frame `index`, if it happens then."""
        if self.start <= index < self.end:
            DRAW[self.name](canvas, self, index - self.start)


def street(rng: np.random.Generator, width: int = SIDE) -> np.ndarray:
    """Draw the background: houses above, a pavement, a road below; different in every video."""
    canvas = np.empty((SIDE, width, 3), dtype=np.float32)
    canvas[:] = rng.uniform(120, 170, size=3)
    for _ in range(5 * width // SIDE):
        tone = rgb(rng.uniform(80, 180) + rng.uniform(-15, 15, size=3))
        stamp(canvas, "box", rng.uniform(0, width), rng.uniform(10, 50), rng.uniform(20, 50), rng.uniform(20, 45), tone)
    for x in range(10, width, int(rng.integers(22, 34))):
        stamp(canvas, "box", x, rng.uniform(25, 55), 5, 7, rgb(rng.uniform(40, 110, size=3)))
    canvas[85:140] = rng.uniform(130, 165)
    canvas[140:] = rng.uniform(70, 105)
    for x in range(0, width, 48):
        stamp(canvas, "box", x + 10, 225, 10, 1.5, (200, 200, 190))
    return canvas


def _person(
    canvas: np.ndarray, x: float, y: float, colour: np.ndarray, lean: float = 0.0, reach: float = 0.0, size: float = 1.0
) -> None:
    """Draw a head, a body and, with `reach`, an outstretched arm; about 10 x 30 pixels at size 1."""
    stamp(canvas, "box", x, y + 4 * size, 4.5 * size, 10 * size, rgb(colour), lean)
    stamp(canvas, "disc", x + 12 * lean * size, y - 11 * size, 4 * size, 4 * size, (205, 165, 140))
    stamp(canvas, "box", x, y + 17 * size, 3.5 * size, 6 * size, (50, 50, 60), lean)
    if reach:
        stamp(canvas, "box", x + reach * 0.6, y, abs(reach) * 0.6, 2 * size, (205, 165, 140), lean * 2)


def _vehicle(canvas: np.ndarray, x: float, y: float, colour: np.ndarray, angle: float = 0.0) -> None:
    """Draw a body with a window, about 44 x 20 pixels."""
    stamp(canvas, "box", x, y, 22, 10, rgb(colour), angle)
    stamp(canvas, "box", x, y, 9, 7, (60, 75, 90), angle)


def passers(rng: np.random.Generator, width: int = SIDE) -> list[Walker]:
    """People on the pavement and vehicles on the far lane, moving straight at a constant speed."""
    people = [_pedestrian(rng, width) for _ in range(rng.integers(1, 4))]
    return people + [_car(rng, width) for _ in range(rng.integers(1, 3))]


def _pedestrian(rng: np.random.Generator, width: int) -> Walker:
    x, y, speed = rng.uniform(0, width), rng.uniform(92, 125), rng.choice([-1, 1]) * rng.uniform(0.8, 2.0)
    colour = CLOTHES[rng.integers(len(CLOTHES))]

    def draw(canvas: np.ndarray, t: int) -> None:
        _person(canvas, (x + speed * t) % (width + 40) - 20, y, colour)

    return draw


def _car(rng: np.random.Generator, width: int) -> Walker:
    x, y, speed = rng.uniform(0, width), rng.uniform(215, 240), rng.choice([-1, 1]) * rng.uniform(2.0, 5.0)
    colour = PAINT[rng.integers(len(PAINT))]

    def draw(canvas: np.ndarray, t: int) -> None:
        _vehicle(canvas, (x + speed * t) % (width + 80) - 40, y, colour)

    return draw


def _explosion(canvas: np.ndarray, event: Event, t: int) -> None:
    rng = np.random.default_rng([event.seed, t])
    size = 20 + 8 * rng.random()

    def fire(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return FIRE * (0.55 + 0.9 * rng.random(u.shape, dtype=np.float32))[..., None]

    for _ in range(3):
        dx, dy = rng.normal(0, 4, size=2)
        stamp(canvas, "disc", event.x + dx, event.y - 20 + dy, 12, 10, (90, 88, 86), opacity=0.5)
    stamp(canvas, "disc", event.x, event.y, size, size * rng.uniform(0.8, 1.1), fire)


def _carousel(canvas: np.ndarray, event: Event, t: int) -> None:
    size = 22 + 4 * np.sin(2 * np.pi * t / 20)

    def stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return FIRE * np.where(np.sin(u * (2 * np.pi / 9)) < 0, np.float32(0.55), np.float32(1.4))[..., None]

    stamp(canvas, "disc", event.x, event.y, size, size, stripes, 0.5 * t)


def _pair(event: Event) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(event.seed).choice(len(CLOTHES), size=2, replace=False)
    return CLOTHES[first], CLOTHES[second]


def _fighting(canvas: np.ndarray, event: Event, t: int) -> None:
    rng = np.random.default_rng([event.seed, t])
    for side, colour in zip((-1, 1), _pair(event), strict=True):
        dx, dy = rng.normal(0, 5, size=2)
        reach = -side * rng.uniform(12, 26)
        _person(canvas, event.x + side * 13 + dx, event.y + dy, colour, float(rng.normal(0, 0.45)), reach, 1.4)


def _dancing(canvas: np.ndarray, event: Event, t: int) -> None:
    sway, lean = 14 * np.sin(2 * np.pi * t / 7), 0.25 * np.cos(2 * np.pi * t / 7)
    for side, colour in zip((-1, 1), _pair(event), strict=True):
        _person(canvas, event.x + side * 13 + sway, event.y, colour, lean, -side * 18, 1.4)


def _two_paints(event: Event) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(event.seed).choice(len(PAINT), size=2, replace=False)
    return PAINT[first], PAINT[second]


def _accident(canvas: np.ndarray, event: Event, t: int) -> None:
    rng = np.random.default_rng(event.seed)
    spin = rng.choice([-1, 1]) * 0.2
    first, second = _two_paints(event)
    angle = float(rng.uniform(0, np.pi)) + spin * t
    _vehicle(canvas, event.x - 10 * np.cos(angle), event.y - 10 * np.sin(angle), first, angle)
    _vehicle(canvas, event.x + 10 * np.cos(angle), event.y + 10 * np.sin(angle), second, angle + 1.2)
    debris = np.random.default_rng([event.seed, t])
    for _ in range(8):
        dx, dy = debris.normal(0, 16, size=2)
        stamp(canvas, "box", event.x + dx, event.y + dy, 2, 2, (230, 225, 215), float(debris.uniform(0, 3)))


def _shunting(canvas: np.ndarray, event: Event, t: int) -> None:
    first, second = _two_paints(event)
    shift = 18 * np.sin(2 * np.pi * t / 9)
    _vehicle(canvas, event.x + shift, event.y - 12, first)
    _vehicle(canvas, event.x - shift, event.y + 12, second)


DRAW = {
    "Explosion": _explosion,
    "Fighting": _fighting,
    "Accident": _accident,
    "Carousel": _carousel,
    "Dancing": _dancing,
    "Shunting": _shunting,
}
