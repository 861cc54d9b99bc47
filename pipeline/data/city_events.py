"""What happens in the generated city: twelve anomalies and, for each, a normal event that resembles it.

The two of a pair have the same place, size, colours and duration; what tells them apart is in docs/synthetic_city.md and at the
functions that draw them (`pipeline.data.city_anomalies`, `pipeline.data.city_distractors`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data import city_anomalies as anomalies
from pipeline.data import city_distractors as distractors
from pipeline.data.city_scene import Camera
from pipeline.data.scene import SIDE
from pipeline.data.staging import Stage

__all__ = ["CITY_CLASSES", "CITY_DISTRACTORS", "SMALL", "CityEvent", "Kind", "place_event"]


@dataclass(frozen=True)
class Kind:
    """A class and its normal counterpart.

    Attributes:
        distractor: the counterpart's name.
        extent: what the anomaly covers at most at size 1: pixels behind, above, before and below the point it stands on.
        placing: `open` ground, at the `wall`, or within a `cell` of the feature map.
        speed: pixels a frame of those that move along.
    """

    distractor: str
    extent: tuple[float, float, float, float]
    placing: str = "open"
    speed: float = 0.0


CITY_CLASSES = {
    "Accident": Kind("Parking", (37, 42, 37, 16)),
    "Carrying": Kind("Trolley", (13, 53, 13, 2), speed=0.7),
    "Crowd": Kind("Queue", (43, 55, 45, 2)),
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
"""Side of a cell of the feature map, and what the centre crop cuts off, pixels of the canvas."""


@dataclass(frozen=True)
class CityEvent:
    """Something that happens in [start, end): an anomaly class or a counterpart, at (x, y), between the feet, half-way."""

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
        return self.name in CITY_CLASSES

    @property
    def kind(self) -> Kind:
        return CITY_CLASSES[CITY_DISTRACTORS.get(self.name, self.name)]

    def _x_at(self, index: int) -> float:
        return self.x + self.side * self.kind.speed * (index - (self.start + self.end) / 2)

    def box_at(self, index: int) -> tuple[float, float, float, float]:
        """What it covers at most in a frame, pixels: x0, y0, x1, y1."""
        behind, above, before, below = (self.size * pixels for pixels in self.kind.extent)
        left, right = (behind, before) if self.side > 0 else (before, behind)
        x = self._x_at(index)
        return x - left, self.y - above, x + right, self.y + below

    def draw(self, canvas: np.ndarray, index: int) -> None:
        """Draw it as it looks in frame `index`, if it happens then."""
        if self.start <= index < self.end:
            stage = Stage(
                canvas, self._x_at(index), self.y, self.size, self.side, index - self.start, self.end - self.start, self.seed
            )
            (anomalies.DRAW if self.anomalous else distractors.DRAW)[self.name](stage)


def place_event(rng: np.random.Generator, name: str, start: int, end: int, place: Camera, left: bool) -> CityEvent:
    """An event somewhere in the half of the picture that survives the crop; small ones lie within a column of cells."""
    event = CityEvent(name, start, end, 0.0, 0.0, place.size, int(rng.choice((-1, 1))), int(rng.integers(1 << 31)))
    x0, y0, x1, y1 = event.box_at((start + end) // 2)
    way = event.kind.speed * (end - start) / 2
    low, high = (MARGIN + 2, SIDE // 2 + 8) if left else (SIDE // 2 - 8, SIDE - MARGIN - 2)
    if event.kind.placing == "open":
        x = rng.uniform(*sorted((low - x0 + way, high - x1 - way)))
        y = rng.uniform(max(place.wall + 12, MARGIN - y0), SIDE - MARGIN - 4 - y1)
    else:
        column = int(rng.integers(0, 3) if left else rng.integers(4, 7))
        slack = CELL - 1 - (x1 - x0)
        x = MARGIN + CELL * column + 0.5 - x0 + rng.uniform(0, slack)
        first = -(-(place.wall + 2 - MARGIN) // CELL)  # the first row of cells that ends on the ground
        row = first if event.kind.placing == "wall" else int(rng.integers(first, 8))
        y = MARGIN + CELL * row - 0.5 - y1 - rng.uniform(0, 2)
    return CityEvent(name, start, end, float(x), float(y), event.size, event.side, event.seed)
