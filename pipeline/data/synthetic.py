"""The fixture: a generated street scene seen by a fixed camera, with people, vehicles and rare anomalies.

Anomaly classes, three of the paper's twelve, drawn schematically:

- Explosion: a bright ball of grainy fire that flares irregularly, smoke above it.
- Fighting: two people at close quarters, their bodies and arms jerking at random in every frame.
- Accident: two vehicles run into each other at an angle, spin and throw debris.

Normal footage holds distractors of the same size, colours and duration, as often as anomalous footage holds anomalies:

- a striped orange wheel that turns and swells smoothly (Carousel, against Explosion),
- two people at close quarters who dance, swaying together smoothly, arms held (Dancing, against Fighting),
- two vehicles side by side that shunt to and fro, upright (Shunting, against Accident).

So brightness, area, activity or the mere presence of people and vehicles does not tell an anomaly. Every event lies in the
central part of the picture that survives the crop and covers less than a tenth of it. Training videos are trimmed around one
event; test videos are untrimmed, with an event at any time, at most a third of their frames anomalous.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipeline.data.drawing import stamp
from pipeline.errors import ConfigError

__all__ = ["CLASSES", "SyntheticSpec", "generate", "render_video"]

CLASSES = ("Explosion", "Fighting", "Accident")
DISTRACTORS = {"Explosion": "Carousel", "Fighting": "Dancing", "Accident": "Shunting"}
SIDE = 256  # the scene's own coordinates; drawn at spec.size / SIDE
FIRE = np.array((245, 140, 50), dtype=np.float32)
CLOTHES = np.array([(200, 60, 50), (60, 90, 190), (70, 150, 80), (210, 190, 80), (120, 70, 140), (60, 60, 65)], np.float32)
PAINT = np.array([(190, 50, 45), (55, 95, 175), (200, 200, 205), (60, 60, 66), (215, 180, 60)], np.float32)


@dataclass(frozen=True)
class SyntheticSpec:
    """How much to render. Ranges are (shortest, longest) in frames; `size` is the side of the square picture in pixels.

    The defaults are those of configs/fixture.yaml.
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

    def __post_init__(self) -> None:
        unknown = [name for name in self.classes if name not in CLASSES]
        if unknown:
            raise ConfigError(f"synthetic classes: expected some of {', '.join(CLASSES)}, got {', '.join(unknown)}")


@dataclass(frozen=True)
class Event:
    """Something that happens in [start, end): an anomaly class or a distractor, at (x, y) in scene coordinates."""

    name: str
    start: int
    end: int
    x: float
    y: float
    seed: int

    @property
    def anomalous(self) -> bool:
        return self.name in CLASSES


@dataclass(frozen=True)
class Script:
    """One video before rendering."""

    video_id: str
    split: str
    labels: tuple[str, ...]
    frames: int
    events: tuple[Event, ...]
    seed: int


def generate(spec: SyntheticSpec, folder: Path) -> None:
    """Render all videos to folder/videos and write videos.csv, annotations.csv and boxes.csv.

    The same specification gives the same bytes, whatever the number of cores. Every file appears whole or not at all, the tables
    after the videos. boxes.csv holds the truth of where: video_id, frame, label, x0, y0, x1, y1 in
    pixels of the video; nothing but the evaluation reads it.
    """
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    scripts = list(_scripts(spec))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # a thread a video: encoder and numpy release the lock
        rendered = pool.map(lambda s: render_video(s, spec, folder / "videos" / f"{s.video_id}.mp4"), scripts)
        boxes = [row for rows in rendered for row in rows]
    _write(
        folder / "videos.csv",
        ("video_id", "path", "split", "label", "source"),
        (
            (
                s.video_id,
                f"videos/{s.video_id}.mp4",
                s.split,
                ";".join(s.labels) or "Normal",
                f"camera-{s.seed % 1000:03d}",
            )
            for s in scripts
        ),
    )
    _write(
        folder / "annotations.csv",
        ("video_id", "label", "start_frame", "end_frame"),
        ((s.video_id, e.name, e.start, e.end) for s in scripts for e in s.events if s.split == "test" and e.anomalous),
    )
    _write(folder / "boxes.csv", ("video_id", "frame", "label", "x0", "y0", "x1", "y1"), boxes)


def _write(path: Path, header: tuple[str, ...], rows) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows(rows)
    os.replace(partial, path)


