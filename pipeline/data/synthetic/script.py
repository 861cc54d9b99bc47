"""What a generated video is before it is rendered, and the plan of the fixture's videos.

Training videos are trimmed around one event; test videos are untrimmed, with an event at any time, at most a third of
their frames anomalous.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pipeline.data.synthetic.street import CLASSES, DISTRACTORS, SIDE, Event, passers, street
from pipeline.errors import ConfigError

__all__ = ["Script", "StreetScript", "SyntheticSpec", "street_scripts"]

NEAREST, FARTHEST = 50, 105
"""How far the middle of an event is from the edge of a square canvas, pixels."""
CROP = 224
"""Pixels of a canvas' width that the centre crop sees."""
REACH = 50
"""Pixels that an event reaches to either side of its middle, but for a rare piece of debris."""


@dataclass(frozen=True)
class SyntheticSpec:
    """How much of the fixture to render. The defaults are those of configs/fixture.yaml.

    Attributes:
        seed: of everything random.
        classes: the anomaly classes to show.
        train_normal: normal training videos.
        train_per_class: training videos of each class.
        test_normal, test_anomalous: test videos.
        train_frames, test_frames: (shortest, longest) length of a video, frames.
        size: height of the picture, pixels.
        fps: frames per second.
        width: of the picture, pixels; None for a square. All events of a wide one happen at its sides, where the centre
            crop does not see them.
    """

    seed: int = 0
    classes: tuple[str, ...] = CLASSES
    train_normal: int = 42
    train_per_class: int = 14
    test_normal: int = 6
    test_anomalous: int = 9
    train_frames: tuple[int, int] = (48, 80)
    test_frames: tuple[int, int] = (150, 250)
    size: int = 256
    fps: int = 12
    width: int | None = None

    @property
    def canvas_width(self) -> int:
        """Of the canvas on which the pictures are drawn, SIDE pixels high."""
        return SIDE if self.width is None else round(self.width * SIDE / self.size)

    def __post_init__(self) -> None:
        check_classes(self.classes, CLASSES)

    def plan(self) -> list[tuple[str, str, int]]:
        """(split, class or empty for a normal one, number among those of the same split and class) of every video."""
        plan = [("train", "", i) for i in range(self.train_normal)]
        plan += [("train", name, i) for name in self.classes for i in range(self.train_per_class)]
        plan += [("test", "", i) for i in range(self.test_normal)]
        plan += [("test", self.classes[i % len(self.classes)], i) for i in range(self.test_anomalous)]
        return plan

    def scripts(self) -> Iterator[Script]:
        """The videos, in the order of the plan."""
        return street_scripts(self)


