"""The strip of a rendered video: the scores over time with a line at the present frame, the events, and what is said
now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipeline.data.events import Event
from pipeline.stages.clips.text import clock, put

__all__ = ["Scores", "Strip"]

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
PAPER, GRID, INK, FAINT, ALARM = (22, 24, 28), (60, 64, 72), (240, 240, 240), (160, 164, 170), (255, 80, 80)
CURVES, MOST_LANES, LANE, EDGE = 4, 4, 6, 6
DRAWN_POINTS = 4
"""Points of a curve a pixel: the lowest and highest of each stretch are kept, so that no peak is lost."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of N frames.

    Attributes:
        classes: C names, perhaps none.
        general: (N,) in [0, 1], how anomalous a frame is.
        classwise: (N, C) in [0, 1].
    """

    classes: tuple[str, ...]
    general: np.ndarray
    classwise: np.ndarray


class Strip:
    """Drawn once but for what changes with every frame.

    Args:
        width: pixels.
        scores: of all frames.
        events: of the video.
    """

    def __init__(self, width: int, scores: Scores, events: Sequence[Event]) -> None:
        self.width, self._scores, self._events = width, scores, list(events)
        self._size = max(11, min(28, width // 42))
        self._top = self._size + 2 * EDGE
        curve = max(40, width // 10)
        lanes = list(dict.fromkeys(event.class_name for event in self._events))
        self._lanes = {name: min(number, MOST_LANES - 1) for number, name in enumerate(lanes)}
        self._bottom = self._top + curve
        rows = len(set(self._lanes.values()))
        self.height = self._bottom + EDGE + rows * (LANE + 2) + (EDGE if rows else 0)
        self.height += self.height % 2
        order: list[int] = np.argsort(-scores.classwise.max(axis=0), kind="stable").tolist() if scores.classes else []
        self._leading = order[:CURVES]
        self._colours = {scores.classes[number]: COLOURS[place] for place, number in enumerate(self._leading)}
        for name in lanes:
            self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        self._background = self._draw()

    def at(self, index: int, time_s: float) -> np.ndarray:
        """(height, width, 3) uint8: the strip when a frame is shown; frames past the scores have the last one."""
        image = self._background.copy()
        last = len(self._scores.general) - 1
        here = self._across(min(index, last))
        ImageDraw.Draw(image).line([(here, self._top), (here, self.height - 2)], fill=INK, width=2)
        room = self.width - 2 * EDGE - 5 * self._size
        put(image, (self.width - 4 * self._size, EDGE), clock(time_s), self._size, 4 * self._size, FAINT)
        now = list(dict.fromkeys(e.class_name for e in self._events if e.start_frame <= index < e.end_frame))
        text = self._said(min(index, last))
        if now:
            put(image, (EDGE, EDGE), f"ALARM {', '.join(now)} · {text}", self._size, room, ALARM)
        else:
            put(image, (EDGE, EDGE), text, self._size, room, INK)
        return np.asarray(image)

    def _said(self, index: int) -> str:
        scores = self._scores
        if not scores.classes:
            return f"score {scores.general[index]:.2f}"
        highest = int(scores.classwise[index].argmax())
        return f"{scores.classes[highest]} {scores.classwise[index, highest]:.2f} · score {scores.general[index]:.2f}"

    def _across(self, frame: float) -> int:
        last = max(1, len(self._scores.general) - 1)
        return EDGE + round((self.width - 2 * EDGE - 1) * frame / last)

    def _draw(self) -> Image.Image:
        image = Image.new("RGB", (self.width, self.height), PAPER)
        draw = ImageDraw.Draw(image)
        for level in (0.0, 0.5, 1.0):
            draw.line([(EDGE, self._up(level)), (self.width - EDGE, self._up(level))], fill=GRID)
        for number in reversed(self._leading):
            self._curve(draw, self._scores.classwise[:, number], self._colours[self._scores.classes[number]], 1)
        self._curve(draw, self._scores.general, INK, 2)
        for event in self._events:
            top = self._bottom + EDGE + self._lanes[event.class_name] * (LANE + 2)
            ends = self._across(event.start_frame), self._across(event.end_frame - 1)
            draw.rectangle(
                [ends[0], top, max(ends[1], ends[0] + 1), top + LANE - 1], fill=self._colours[event.class_name]
            )
        return image

    def _up(self, score: float) -> int:
        return round(self._bottom - 1 - (self._bottom - self._top - 2) * min(max(score, 0.0), 1.0))

    def _curve(self, draw: ImageDraw.ImageDraw, values: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
        frames = _kept(values, DRAWN_POINTS * self.width)
        draw.line([(self._across(int(i)), self._up(float(values[i]))) for i in frames], fill=colour, width=width)


def _kept(values: np.ndarray, most: int) -> np.ndarray:
    """Numbers of the values to draw, rising, about `most`: of every stretch its lowest and its highest."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 2 + 1).astype(int)
    kept = {0, len(values) - 1}
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        kept |= {start + int(values[start:end].argmin()), start + int(values[start:end].argmax())}
    return np.array(sorted(kept))
