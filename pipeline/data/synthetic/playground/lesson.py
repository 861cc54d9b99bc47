"""A lesson: a short clip of generated things, and for every cell of the feature map what the generator knows of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.synthetic.playground.camera import Camera
from pipeline.data.synthetic.playground.layers import FACTS, GRID, Canvas, Part, draw_part, squash
from pipeline.data.synthetic.playground.things import ATTRIBUTES, MEETINGS, TILTS, Thing, make_thing

__all__ = ["ATTRIBUTES", "CELL", "VALUES", "Lesson", "draw_lesson", "draw_values", "presence"]

CELL = 32
"""Side of a cell of the feature map, pixels."""
_FINE = ("covered", "speed", "jerk")
_COARSE = tuple(name for name in FACTS if name not in _FINE)


def _at_places(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name} {row},{column}" for row in range(count) for column in range(count))


VALUES = (
    *(each for name in _FINE for each in _at_places(name, 4)),
    *(each for name in _COARSE for each in _at_places(name, 2)),
    *_at_places("brightness", 4),
    *_at_places("change", 4),
    *_at_places("contrast", 2),
    *_at_places("unrest", 2),
    *_at_places("redness", 2),
    *_at_places("blueness", 2),
    "number",
)
"""Numbers per cell, all of the order of 1. `covered` to `haze` are `layers.FACTS`, the mean over frames, at 4 x 4 or
2 x 2 places of the cell. The others describe the picture without noise: its brightness and colour in the middle of the
clip, its mean change and change of change from frame to frame, its contrast. `number` is that of the things."""


@dataclass(frozen=True)
class Lesson:
    """A clip and what is in it.

    Attributes:
        images: (L, S, S, 3) uint8.
        attributes: (S / 32, S / 32, len(ATTRIBUTES)) float32, 0 to 1: 1 where a thing that has the attribute covers a
            fifth of the cell, or a good part of the thing lies in the cell.
        values: (S / 32, S / 32, len(VALUES)) float32.
    """

    images: np.ndarray
    attributes: np.ndarray
    values: np.ndarray

    def mirrored(self) -> Lesson:
        """The same lesson with left and right exchanged."""
        return Lesson(
            np.ascontiguousarray(self.images[:, :, ::-1]),
            np.ascontiguousarray(self.attributes[:, ::-1, _MIRRORED_ATTRIBUTES]),
            self.values[:, ::-1, _MIRRORED_VALUES] * _SIGNS,
        )


def _mirrored(name: str) -> str:
    """What is called `name` in the mirror: columns are counted from the other side, limbs point the other way."""
    if name in TILTS:
        return TILTS[-TILTS.index(name) % len(TILTS)]
    what, _, place = name.rpartition(" ")
    if "," not in place:
        return name
    row, column = map(int, place.split(","))
    return f"{what} {row},{(4 if f'{what} 3,3' in VALUES else 2) - 1 - column}"


_MIRRORED_ATTRIBUTES = [ATTRIBUTES.index(_mirrored(name)) for name in ATTRIBUTES]
_MIRRORED_VALUES = [VALUES.index(_mirrored(name)) for name in VALUES]
_SIGNS = np.array([-1 if name.split(" ")[0] in ("right", "turn") else 1 for name in VALUES], dtype=np.float32)


def draw_lesson(rng: np.random.Generator, frames: int = 6, size: int = 224) -> Lesson:
    """Draw a random lesson. Its frames are 1 to 5 frames of a video apart, mostly 1 or 5, as in windows and clips.

    Args:
        rng: source of everything random.
        frames: of the clip, L.
        size: side of the picture, S, pixels; a multiple of 32.
    """
    step = float(rng.choice([1, 2, 3, 4, 5], p=[0.42, 0.06, 0.05, 0.05, 0.42]))
    times = step * (np.arange(-1, frames + 1) - (frames - 1) / 2)
    camera = Camera.draw(rng, frames)
    canvas = Canvas.on(camera.background(rng, size))
    attributes = np.zeros((size // CELL, size // CELL, len(ATTRIBUTES)), dtype=np.float32)
    number = np.zeros((size // CELL, size // CELL), dtype=np.float32)
    for thing in _things(rng, times, camera, size):
        shown = np.zeros(canvas.facts.shape[2:], dtype=np.float32)
        if rng.random() < 0.25:
            draw_part(canvas, _shadow(thing, rng), rng)
        for part in thing.parts:
            shown += draw_part(canvas, part, rng)
        present = presence(np.minimum(shown, 1))
        number += present
        np.maximum(attributes, present[..., None] * thing.attributes, out=attributes)
    if rng.random() < 0.12:
        draw_part(canvas, _passing_shade(rng, times, size), rng)
    values = draw_values(canvas, number)
    return Lesson(camera.develop(canvas.images, rng), attributes, values)


def _things(rng: np.random.Generator, times: np.ndarray, camera: Camera, size: int) -> list[Thing]:
    """Eight to fourteen things, those lower in the picture later; up to three pairs of them meet or part."""
    shift = np.pad(camera.shift, ((1, 1), (0, 0)), mode="edge")
    count, pairs = int(rng.integers(8, 15)), int(rng.integers(0, 4))
    meetings = [str(name) for name in rng.choice(MEETINGS, size=pairs)]
    places: list[tuple[np.ndarray, np.ndarray, str]] = []
    for meeting in meetings:
        middle, angle = rng.uniform(16, size - 16, size=2), rng.normal(0, 0.5)
        gap = _gap(rng, meeting, times)
        for sign in (-0.5, 0.5):
            places.append((middle[0] + sign * gap * np.cos(angle), middle[1] + sign * gap * np.sin(angle), meeting))
    while len(places) < count:
        x, y = rng.uniform(6, size - 6, size=2)
        places.append((np.full(len(times), x), np.full(len(times), y), ""))
    places.sort(key=lambda place: float(place[1].mean()))
    things = []
    for x, y, meeting in places:
        thing = make_thing(rng, (x - shift[:, 1], y - shift[:, 0]), times)
        if meeting:
            thing.attributes[ATTRIBUTES.index(meeting)] = 1
        things.append(thing)
    return things


def _gap(rng: np.random.Generator, meeting: str, times: np.ndarray) -> np.ndarray:
    """The distance of a pair at each moment, pixels."""
    gap, rate = rng.uniform(8, 45), float(np.exp(rng.uniform(np.log(0.3), np.log(3.0))))
    if meeting == "meets":
        change = -rate * times
    elif meeting == "parts":
        change = rate * times
    elif meeting == "to and fro":
        period = float(np.exp(rng.uniform(np.log(6), np.log(30))))
        change = rng.uniform(3, 12) * np.sin(2 * np.pi * times / period + rng.uniform(0, 2 * np.pi))
    elif meeting == "by jerks":
        change = rng.uniform(4, 12) * rng.uniform(-1, 1, size=len(times))
    else:  # keeps apart
        change = np.zeros(len(times))
    distance: np.ndarray = np.maximum(gap + change, 2)
    return distance


def _shadow(thing: Thing, rng: np.random.Generator) -> Part:
    """A dark flat spot below a thing."""
    part = thing.parts[0]
    wide = np.full(len(part.x), rng.uniform(4, 22))
    drop = rng.uniform(2, 22)
    still = np.zeros(len(part.x))
    colour = np.full(3, 25.0)
    return Part(
        "disc", part.x + 3, part.y + drop, wide, wide / 3, still, colour, still + 1, still + rng.uniform(0.2, 0.5)
    )


def _passing_shade(rng: np.random.Generator, times: np.ndarray, size: int) -> Part:
    """A large area that is darker or lighter and moves slowly over everything."""
    still = np.zeros(len(times))
    x, y = (rng.uniform(0, size) + rng.uniform(-2, 2) * times for _ in range(2))
    a, b = rng.uniform(20, 55, size=2)
    opacity = still + rng.uniform(0.12, 0.35)
    shade = np.full(3, rng.choice([15.0, 245.0]))
    return Part("box", x, y, still + a, still + b, still + rng.uniform(0, 3), shade, still + 1, opacity, haze=True)


def presence(shown: np.ndarray) -> np.ndarray:
    """From how much of each point a thing covers to how much it counts in each cell, 0 to 1: (S / 32, S / 32)."""
    points = CELL // GRID
    count = len(shown) // points
    in_cells = shown.reshape(count, points, count, points).sum(axis=(1, 3))
    enough = min(0.2 * points**2, 0.35 * float(in_cells.sum()))
    present: np.ndarray = np.clip(in_cells / max(enough, 0.1), 0, 1)
    return present


def draw_values(canvas: Canvas, number: np.ndarray) -> np.ndarray:
    """VALUES of every cell of a finished canvas, on which the number of things per cell is as given."""
    facts = canvas.facts.mean(axis=0)
    colours = canvas.images[..., GRID // 2 :: GRID, GRID // 2 :: GRID]
    grey = colours.mean(axis=1) / np.float32(64)
    middle = colours[len(colours) // 2] / np.float32(64)
    change = np.diff(grey, axis=0)
    unrest = np.abs(np.diff(change, axis=0)).mean(axis=0) if len(change) > 1 else np.zeros_like(grey[0])
    planes = [
        *(_places(facts[FACTS.index(name)], 4) for name in _FINE),
        *(_places(facts[FACTS.index(name)], 2) for name in _COARSE),
        _places(grey[len(grey) // 2] - 2, 4),
        _places(squash(8 * np.abs(change).mean(axis=0)), 4),
        _spread(grey[len(grey) // 2], 2),
        _places(squash(8 * unrest), 2),
        _places(middle[0] - middle[1], 2),
        _places(middle[2] - middle[1], 2),
        np.log1p(number)[..., None],
    ]
    return np.concatenate(planes, axis=-1).astype(np.float32)


def _blocks(plane: np.ndarray, count: int) -> np.ndarray:
    cells = len(plane) * GRID // CELL
    side = len(plane) // (cells * count)
    blocks: np.ndarray = plane.reshape(cells, count, side, cells, count, side)
    return blocks


def _places(plane: np.ndarray, count: int) -> np.ndarray:
    """The mean of a plane (S / GRID, S / GRID) at count x count places of every cell: (cells, cells, count ** 2)."""
    means = _blocks(plane, count).mean(axis=(2, 5))
    return means.transpose(0, 2, 1, 3).reshape(len(means), len(means), count**2)


def _spread(plane: np.ndarray, count: int) -> np.ndarray:
    """Likewise, its standard deviation."""
    spread = _blocks(plane, count).std(axis=(2, 5))
    return spread.transpose(0, 2, 1, 3).reshape(len(spread), len(spread), count**2)
