"""The stage on which an event of the generated city is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.synthetic.drawing import Colour
from pipeline.data.synthetic.people import CLOTHES, HANGING, PAINT, STANDING, Joints, Look, person

__all__ = ["Stage"]


@dataclass(frozen=True)
class Stage:
    """One frame of one event.

    Attributes:
        canvas: (H, W, 3) float32, 0 to 255.
        x, y: the point that the event stands on, pixels.
        size: scale of people.
        side: where it looks, 1 right, -1 left.
        t: frames since it began.
        length: frames from its beginning to its end.
        seed: of everything random about it.
    """

    canvas: np.ndarray
    x: float
    y: float
    size: float
    side: int
    t: int
    length: int
    seed: int

    @property
    def lot(self) -> np.random.Generator:
        """Random numbers that are the same in every frame of the event."""
        return np.random.default_rng([self.seed, 0])

    @property
    def frame_lot(self) -> np.random.Generator:
        """Random numbers that are new in every frame."""
        return np.random.default_rng([self.seed, 1, self.t])

    def at(self, before: float, above: float = 0.0) -> tuple[float, float]:
        """The point so many pixels (at size 1) before and above the one that the event stands on."""
        return self.x + self.side * before * self.size, self.y - above * self.size

    def look(self, which: int = 0) -> Look:
        """The clothes of the event's people, by number."""
        return Look.draw(np.random.default_rng([self.seed, 2, which]))

    def paint(self, which: int = 0) -> Colour:
        """The colours of the event's vehicles and things, by number."""
        return PAINT[(int(self.lot.integers(len(PAINT))) + which) % len(PAINT)]

    def bright(self, which: int) -> Colour:
        """Strong colours, those of clothes, by number."""
        return CLOTHES[(self.seed + which) % 6]

    def wave(self, period: float, phase: float = 0.0) -> float:
        """A smooth swing between -1 and 1; period in frames."""
        return float(np.sin(2 * np.pi * (self.t / period + phase)))

    def person(
        self,
        before: float = 0.0,
        which: int = 0,
        *,
        away: bool = False,
        above: float = 0.0,
        legs: tuple[float, float] = STANDING,
        arms: tuple[float, float] = HANGING,
        lean: float = 0.0,
    ) -> Joints:
        """Draw a person.

        Args:
            before, above: where, as `at` takes them.
            which: number of the person, which decides on the clothes.
            away: looks against `side` instead of along it.
            legs, arms, lean: the pose, see `pipeline.data.synthetic.people.person`.
        """
        x, y = self.at(before, above)
        side = -self.side if away else self.side
        return person(self.canvas, x, y, self.size, self.look(which), side=side, legs=legs, arms=arms, lean=lean)
