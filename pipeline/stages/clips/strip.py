"""The strip of a rendered video: the present class, the scores over time with a line at the frame shown, and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipeline.data.events import Event
from pipeline.stages.clips.text import clock, font, line, put

__all__ = ["PAPER", "Scores", "Strip"]

COLOURS = (
    (255, 107, 107),
    (77, 171, 247),
    (255, 212, 59),
    (105, 219, 124),
    (218, 119, 242),
    (255, 169, 77),
    (56, 217, 169),
    (250, 162, 193),
)
PAPER, GRID, INK, FAINT, ALARM = (22, 24, 28), (60, 64, 72), (240, 240, 240), (170, 174, 180), (255, 80, 80)
CURVES, MOST_LANES, MOST_LEGEND_ROWS, EDGE = 4, 4, 2, 6
DRAWN_POINTS = 4
"""Points of a curve a pixel: the lowest and highest of each stretch are kept, so that no peak is lost."""
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200)


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of N frames.

    Attributes:
        classes: C names, perhaps none.
        general: (N,) in [0, 1], how anomalous a frame is.
        classwise: (N, C) in [0, 1].
        times_s: (N,) rising, when the frames are shown; None where that is not known: then by the mean frame rate.
    """

    classes: tuple[str, ...]
    general: np.ndarray
    classwise: np.ndarray
    times_s: np.ndarray | None = None