def _scripts(spec: SyntheticSpec):
    plan = [("train", "", i) for i in range(spec.train_normal)]
    plan += [("train", name, i) for name in spec.classes for i in range(spec.train_per_class)]
    plan += [("test", "", i) for i in range(spec.test_normal)]
    plan += [("test", spec.classes[i % len(spec.classes)], i) for i in range(spec.test_anomalous)]
    for number, (split, name, i) in enumerate(plan):
        seed = spec.seed * 100_003 + number
        rng = np.random.default_rng([seed, 1])
        low, high = spec.train_frames if split == "train" else spec.test_frames
        frames = int(rng.integers(low, high + 1))
        kind = name or "Normal"
        events = (
            _trimmed(rng, frames, name, DISTRACTORS[spec.classes[i % len(spec.classes)]])
            if split == "train"
            else _untrimmed(rng, frames, name, spec.classes)
        )
        labels = tuple(sorted({e.name for e in events if e.anomalous}))
        yield Script(f"{split}_{kind}_{i:03d}", split, labels, frames, events, seed)


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
    x = rng.uniform(50, 105) if left else rng.uniform(151, 206)
    y = rng.uniform(150, 200) if name in ("Accident", "Shunting") else rng.uniform(95, 190)
    return Event(name, start, end, float(x), float(y), int(rng.integers(1 << 31)))


def render_video(script: Script, spec: SyntheticSpec, path: Path) -> list[tuple]:
    """Write one H.264 file (yuv420p, one encoder thread, so the bytes repeat). Returns its rows of boxes.csv."""
    scale = spec.size / SIDE
    rng = np.random.default_rng([script.seed, 2])
    background, walkers = _street(rng), _passers(rng, script.frames)
    boxes = []
    reformatter = VideoReformatter()  # one a video: a frame's own reformat() sets the conversion up again every time
    partial = path.with_name(f"{path.name}.partial")
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=spec.fps)
        stream.width = stream.height = spec.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        for index in range(script.frames):
            canvas = background.copy()
            for walker in walkers:
                walker(canvas, index)
            for event in script.events:
                if event.start <= index < event.end:
                    half_w, half_h = DRAW[event.name](canvas, event, index - event.start, event.end - event.start)
                    if event.anomalous:
                        corners = (event.x - half_w, event.y - half_h, event.x + half_w, event.y + half_h)
                        boxes.append((script.video_id, index, event.name, *(round(c * scale, 1) for c in corners)))
            canvas += rng.normal(0, 3, size=(SIDE, SIDE, 1)).astype(np.float32)
            image = np.clip(canvas, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(reformatter.reformat(frame, spec.size, spec.size, "yuv420p")))
        container.mux(stream.encode(None))
    os.replace(partial, path)
    return boxes


def _street(rng: np.random.Generator) -> np.ndarray:
    """Houses above, a pavement, a road below: still, different in every video."""
    canvas = np.empty((SIDE, SIDE, 3), dtype=np.float32)
    canvas[:] = rng.uniform(120, 170, size=3)
    for _ in range(5):
        tone = tuple(rng.uniform(80, 180) + rng.uniform(-15, 15, size=3))
        stamp(canvas, "box", rng.uniform(0, SIDE), rng.uniform(10, 50), rng.uniform(20, 50), rng.uniform(20, 45), tone)
    for x in range(10, SIDE, int(rng.integers(22, 34))):
        stamp(canvas, "box", x, rng.uniform(25, 55), 5, 7, tuple(rng.uniform(40, 110, size=3)))
    canvas[85:140] = rng.uniform(130, 165)
    canvas[140:] = rng.uniform(70, 105)
    for x in range(0, SIDE, 48):
        stamp(canvas, "box", x + 10, 225, 10, 1.5, (200, 200, 190))
    return canvas


def _person(
    canvas: np.ndarray, x: float, y: float, colour: np.ndarray, lean: float = 0.0, reach: float = 0.0, size: float = 1.0
) -> None:
    """A head, a body and, with `reach`, an outstretched arm; about 10 x 30 pixels at size 1."""
    stamp(canvas, "box", x, y + 4 * size, 4.5 * size, 10 * size, tuple(colour), lean)
    stamp(canvas, "disc", x + 12 * lean * size, y - 11 * size, 4 * size, 4 * size, (205, 165, 140))
    stamp(canvas, "box", x, y + 17 * size, 3.5 * size, 6 * size, (50, 50, 60), lean)
    if reach:
        stamp(canvas, "box", x + reach * 0.6, y, abs(reach) * 0.6, 2 * size, (205, 165, 140), lean * 2)


def _vehicle(canvas: np.ndarray, x: float, y: float, colour: np.ndarray, angle: float = 0.0) -> None:
    """A body with a window, about 44 x 20 pixels."""
    stamp(canvas, "box", x, y, 22, 10, tuple(colour), angle)
    stamp(canvas, "box", x, y, 9, 7, (60, 75, 90), angle)


