"""The plan of the generated city's videos: which camera sees what, when and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.data.synthetic.city.events import CITY_CLASSES, CityEvent, place_event
from pipeline.data.synthetic.city.scene import Camera, camera, city_passers
from pipeline.data.synthetic.script import Script, SyntheticSpec, check_classes
from pipeline.data.synthetic.street import SIDE

__all__ = ["CitySpec", "CityScript"]

GROUPS = 4
SLOTS = 8
cached_camera = lru_cache(maxsize=64)(camera)


@dataclass(frozen=True)
class CitySpec(SyntheticSpec):
    """How much of the city to render. The defaults are those of configs/synthetic_city.yaml.

    Every training camera sees as many normal as anomalous videos, so the place does not tell an anomaly. The cameras
    form `GROUPS` groups, each of which sees the anomalies of its own classes. All cameras of a group thus have the same
    labels, so that a validation split can be carved from them.

    Attributes:
        train_cameras, test_cameras: number of cameras of each split.
        others: as in SyntheticSpec.
    """

    classes: tuple[str, ...] = tuple(CITY_CLASSES)
    train_normal: int = 120
    train_per_class: int = 10
    test_normal: int = 12
    test_anomalous: int = 36
    train_frames: tuple[int, int] = (72, 112)
    test_frames: tuple[int, int] = (240, 480)
    train_cameras: int = 40
    test_cameras: int = 12

    def __post_init__(self) -> None:
        check_classes(self.classes, tuple(CITY_CLASSES))

    def scripts(self) -> Iterator[Script]:
        for number, (split, name, i) in enumerate(self.plan()):
            seed = self.seed * 100_003 + number
            rng = np.random.default_rng([seed, 4])
            low, high = self.train_frames if split == "train" else self.test_frames
            frames = int(rng.integers(low, high + 1))
            shot_by = self._camera(split, name, i)
            place = cached_camera(self.seed, split, shot_by)
            if split == "train":
                events = _trimmed(rng, frames, name or self._counterpart(i), place)
            else:
                events = _untrimmed(rng, frames, self._anomalies(rng, name, i), self.classes, place)
            video_id = f"{split}_{name or 'Normal'}_{i:03d}"
            source = f"{split}-camera-{shot_by:02d}"
            yield CityScript(video_id, split, frames, events, seed, source, city=self.seed, shot_by=shot_by)

    def _counterpart(self, i: int) -> str:
        return CITY_CLASSES[self.classes[i % len(self.classes)]].distractor

    def _camera(self, split: str, name: str, i: int) -> int:
        """The camera of the i-th video of a class, or of the normal ones."""
        if not name:
            return i % (self.train_cameras if split == "train" else self.test_cameras)
        number = self.classes.index(name)
        if split == "test":
            return (i + i // len(self.classes)) % self.test_cameras
        group = number % GROUPS if self.train_cameras >= GROUPS else 0
        step = GROUPS if self.train_cameras >= GROUPS else 1
        members = range(group, self.train_cameras, step)
        return members[i % len(members)]

    def _anomalies(self, rng: np.random.Generator, name: str, i: int) -> list[str]:
        """The anomalies of a test video: none, one or two of its class, or, in every third, one each of two classes."""
        if not name:
            return []
        others = [other for other in self.classes if other != name]
        if others and (i + i // len(self.classes)) % 3 == 2:
            return [name, str(rng.choice(others))]
        return [name] * int(rng.integers(1, 3))


@dataclass(frozen=True)
class CityScript(Script):
    """A video of the city.

    Attributes:
        city: seed of the cameras.
        shot_by: number of its camera among those of its split.
    """

    city: int
    shot_by: int

    def pictures(self) -> Iterator[np.ndarray]:
        place: Camera = cached_camera(self.city, self.split, self.shot_by)
        rng = np.random.default_rng([self.seed, 5])
        light = place.light * np.float32(rng.uniform(0.92, 1.08))  # the hour of the day
        walkers = city_passers(rng, place)
        events = sorted(self.events, key=lambda event: event.y)
        for index in range(self.n_frames):
            canvas = place.background.copy()
            for _, walk in walkers:
                walk(canvas, index)
            for event in events:
                event.draw(canvas, index)
            canvas *= light
            canvas += rng.normal(0, place.noise, size=(SIDE, SIDE, 1)).astype(np.float32)
            yield np.clip(canvas, 0, 255).astype(np.uint8)


def _trimmed(rng: np.random.Generator, frames: int, name: str, place: Camera) -> tuple[CityEvent, ...]:
    """One event over 50 to 80 % of the video; in half of the videos a normal one happens beside it."""
    length = max(1, int(frames * rng.uniform(0.5, 0.8)))
    start = int(rng.integers(0, frames - length + 1))
    left = bool(rng.integers(2))
    events = [place_event(rng, name, start, start + length, place, left)]
    if rng.random() < 0.5:
        events.append(
            place_event(rng, _any_counterpart(rng, tuple(CITY_CLASSES)), start, start + length, place, not left)
        )
    return tuple(events)


def _untrimmed(
    rng: np.random.Generator, frames: int, anomalies: list[str], classes: tuple[str, ...], place: Camera
) -> tuple[CityEvent, ...]:
    """Eight slots with an event each: the anomalies, and else a normal counterpart or, in one of five, nothing."""
    edges = np.linspace(0, frames, SLOTS + 1)
    slots = dict(zip(rng.choice(SLOTS, size=len(anomalies), replace=False).tolist(), anomalies, strict=True))
    events = []
    for slot in range(SLOTS):
        width = edges[slot + 1] - edges[slot]
        start = int(edges[slot] + width * rng.uniform(0, 0.2))
        end = max(start + 1, int(edges[slot + 1] - width * rng.uniform(0, 0.2)))
        empty, left = rng.random() < 0.2, bool(rng.integers(2))
        if slot in slots:
            events.append(place_event(rng, slots[slot], start, end, place, left))
        elif not empty:
            events.append(place_event(rng, _any_counterpart(rng, classes), start, end, place, left))
    return tuple(events)


def _any_counterpart(rng: np.random.Generator, classes: tuple[str, ...]) -> str:
    return CITY_CLASSES[str(rng.choice(classes))].distractor
