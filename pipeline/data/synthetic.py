"""The fixture: a generated street scene seen by a fixed camera, with people, vehicles and rare anomalies.

`pipeline.data.scene` says what there is to see. Every event lies in the central part of the picture that survives the crop and
covers less than a tenth of it. Training videos are trimmed around one event; test videos are untrimmed, with an event at any
time, at most a third of their frames anomalous.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipeline.data.scene import CLASSES, DISTRACTORS, SIDE, Event, draw_event, passers, street
from pipeline.errors import ConfigError

__all__ = ["CLASSES", "SyntheticSpec", "generate"]


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
class Script:
    """One video before rendering."""

    video_id: str
    split: str
    labels: tuple[str, ...]
    frames: int
    events: tuple[Event, ...]
    seed: int


def generate(spec: SyntheticSpec, folder: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Render all videos to folder/videos and write videos.csv, annotations.csv and boxes.csv.

    The same specification gives the same bytes, whatever the number of cores. Every file appears whole or not at all, the tables
    after the videos; videos that lie there already, of a process that was broken off, are kept. boxes.csv holds the truth of
    where: video_id, frame, label, x0, y0, x1, y1 in pixels of the video; nothing but the evaluation reads it.
    """
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    scripts = list(_scripts(spec))

    def render(script: Script) -> None:
        path = folder / "videos" / f"{script.video_id}.mp4"
        if not path.exists():
            _render_video(script, spec, path)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # a thread a video: encoder and numpy release the lock
        for done, _ in enumerate(pool.map(render, scripts), start=1):
            if progress:
                progress(done, len(scripts))
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
    _write(folder / "boxes.csv", ("video_id", "frame", "label", "x0", "y0", "x1", "y1"), _boxes(scripts, spec))


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


def _boxes(scripts: list[Script], spec: SyntheticSpec) -> Iterator[tuple]:
    """Where the anomalies are: a row for every anomaly of every frame."""
    for script in scripts:
        for index in range(script.frames):
            for event in script.events:
                if event.anomalous and event.start <= index < event.end:
                    yield script.video_id, index, event.name, *(round(c * spec.size / SIDE, 1) for c in event.box)


def _render_video(script: Script, spec: SyntheticSpec, path: Path) -> None:
    """Write one H.264 file (yuv420p, one encoder thread, so the bytes repeat)."""
    rng = np.random.default_rng([script.seed, 2])
    background, walkers = street(rng), passers(rng, script.frames)
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
                draw_event(canvas, event, index)
            canvas += rng.normal(0, 3, size=(SIDE, SIDE, 1)).astype(np.float32)
            image = np.clip(canvas, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(reformatter.reformat(frame, spec.size, spec.size, "yuv420p")))
        container.mux(stream.encode(None))
    os.replace(partial, path)