def _passers(rng: np.random.Generator, frames: int) -> list[Callable[[np.ndarray, int], None]]:
    """People on the pavement and vehicles on the far lane, moving straight at a constant speed."""
    passers: list[Callable[[np.ndarray, int], None]] = []
    for _ in range(rng.integers(1, 4)):
        x, y, speed = rng.uniform(0, SIDE), rng.uniform(92, 125), rng.choice([-1, 1]) * rng.uniform(0.8, 2.0)
        colour = CLOTHES[rng.integers(len(CLOTHES))]
        passers.append(lambda canvas, t, x=x, y=y, s=speed, c=colour: _person(canvas, (x + s * t) % (SIDE + 40) - 20, y, c))
    for _ in range(rng.integers(1, 3)):
        x, y, speed = rng.uniform(0, SIDE), rng.uniform(215, 240), rng.choice([-1, 1]) * rng.uniform(2.0, 5.0)
        colour = PAINT[rng.integers(len(PAINT))]
        passers.append(lambda canvas, t, x=x, y=y, s=speed, c=colour: _vehicle(canvas, (x + s * t) % (SIDE + 80) - 40, y, c))
    return passers


def _explosion(canvas: np.ndarray, event: Event, t: int, length: int) -> tuple[float, float]:
    rng = np.random.default_rng([event.seed, t])
    size = 20 + 8 * rng.random()

    def fire(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return FIRE * (0.55 + 0.9 * rng.random(u.shape, dtype=np.float32))[..., None]

    for _ in range(3):
        dx, dy = rng.normal(0, 4, size=2)
        stamp(canvas, "disc", event.x + dx, event.y - 20 + dy, 12, 10, (90, 88, 86), opacity=0.5)
    stamp(canvas, "disc", event.x, event.y, size, size * rng.uniform(0.8, 1.1), fire)
    return 28, 28


def _carousel(canvas: np.ndarray, event: Event, t: int, length: int) -> tuple[float, float]:
    size = 22 + 4 * np.sin(2 * np.pi * t / 20)

    def stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return FIRE * np.where(np.sin(u * (2 * np.pi / 9)) < 0, np.float32(0.55), np.float32(1.4))[..., None]

    stamp(canvas, "disc", event.x, event.y, size, size, stripes, 0.5 * t)
    return 28, 28


def _pair(event: Event) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(event.seed).choice(len(CLOTHES), size=2, replace=False)
    return CLOTHES[first], CLOTHES[second]


def _fighting(canvas: np.ndarray, event: Event, t: int, length: int) -> tuple[float, float]:
    rng = np.random.default_rng([event.seed, t])
    for side, colour in zip((-1, 1), _pair(event), strict=True):
        dx, dy = rng.normal(0, 5, size=2)
        reach = -side * rng.uniform(12, 26)
        _person(canvas, event.x + side * 13 + dx, event.y + dy, colour, float(rng.normal(0, 0.45)), reach, 1.4)
    return 32, 32


def _dancing(canvas: np.ndarray, event: Event, t: int, length: int) -> tuple[float, float]:
    sway, lean = 14 * np.sin(2 * np.pi * t / 7), 0.25 * np.cos(2 * np.pi * t / 7)
    for side, colour in zip((-1, 1), _pair(event), strict=True):
        _person(canvas, event.x + side * 13 + sway, event.y, colour, lean, -side * 18, 1.4)
    return 32, 32


def _two_paints(event: Event) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(event.seed).choice(len(PAINT), size=2, replace=False)
    return PAINT[first], PAINT[second]


def _accident(canvas: np.ndarray, event: Event, t: int, length: int) -> tuple[float, float]:
    rng = np.random.default_rng(event.seed)
    spin = rng.choice([-1, 1]) * 0.2
    first, second = _two_paints(event)
    angle = float(rng.uniform(0, np.pi)) + spin * t
    _vehicle(canvas, event.x - 10 * np.cos(angle), event.y - 10 * np.sin(angle), first, angle)
    _vehicle(canvas, event.x + 10 * np.cos(angle), event.y + 10 * np.sin(angle), second, angle + 1.2)
    debris = np.random.default_rng([event.seed, t])
    for _ in range(8):
        dx, dy = debris.normal(0, 16, size=2)
        stamp(canvas, "box", event.x + dx, event.y + dy, 2, 2, (230, 225, 215), float(debris.uniform(0, 3)))
    return 34, 30


def _shunting(canvas: np.ndarray, event: Event, t: int, length: int) -> tuple[float, float]:
    first, second = _two_paints(event)
    shift = 18 * np.sin(2 * np.pi * t / 9)
    _vehicle(canvas, event.x + shift, event.y - 12, first)
    _vehicle(canvas, event.x - shift, event.y + 12, second)
    return 34, 30


DRAW = {
    "Explosion": _explosion,
    "Fighting": _fighting,
    "Accident": _accident,
    "Carousel": _carousel,
    "Dancing": _dancing,
    "Shunting": _shunting,
}
