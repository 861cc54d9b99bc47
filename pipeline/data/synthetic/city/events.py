"""What happens in the generated city: twelve anomalies, and for each a normal event that resembles it.

Both have the same place, size, colours and duration. How they differ is in docs/synthetic_city.md and with the
functions that draw them (`pipeline.data.synthetic.city.anomalies`, `pipeline.data.synthetic.city.distractors`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.data.synthetic.city import anomalies, distractors
from pipeline.data.synthetic.city.scene import Camera
from pipeline.data.synthetic.stage import Stage
from pipeline.data.synthetic.street import SIDE

__all__ = ["CITY_CLASSES", "CITY_DISTRACTORS", "SMALL", "CityEvent", "Kind", "place_event"]


@dataclass(frozen=True)
class Kind:
    """A class and its normal counterpart.

    Attributes:
        distractor: name of the normal counterpart.
        extent: how far the anomaly reaches at most, at size 1: pixels behind, above, before and below the point that it
            stands on.
        placing: `open` (anywhere on the ground), `wall` (at the wall) or `cell` (within a cell of the feature map).
        speed: how fast it moves along, pixels per frame at size 1.
    """

    distractor: str
    extent: tuple[float, float, float, float]
    placing: str = "open"
    speed: float = 0.0


CITY_CLASSES = {
    "Accident": Kind("Parking", (37, 42, 37, 16)),
    "Carrying": Kind("Trolley", (13, 53, 13, 2), speed=0.7),
    "Crowd": Kind("Queue", (46, 56, 46, 2)),
    "Explosion": Kind("Carousel", (31, 56, 31, 3)),
    "Fighting": Kind("Dancing", (22, 37, 22, 2)),
    "Graffiti": Kind("NoticeBoard", (5, 38, 23, 2), "wall"),
    "Robbery": Kind("Greeting", (17, 37, 22, 2)),
    "Shooting": Kind("Torch", (7, 36, 24, 2), "cell"),
    "Smoking": Kind("Drinking", (5, 46, 19, 2), "cell"),
    "Stealing": Kind("Handing", (15, 36, 15, 2), "cell"),
    "Sweeping": Kind("Umbrella", (9, 36, 34, 7), speed=0.3),
    "WalkingDog": Kind("Suitcase", (9, 36, 38, 2), speed=0.7),
}
CITY_DISTRACTORS = {kind.distractor: name for name, kind in CITY_CLASSES.items()}
SMALL = tuple(name for name, kind in CITY_CLASSES.items() if kind.placing != "open")
CELL, MARGIN = 32, 16
"""Side of a cell of the feature map, and how much the centre crop cuts off at each side; pixels of the canvas."""


@dataclass(frozen=True)
class CityEvent:
    """Something that happens in the frames [start, end).

    Attributes:
        name: an anomaly class or a normal counterpart.
        start, end: frames, half-open.
        x, y: the point on the ground that it stands on, half-way through; pixels of the canvas.
        size: scale.
        side: where it looks, 1 right, -1 left.
        seed: of everything random about it.
    """

    name: str
    start: int
    end: int
    x: float
    y: float
    size: float
    side: int
    seed: int

    @property
    def anomalous(self) -> bool:
        """Whether it is an anomaly."""
        return self.name in CITY_CLASSES

    @property
    def kind(self) -> Kind:
        """Its class; that of the anomaly, for a counterpart."""
        return CITY_CLASSES[CITY_DISTRACTORS.get(self.name, self.name)]

    def _x_at(self, index: int) -> float:
        return self.x + self.side * self.size * self.kind.speed * (index - (self.start + self.end) / 2)

    def box_at(self, index: int) -> tuple[float, float, float, float]:
        """The box that holds it in frame `index`: x0, y0, x1, y1 in pixels of the canvas."""
        behind, above, before, below = (self.size * pixels for pixels in self.kind.extent)
        left, right = (behind, before) if self.side > 0 else (before, behind)
        x = self._x_at(index)
        return x - left, self.y - above, x + right, self.y + below

    def draw(self, canvas: np.ndarray, index: int) -> None:
        """Draw it as it looks in frame `index`, if it happens then."""
        if self.start <= index < self.end:
            stage = Stage(
                canvas,
                x=self._x_at(index),
                y=self.y,
                size=self.size,
                side=self.side,
                t=index - self.start,
                length=self.end - self.start,
                seed=self.seed,
            )
            drawn = anomalies.DRAW if self.anomalous else distractors.DRAW
            drawn[self.name](stage)


def place_event(rng: np.random.Generator, name: str, start: int, end: int, place: Camera, left: bool) -> CityEvent:
    """Place an event at random within the centre crop.

    It lies in one half of the crop, or, if it is too wide, across both. A small one (`SMALL`) lies far back, and within
    one column of cells of the feature map.

    Args:
        rng: source of everything random.
        name: an anomaly class or a normal counterpart.
        start, end: frames, half-open.
        place: the camera's place.
        left: the half of the picture.
    """
    event = CityEvent(name, start, end, 0.0, 0.0, place.size, int(rng.choice((-1, 1))), int(rng.integers(1 << 31)))
    if event.kind.placing == "open":
        below = event.kind.extent[3] * place.size_at(SIDE)
        event = replace(event, y=float(rng.uniform(place.wall + 12, SIDE - MARGIN - 2 - below)))
        event = replace(event, size=place.size_at(event.y))
        (x0, _, x1, _), (x2, _, x3, _) = event.box_at(start), event.box_at(end)
        x0, x1 = min(x0, x2), max(x1, x3)
        low, high = (MARGIN + 1, SIDE // 2 + 8) if left else (SIDE // 2 - 8, SIDE - MARGIN - 1)
        if x1 - x0 > high - low:
            low, high = MARGIN + 1, SIDE - MARGIN - 1
        return replace(event, x=float(rng.uniform(low - x0, high - x1)))
    x0, _, x1, y1 = event.box_at(start)
    column = int(rng.integers(0, 3) if left else rng.integers(4, 7))
    x = MARGIN + CELL * column + 0.5 - x0 + rng.uniform(0, CELL - 1 - (x1 - x0))
    # The first row of cells that begins on the ground, so that feet stand before the wall.
    first = -(-(place.wall + 2 - MARGIN) // CELL)
    row = first if event.kind.placing == "wall" else int(rng.integers(first, first + 3))
    y = MARGIN + CELL * row - 0.5 - y1 - rng.uniform(0, 2)
    return replace(event, x=float(x), y=float(y))