class Strip:
    """The strip of one video: a background that is drawn once, and over it what changes with every frame.

    Args:
        width: pixels.
        scores: of all frames.
        events: of the video.
        fps: mean frame rate.

    Attributes:
        width, height: of the strip, pixels; both even.
    """

    def __init__(self, width: int, scores: Scores, events: Sequence[Event], fps: float = 25.0) -> None:
        self.width, self._scores, self._events = width, scores, list(events)
        times = np.arange(len(scores.general)) / fps if scores.times_s is None else scores.times_s
        self._times_s = np.append(times, times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1 / fps))
        self._size = max(11, min(28, width // 42))
        self._small = max(10, self._size * 4 // 5)
        self._unit = max(1, self._size // 12)
        order: list[int] = np.argsort(-scores.classwise.max(axis=0), kind="stable").tolist() if scores.classes else []
        self._leading = order[:CURVES]
        self._colours = {scores.classes[number]: COLOURS[place] for place, number in enumerate(self._leading)}
        lanes = list(dict.fromkeys(event.class_name for event in self._events))
        for name in lanes:
            self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        self._legend = self._laid_out()
        self._lanes = {name: min(number, MOST_LANES - 1) for number, name in enumerate(lanes)}
        self._lane = max(6, self._size // 2)
        # From above: what is said, the legend, the curves, the axis, and the events.
        self._top = self._row(self._size) + len(self._legend) * self._row(self._small)
        self._bottom = self._top + max(40, width // 10)
        self._events_top = self._bottom + self._row(self._small)
        rows = len(set(self._lanes.values()))
        self.height = self._events_top + rows * (self._lane + 2) + (EDGE if rows else 0)
        self.height += self.height % 2
        self._background = self._draw()

    def at(self, index: int, time_s: float) -> np.ndarray:
        """The strip when a frame is shown.

        Args:
            index: number of the frame; past the last score, that score is shown.
            time_s: when it is shown, seconds.

        Returns:
            (height, width, 3) uint8 RGB.
        """
        image = self._background.copy()
        shown = min(index, len(self._scores.general) - 1)
        here = self._across(self._times_s[shown])
        ImageDraw.Draw(image).line([(here, self._top), (here, self.height - 2)], fill=INK, width=2 * self._unit)
        right = f"score {self._scores.general[shown]:.2f} · {clock(time_s, tenths=True)}"
        room = self.width - 2 * EDGE
        taken = round(font(self._size).getlength(right)) + 2
        put(image, (self.width - EDGE - taken, EDGE), right, self._size, room, INK)
        now = list(dict.fromkeys(e.class_name for e in self._events if e.start_frame <= index < e.end_frame))
        text = f"ALARM {', '.join(now)}" if now else self._said(shown)
        put(image, (EDGE, EDGE), text, self._size, room - taken - 2 * EDGE, ALARM if now else INK)
        return np.asarray(image)

    def _said(self, index: int) -> str:
        scores = self._scores
        if not scores.classes:
            return ""
        highest = int(scores.classwise[index].argmax())
        return f"{scores.classes[highest]} {scores.classwise[index, highest]:.2f}"

    def _row(self, size: int) -> int:
        """Height of a row of text with its surroundings."""
        return size + EDGE + size // 3

    def _laid_out(self) -> list[list[tuple[int, str, tuple[int, int, int]]]]:
        """The legend: in each row the place across, the text and the colour of every name."""
        entries = [("score", INK), *self._colours.items()]
        gap, room = 2 * self._small, self.width - 2 * EDGE
        rows: list[list[tuple[int, str, tuple[int, int, int]]]] = [[]]
        left = 0
        for name, colour in entries:
            text = line(name, self._small, room // 2 - gap)
            wide = round(font(self._small).getlength(text)) + gap
            if left + wide > room and rows[-1]:
                if len(rows) == MOST_LEGEND_ROWS:
                    break
                rows.append([])
                left = 0
            rows[-1].append((EDGE + left, text, colour))
            left += wide + gap // 2
        return rows

    def _across(self, time_s: float) -> int:
        return EDGE + round((self.width - 2 * EDGE - 1) * float(time_s) / max(float(self._times_s[-1]), 1e-9))

    def _draw(self) -> Image.Image:
        image = Image.new("RGB", (self.width, self.height), PAPER)
        draw = ImageDraw.Draw(image)
        self._draw_legend(image, draw)
        self._draw_axis(image, draw)
        for level in (0.0, 0.5, 1.0):
            draw.line([(EDGE, self._up(level)), (self.width - EDGE, self._up(level))], fill=GRID, width=self._unit)
        # Below the classes and wider, so that both are seen where they are the same.
        self._curve(draw, self._scores.general, INK, 2 * self._unit + 2)
        for number in reversed(self._leading):
            colour = self._colours[self._scores.classes[number]]
            self._curve(draw, self._scores.classwise[:, number], colour, 2 * self._unit)
        last = len(self._scores.general)
        for event in self._events:
            top = self._events_top + self._lanes[event.class_name] * (self._lane + 2)
            left, right = (self._across(self._times_s[min(at, last)]) for at in (event.start_frame, event.end_frame))
            draw.rectangle(
                [left, top, max(right - 1, left + 1), top + self._lane - 1], fill=self._colours[event.class_name]
            )
        return image

    def _draw_legend(self, image: Image.Image, draw: ImageDraw.ImageDraw) -> None:
        for number, entries in enumerate(self._legend):
            top = self._row(self._size) + number * self._row(self._small)
            for left, text, colour in entries:
                middle = top + self._small * 2 // 3
                draw.rectangle(
                    [left, middle - 2 * self._unit, left + self._small, middle + 2 * self._unit - 1], fill=colour
                )
                put(image, (left + self._small * 3 // 2, top), text, self._small, self.width, FAINT)

    def _draw_axis(self, image: Image.Image, draw: ImageDraw.ImageDraw) -> None:
        end_s = float(self._times_s[-1])
        tenths = end_s < STEPS_S[3] * 2
        widest = font(self._small).getlength(clock(end_s, tenths=tenths)) + 2 * self._small
        most = max(1, int((self.width - 2 * EDGE) / widest))
        steps = STEPS_S if tenths else STEPS_S[3:]
        step_s = next((step for step in steps if end_s / step <= most), end_s)
        for number in range(int(end_s / step_s) + 1):
            text, at = clock(number * step_s, tenths=tenths), self._across(number * step_s)
            draw.line([(at, self._top), (at, self._bottom + 3 * self._unit)], fill=GRID, width=self._unit)
            wide = round(font(self._small).getlength(text))
            left = min(max(EDGE, at - wide // 2), self.width - EDGE - wide)
            put(image, (left, self._bottom + EDGE // 2), text, self._small, self.width, FAINT)

    def _up(self, score: float) -> int:
        return round(self._bottom - 1 - (self._bottom - self._top - 2) * min(max(score, 0.0), 1.0))

    def _curve(self, draw: ImageDraw.ImageDraw, values: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
        frames = _kept(values, DRAWN_POINTS * self.width)
        points = [(self._across(self._times_s[i]), self._up(float(values[i]))) for i in frames]
        draw.line(points, fill=colour, width=width)


def _kept(values: np.ndarray, most: int) -> np.ndarray:
    """Numbers of the values to draw, rising, about `most`: of every stretch its lowest and its highest."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 2 + 1).astype(int)
    kept = {0, len(values) - 1}
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        kept |= {start + int(values[start:end].argmin()), start + int(values[start:end].argmax())}
    return np.array(sorted(kept))