def check_classes(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise ConfigError for a class that is not drawn."""
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"synthetic classes: expected some of {', '.join(known)}, got {', '.join(unknown)}")


class SceneEvent(Protocol):
    """Something that happens in the frames [start, end) of a video."""

    @property
    def name(self) -> str:
        """The anomaly class, or the name of the normal event."""

    @property
    def start(self) -> int:
        """The first frame."""

    @property
    def end(self) -> int:
        """One after the last frame."""

    @property
    def y(self) -> float:
        """The row that it stands on: what is lower in the picture is nearer, and drawn later."""

    @property
    def anomalous(self) -> bool:
        """Whether it is an anomaly."""

    def box_at(self, index: int) -> tuple[float, float, float, float]:
        """The box that holds an anomaly in frame `index`: x0, y0, x1, y1 in pixels of the canvas."""

    def draw(self, canvas: np.ndarray, index: int) -> None:
        """Draw it as it looks in frame `index`, if it happens then."""


@dataclass(frozen=True)
class Script:
    """One video before rendering; each kind of scene has a subclass that draws it.

    Attributes:
        video_id: unique name.
        split: `train` or `test`.
        n_frames: its length.
        events: what happens in it.
        seed: of everything random in it.
        source: the camera that it is shot by.
    """

    video_id: str
    split: str
    n_frames: int
    events: tuple[SceneEvent, ...]
    seed: int
    source: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The anomaly classes that it shows, sorted."""
        return tuple(sorted({e.name for e in self.events if e.anomalous}))

    def pictures(self) -> Iterator[np.ndarray]:
        """Draw its frames, (SIDE, width, 3) uint8 RGB each; the width is SIDE but for wide scenes."""
        raise NotImplementedError


@dataclass(frozen=True)
class StreetScript(Script):
    """A video of the fixture.

    Attributes:
        width: of the canvas, pixels.
    """

    width: int = SIDE

    def pictures(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng([self.seed, 2])
        background, walkers = street(rng, self.width), passers(rng, self.width)
        for index in range(self.n_frames):
            canvas = background.copy()
            for walker in walkers:
                walker(canvas, index)
            for event in self.events:
                event.draw(canvas, index)
            canvas += rng.normal(0, 3, size=(SIDE, self.width, 1)).astype(np.float32)
            yield np.clip(canvas, 0, 255).astype(np.uint8)


def street_scripts(spec: SyntheticSpec) -> Iterator[StreetScript]:
    """The fixture's videos."""
    for number, (split, name, i) in enumerate(spec.plan()):
        seed = spec.seed * 100_003 + number
        rng = np.random.default_rng([seed, 1])
        low, high = spec.train_frames if split == "train" else spec.test_frames
        frames = int(rng.integers(low, high + 1))
        events = (
            _trimmed(rng, frames, name, DISTRACTORS[spec.classes[i % len(spec.classes)]])
            if split == "train"
            else _untrimmed(rng, frames, name, spec.classes)
        )
        width = spec.canvas_width
        if width > SIDE:
            events = tuple(_at_the_sides(event, width) for event in events)
        yield StreetScript(
            f"{split}_{name or 'Normal'}_{i:03d}", split, frames, events, seed, f"camera-{seed % 1000:03d}", width
        )


def _trimmed(rng: np.random.Generator, frames: int, name: str, distractor: str) -> tuple[Event, ...]:
    """One event over 50 to 80 % of the video; half of the anomalous videos hold a distractor elsewhere as well."""
    length = max(1, int(frames * rng.uniform(0.5, 0.8)))
    start = int(rng.integers(0, frames - length + 1))
    left = bool(rng.integers(2))
    events = [_event(rng, name or distractor, start, start + length, left)]
    if name and rng.random() < 0.5:
        other = str(rng.choice(list(DISTRACTORS.values())))
        events.append(_event(rng, other, start, start + length, not left))
    return tuple(events)


def _untrimmed(rng: np.random.Generator, frames: int, name: str, classes: tuple[str, ...]) -> tuple[Event, ...]:
    """Slots of a sixth of the video each; at most two of them anomalous, the others hold a distractor."""
    slots = 6
    edges = np.linspace(0, frames, slots + 1).astype(int)
    anomalous = set(rng.choice(np.arange(1, slots), size=int(rng.integers(1, 3)), replace=False)) if name else set()
    events = []
    for slot in range(slots):
        start, end = int(edges[slot]), int(edges[slot + 1])
        if slot in anomalous:
            events.append(_event(rng, name, start, end, bool(rng.integers(2))))
        else:
            events.append(_event(rng, DISTRACTORS[str(rng.choice(classes))], start, end, bool(rng.integers(2))))
    return tuple(events)


def _event(rng: np.random.Generator, name: str, start: int, end: int, left: bool) -> Event:
    x = rng.uniform(NEAREST, FARTHEST) if left else rng.uniform(SIDE - FARTHEST, SIDE - NEAREST)
    y = rng.uniform(150, 200) if name in ("Accident", "Shunting") else rng.uniform(95, 190)
    return Event(name, start, end, float(x), float(y), int(rng.integers(1 << 31)))


def _at_the_sides(event: Event, width: int) -> Event:
    """The same event of a wide scene: in the half where it was, but beyond what the centre crop sees."""
    left = event.x < SIDE / 2
    share = ((event.x if left else SIDE - event.x) - NEAREST) / (FARTHEST - NEAREST)
    x = REACH + share * ((width - CROP) / 2 - 2 * REACH)
    return replace(event, x=x if left else width - x)
