"""A clip and a picture of every event of a table, video by video, and contact sheets of them all."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cache.names import escape
from pipeline.config import Experiment
from pipeline.data.decoding.opening import MAX_PIXELS
from pipeline.data.events import Event
from pipeline.data.formats.facts import by_video
from pipeline.data.tables import safe_row
from pipeline.errors import DecodeError
from pipeline.progress import Progress, Say
from pipeline.remote import AnyPath
from pipeline.stages.clips.cut import Cut, CutJob, Window
from pipeline.stages.clips.movie import ENCODER
from pipeline.stages.clips.on_cluster import cut_on_cluster
from pipeline.stages.clips.process import in_processes
from pipeline.stages.clips.sheet import Entry, draw_sheets
from pipeline.stages.clips.text import clock
from pipeline.stages.common.cluster import on_cluster

__all__ = ["ClipReport", "make_clips"]

MOST_WORKERS = 4
COLUMNS = (
    "clip",
    "thumbnail",
    "video_id",
    "class",
    "start_frame",
    "end_frame",
    "first_frame",
    "frames",
    "start_s",
    "end_s",
    "peak_s",
    "peak_score",
)


@dataclass(frozen=True)
class ClipReport:
    """What was made.

    Attributes:
        clips: of the events that have one, in order of video and time.
        sheets: the contact sheets, highest peaks first.
        failed: video id -> why it gave no clips, or not all of them.
    """

    clips: tuple[Path, ...]
    sheets: tuple[Path, ...]
    failed: dict[str, str]


@dataclass(frozen=True)
class _Made:
    event: Event
    window: Window
    cut: Cut


def make_clips(
    events: Sequence[Event],
    files: Mapping[str, AnyPath],
    folder: Path,
    *,
    margin_s: float = 2.0,
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    progress: Progress | None = None,
    say: Say = lambda message: None,
    experiment: Experiment | None = None,
) -> ClipReport:
    """Write the clips into `folder`, with clips.csv, which says what each is of, thumbnails and contact sheets.

    A clip has exactly the frames of its event and of the margin around it, encoded anew, at their own times, with the
    sound of that stretch. A video that cannot be read is reported and gets no clips; the others are still cut.

    Args:
        events: which; each has a clip of its own.
        files: video id -> file or folder of images, of every event.
        folder: empty or new.
        margin_s: before and after an event, seconds.
        max_pixels: how many a picture may have.
        workers: processes, each with one video; 0: one per core, at most 4, for each holds up to 6 encoders.
        progress: told how far it is, in events.
        say: told what the user should know.
        experiment: whose cluster cuts them, if `machine.engine` says so; None cuts them here.

    Raises:
        OutputError: a clip cannot be written.
    """
    if ENCODER != "libx264":
        say("this build of PyAV has no libx264: clips are MPEG-4, which browsers do not play")
    for name in ("clips", "thumbnails"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    groups = list(by_video(events).items())
    numbers = count(1)
    windows = [[_window(event, next(numbers), margin_s, folder) for event in of_video] for _, of_video in groups]
    made: dict[int, list[_Made]] = {}
    failed: dict[str, str] = {}

    def tell(message: str) -> None:
        if progress:
            done = sum(len(groups[number][1]) for number in made)
            progress(done, len(events), message)

    jobs = [CutJob(files[name], tuple(of), max_pixels) for (name, _), of in zip(groups, windows, strict=True)]
    if experiment and on_cluster(experiment):
        work = cut_on_cluster(experiment, [(name, job) for (name, _), job in zip(groups, jobs, strict=True)], say)
    else:
        work = in_processes(
            "pipeline.stages.clips.cut:cut",
            [(job.path, job) for job in jobs],
            workers or min(MOST_WORKERS, len(os.sched_getaffinity(0))),
            lambda number, frames: tell(f"{groups[number][0]}, frame {frames}"),
            say,
        )
    with closing(work):
        for number, outcome in work:
            video_id, of_video = groups[number]
            made[number] = []
            if isinstance(outcome, DecodeError):
                failed[video_id] = str(outcome)
                say(f"{video_id}: no clips: {outcome}")
                for window in windows[number]:  # they may be half written
                    window.clip.unlink(missing_ok=True)
                    window.thumbnail.unlink(missing_ok=True)
                continue
            for event, window, cut in zip(of_video, windows[number], outcome, strict=True):
                if cut.frames:
                    made[number].append(_Made(event, window, cut))
                else:
                    failed[video_id] = f"the video ends before frame {event.start_frame}, where an event begins"
                    say(f"{video_id}: {failed[video_id]}")
            tell(video_id)
    tell("cut")
    return _report([one for number in sorted(made) for one in made[number]], failed, folder)


def _report(made: Sequence[_Made], failed: dict[str, str], folder: Path) -> ClipReport:
    _write_table(made, folder)
    ranked = sorted(made, key=lambda one: -one.event.peak_score)
    sheets = draw_sheets([_entry(one) for one in ranked], folder)
    return ClipReport(tuple(one.window.clip for one in made), tuple(sheets), failed)


def _window(event: Event, number: int, margin_s: float, folder: Path) -> Window:
    # The number keeps names apart that would be one; of the rest a long one is cut, as `escape` does.
    name = f"{number:04d}-{escape(f'{event.video_id}.{event.class_name}')}-{event.start_frame}-{event.end_frame}"
    return Window(
        event.start_frame,
        event.end_frame,
        event.start_s - margin_s,
        event.end_s + margin_s,
        event.peak_s,
        folder / "clips" / f"{name}.mp4",
        folder / "thumbnails" / f"{name}.png",
    )


def _entry(one: _Made) -> Entry:
    event, picture = one.event, one.window.thumbnail
    # Names last, for they may be cut.
    first = f"{one.window.clip.name.partition('-')[0]} · {event.peak_score:.2f} · {event.class_name}"
    second = f"{clock(event.peak_s, tenths=True)} · {event.video_id}"
    return Entry(picture if picture.exists() else None, first, second)


def _write_table(made: Sequence[_Made], folder: Path) -> None:
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for one in made:
            event, cut = one.event, one.cut
            thumbnail = one.window.thumbnail
            files = cut.clip.relative_to(folder), thumbnail.relative_to(folder) if thumbnail.exists() else ""
            frames = event.start_frame, event.end_frame, cut.first_frame, cut.frames
            times = f"{cut.start_s:.6f}", f"{cut.end_s:.6f}", f"{event.peak_s:.6f}", f"{event.peak_score:.6f}"
            writer.writerow(
                (*safe_row(map(str, files)), *safe_row([event.video_id, event.class_name]), *frames, *times)
            )
