"""Generated data sets: a fixed camera, people, vehicles and rare anomalies, with the ground truth of when and where.

`script` and `street` plan and draw the fixture; `city.scripts` and the modules beside it plan and draw the twelve
classes of configs/synthetic_city.yaml (docs/synthetic_city.md). Every event lies in the central part of the picture,
which survives the centre crop; of a wide fixture, at its sides, which the crop cuts off.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.data.synthetic.city.scripts import CitySpec
from pipeline.data.synthetic.rendering import Rendering, render_all
from pipeline.data.synthetic.script import Script, SyntheticSpec
from pipeline.data.synthetic.street import CLASSES, SIDE

__all__ = ["CLASSES", "CitySpec", "SyntheticSpec", "generate"]


def generate(
    spec: SyntheticSpec, folder: Path, progress: Callable[[int, int], None] | None = None, processes: int | None = None
) -> None:
    """Render all videos to folder/videos and write videos.csv, annotations.csv and boxes.csv.

    The same specification gives the same bytes, whatever the number of processes. Every file appears whole or not at
    all, the tables after the videos; videos that an interrupted run has finished are kept. boxes.csv says where the
    anomalies are: video_id, frame, label, x0, y0, x1, y1 in pixels of the video. Only the evaluation reads it.

    Args:
        spec: what to render.
        folder: where to.
        progress: called as progress(done, total), counting videos.
        processes: how many render; None for one per core, at most 8.
    """
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    scripts = list(spec.scripts())
    files = [Rendering(script, folder / _file(script), spec.size, spec.fps, spec.width) for script in scripts]
    todo = [job for job in files if not job.path.exists()]

    def report(done: int) -> None:
        if progress:
            progress(len(files) - len(todo) + done, len(files))

    render_all(todo, report, processes)
    videos = ((s.video_id, _file(s), s.split, ";".join(s.labels) or "Normal", s.source) for s in scripts)
    _write(folder / "videos.csv", ("video_id", "path", "split", "label", "source"), videos)
    _write(
        folder / "annotations.csv",
        ("video_id", "label", "start_frame", "end_frame"),
        ((s.video_id, e.name, e.start, e.end) for s in scripts for e in s.events if s.split == "test" and e.anomalous),
    )
    _write(
        folder / "boxes.csv", ("video_id", "frame", "label", "x0", "y0", "x1", "y1"), _boxes(scripts, spec.size / SIDE)
    )


def _file(script: Script) -> str:
    return f"videos/{script.video_id}.mp4"


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows(rows)
    os.replace(partial, path)


def _boxes(scripts: Sequence[Script], scale: float) -> Iterator[tuple[object, ...]]:
    """The rows of boxes.csv: one per frame and anomaly in it."""
    for script in scripts:
        for index in range(script.n_frames):
            for event in script.events:
                if event.anomalous and event.start <= index < event.end:
                    yield script.video_id, index, event.name, *(round(c * scale, 1) for c in event.box_at(index))
