"""A clip and a picture of every event of a table, video by video, and contact sheets of them all."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.names import escape
from pipeline.data.decoding.opening import MAX_PIXELS
from pipeline.data.events import Event
from pipeline.data.formats.facts import by_video
from pipeline.data.tables import safe_row
from pipeline.errors import DecodeError
from pipeline.progress import Progress, Say
from pipeline.stages.clips.cut import Cut, CutJob, Window
from pipeline.stages.clips.movie import ENCODER
from pipeline.stages.clips.process import in_process
from pipeline.stages.clips.sheet import Entry, draw_sheets

__all__ = ["ClipReport", "make_clips"]

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
    files: Mapping[str, Path],
    folder: Path,
    *,
    margin_s: float = 2.0,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
    say: Say = lambda message: None,
) -> ClipReport:
    """Write the clips into `folder`, with clips.csv, which says what each is of, thumbnails and contact sheets.

    A clip has exactly the frames of its event and of the margin around it, encoded anew, at their own times; sound of
    the same stretch is kept. Videos that cannot be read are told, and the others go on.

    Args:
        events: which; each has a clip of its own.
        files: video id -> file or folder of images, of every event.
        folder: empty or new.
        margin_s: before and after an event, seconds.
        max_pixels: how many a picture may have.
        progress: told how far it is, in events.
        say: told what the user should know.
    """
    if ENCODER != "libx264":
        say("this build of PyAV has no libx264: clips are MPEG-4, which browsers do not play")
    for name in ("clips", "thumbnails"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    made: list[_Made] = []
    failed: dict[str, str] = {}
    done = 0
    for video_id, of_video in by_video(events).items():
        windows = [_window(event, done + number, margin_s, folder) for number, event in enumerate(of_video, start=1)]

        def watch(frames: int, video_id: str = video_id, before: int = done) -> None:
            if progress:
                progress(before, len(events), f"{video_id}, frame {frames}")

        job = CutJob(files[video_id], tuple(windows), max_pixels)
        try:
            cuts = in_process("pipeline.stages.clips.cut:cut", job.path, job, watch, say)
        except DecodeError as error:
            failed[video_id] = str(error)
            say(f"{video_id}: no clips: {error}")
            for window in windows:
                window.clip.unlink(missing_ok=True)  # it may be half written
            cuts = ()
        for event, window, cut in zip(of_video, windows, cuts, strict=bool(cuts)):
            if cut.frames:
                made.append(_Made(event, window, cut))
            else:
                failed[video_id] = f"the video ends before frame {event.start_frame}, where an event begins"
                say(f"{video_id}: {failed[video_id]}")
        done += len(of_video)
    if progress:
        progress(done, len(events), "cut")
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
    first = f"{one.window.clip.name[:4]}  {event.class_name} {event.peak_score:.2f}"
    second = f"{event.peak_s:.1f} s  {event.video_id}"
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
