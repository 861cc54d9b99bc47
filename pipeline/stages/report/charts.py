"""ROC, precision-recall and DET curves as the numbers that the page's template draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["HEIGHT", "WIDTH", "Axis", "Chart", "Line", "make_charts"]

WIDTH, HEIGHT = 320, 240
"""Of the drawing area, in the units of its coordinates."""


@dataclass(frozen=True)
class Axis:
    """An axis: its label, its range, and its ticks as (place from 0 to 1, text)."""

    label: str
    low: float
    high: float
    logarithmic: bool = False

    def place(self, values: np.ndarray) -> np.ndarray:
        """Where values lie between the ends, 0 to 1; what lies outside is put at the end."""
        low, high = self.low, self.high
        values = np.clip(values, low, high)
        if self.logarithmic:
            return np.log10(values / low) / math.log10(high / low)
        return (values - low) / (high - low)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        if self.logarithmic:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            marks = [10.0**power for power in range(first, last + 1)]
        else:
            marks = np.linspace(self.low, self.high, 5).tolist()
        return list(zip(self.place(np.array(marks)).tolist(), [f"{mark:g}" for mark in marks], strict=True))


@dataclass(frozen=True)
class Line:
    """The curve of one run: its number, its title, and the points of an SVG polyline."""

    number: int
    title: str
    points: str


@dataclass(frozen=True)
class Chart:
    """One chart; `meaning` says in a sentence what it shows and which way is better."""

    title: str
    meaning: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]


def make_charts(titles: Sequence[str], curves: Sequence[np.ndarray]) -> list[Chart]:
    """The three charts of anomaly in general, over all frames.

    Args:
        titles: of the runs.
        curves: of each run, (n, 3): true-positive rate, false-positive rate, precision; without points where undefined.
    """
    share = Axis("recall: share of anomalous frames found", 0, 1)
    alarms = "false-alarm rate: share of other frames raised"

    def chart(
        title: str, meaning: str, x: Axis, y: Axis, pick: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    ) -> Chart:
        lines = (
            Line(number, name, _points(x, y, *pick(curve.T)))
            for number, (name, curve) in enumerate(zip(titles, curves, strict=True))
            if len(curve)
        )
        return Chart(title, meaning, x, y, tuple(lines))

    return [
        chart(
            "ROC",
            "Frames found against frames falsely raised, at every threshold. Nearer to the upper left is better.",
            Axis(alarms, 0, 1),
            share,
            lambda c: (np.append(0, c[1]), np.append(0, c[0])),
        ),
        chart(
            "Precision and recall",
            "How much of what is raised is anomalous, against how much is found. Nearer to the upper right is better.",
            share,
            Axis("precision: share of raised frames that are anomalous", 0, 1),
            lambda c: (c[0], c[2]),
        ),
        chart(
            "DET",
            "Frames missed against frames falsely raised, on logarithmic axes, which show few alarms best. Lower is better.",
            Axis(alarms, 1e-4, 1, logarithmic=True),
            Axis("miss rate: share of anomalous frames missed", 1e-2, 1, logarithmic=True),
            lambda c: (c[1], 1 - c[0]),
        ),
    ]


def _points(x: Axis, y: Axis, across: np.ndarray, up: np.ndarray) -> str:
    places = zip(x.place(across) * WIDTH, (1 - y.place(up)) * HEIGHT, strict=True)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
