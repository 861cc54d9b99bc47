"""ROC, precision-recall and DET curves as the numbers that the page's template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["HEIGHT", "WIDTH", "Axis", "Chart", "Line", "make_charts"]

WIDTH, HEIGHT = 320, 240
"""Of the drawing area, in the units of its coordinates."""


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        label: what it shows.
        low, high: values at its ends.
        logarithmic: whether equal steps are equal factors.
    """

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
        """(place from 0 to 1, text) of each mark."""
        if self.logarithmic:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            marks = [10.0**power for power in range(first, last + 1)]
        else:
            marks = np.linspace(self.low, self.high, 5).tolist()
        return list(zip(self.place(np.array(marks)).tolist(), [f"{mark:g}" for mark in marks], strict=True))


@dataclass(frozen=True)
class Line:
    """The curve of one run.

    Attributes:
        number: of the run, from 0, by which the page colours it.
        title: of the run.
        points: of an SVG polyline, `x,y x,y ...`.
    """

    number: int
    title: str
    points: str


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        title: heading.
        meaning: a sentence on what it shows and which way is better.
        x, y: its axes.
        lines: one curve per run that has one.
    """

    title: str
    meaning: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]


def make_charts(
    titles: Sequence[str], curves: Sequence[np.ndarray], trade_offs: Sequence[np.ndarray | None]
) -> list[Chart]:
    """The three charts of anomaly in general: ROC and precision-recall of frames; DET of events, or else of frames.

    Args:
        titles: of the runs.
        curves: of each run, (n, 3): true-positive rate, false-positive rate, precision; without points where undefined.
        trade_offs: of each run, (n, 2): false alarms per hour and miss rate of events; None where not measured.
    """
    share = Axis("recall (anomalous frames found)", 0, 1)
    alarms = "false-alarm rate (other frames raised)"

    roc = [(np.append(0, c[:, 1]), np.append(0, c[:, 0])) for c in curves]
    charts = [
        _chart(
            "ROC",
            "Frames found against frames falsely raised, at every threshold. Nearer to the upper left is better.",
            (Axis(alarms, 0, 1), share),
            titles,
            [one if len(one[0]) > 1 else None for one in roc],
        ),
        _chart(
            "Precision and recall",
            "How much of what is raised is anomalous, against how much is found. Nearer to the upper right is better.",
            (share, Axis("precision (of raised frames)", 0, 1)),
            titles,
            [(c[:, 0], c[:, 2]) if len(c) else None for c in curves],
        ),
    ]
    if any(one is not None and len(one) for one in trade_offs):
        axes = Axis("false alarms per hour of normal footage", 0.1, 1000, logarithmic=True), Axis("miss rate", 0, 1)
        meaning = (
            "Annotated intervals missed against events falsely raised, as the upper threshold falls. Lower is better."
        )
        found = [(one[:, 0], one[:, 1]) if one is not None and len(one) else None for one in trade_offs]
        return [*charts, _chart("DET", meaning, axes, titles, found)]
    axes = (
        Axis(alarms, 1e-4, 1, logarithmic=True),
        Axis("miss rate (anomalous frames)", 1e-2, 1, logarithmic=True),
    )
    meaning = (
        "Frames missed against frames falsely raised, on logarithmic axes, which show few alarms best. Lower is better."
    )
    found = [(c[:, 1], 1 - c[:, 0]) if len(c) else None for c in curves]
    return [*charts, _chart("DET", meaning, axes, titles, found)]


def _chart(
    title: str,
    meaning: str,
    axes: tuple[Axis, Axis],
    titles: Sequence[str],
    curves: Sequence[tuple[np.ndarray, np.ndarray] | None],
) -> Chart:
    lines = (
        Line(number, name, _points(*axes, *curve))
        for number, (name, curve) in enumerate(zip(titles, curves, strict=True))
        if curve is not None
    )
    return Chart(title, meaning, *axes, tuple(lines))


def _points(x: Axis, y: Axis, across: np.ndarray, up: np.ndarray) -> str:
    places = zip(x.place(across) * WIDTH, (1 - y.place(up)) * HEIGHT, strict=True)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
