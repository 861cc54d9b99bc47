"""Clips of one video: decoded once, each clip encoded as its frames come by. Runs in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import read_header
from pipeline.errors import OutputError
from pipeline.remote import AnyPath
from pipeline.stages.clips.movie import ENCODER, Movie
from pipeline.stages.clips.sound import Sound
from pipeline.stages.clips.source import Shown, shown_frames

__all__ = ["Cut", "CutJob", "Window", "cut", "in_passes"]

MOST_OPEN = 6
"""Clips that are written at once: each encoder keeps some frames."""
THUMBNAIL = 320
ROUNDING_S = 1e-3


@dataclass(frozen=True)
class Window:
    """An event to be cut out.

    Attributes:
        start_frame, end_frame: half-open; these frames are in the clip.
        start_s, end_s: with the margin: frames that are shown from start_s on and before end_s are in the clip too.
        peak_s: of the frame for the thumbnail.
        clip, thumbnail: the files.
    """

    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    peak_s: float
    clip: Path
    thumbnail: Path

    def holds(self, index: int, time_s: float) -> bool:
        """Whether a frame is in the clip."""
        return not self.lies_before(index, time_s) and (
            index >= self.start_frame or time_s >= self.start_s - ROUNDING_S
        )

    def lies_before(self, index: int, time_s: float) -> bool:
        """Whether the clip has ended when a frame is shown."""
        return index >= self.end_frame and time_s >= self.end_s - ROUNDING_S


@dataclass(frozen=True)
class CutJob:
    """The clips of one video.

    Attributes:
        path: the video.
        windows: the clips to be cut.
        max_pixels: how many a picture may have.
        encoder: FFmpeg's name of the video encoder.
    """

    path: AnyPath
    windows: tuple[Window, ...]
    max_pixels: int
    encoder: str = ENCODER


@dataclass(frozen=True)
class Cut:
    """A clip that was written.

    Attributes:
        clip: the file.
        first_frame: number, in the video, of its first frame.
        frames: how many it has; 0 where the video ends before the event begins, and no file is written.
        start_s, end_s: when its first frame is shown and its last one ends, in the video.
    """

    clip: Path
    first_frame: int
    frames: int
    start_s: float
    end_s: float


@dataclass(eq=False)
class _Open:
    window: Window
    movie: Movie
    first_frame: int
    start_s: float


def cut(job: CutJob, tell: Callable[[str, object], None]) -> tuple[Cut, ...]:
    """Write the clips and thumbnails of a job, in the order of its windows.

    Args:
        job: what to write.
        tell: called as tell("progress", frames decoded so far) and tell("note", text).

    Raises:
        DecodeError: the video cannot be decoded at all.
    """
    fps = read_header(job.path).fps
    done: dict[Path, Cut] = {}
    for number, windows in enumerate(in_passes(job.windows)):
        damage = Damage()
        with Sound(job.path) as sound:
            _pass(job, windows, fps, sound, damage, done, tell)
        if number == 0 and damage:
            tell("note", f"{job.path} is damaged; frames that were lost keep their places: {damage.message}")
        if number == 0 and sound.errors:
            tell("note", f"{job.path}: {sound.errors} packets of sound cannot be decoded; there is silence for them")
    return tuple(done.get(window.clip, Cut(window.clip, window.start_frame, 0, 0.0, 0.0)) for window in job.windows)


def in_passes(windows: Sequence[Window], most: int = MOST_OPEN) -> list[list[Window]]:
    """Windows put in passes over the video, so that at most `most` lie over each other in any."""
    passes: list[list[Window]] = []
    for window in sorted(windows, key=lambda w: (w.start_s, w.start_frame)):
        for chosen in passes:
            over = [w for w in chosen if w.end_s > window.start_s or w.end_frame > window.start_frame]
            if len(over) < most:
                chosen.append(window)
                break
        else:
            passes.append([window])
    return passes


def _pass(
    job: CutJob,
    windows: Sequence[Window],
    fps: float,
    sound: Sound,
    damage: Damage,
    done: dict[Path, Cut],
    tell: Callable[[str, object], None],
) -> None:
    waiting, pictured = list(windows), list(windows)
    under_way: list[_Open] = []
    last_s, step_s = 0.0, 1 / fps
    try:
        for shown in shown_frames(job.path, damage):
            index, time_s = shown.index, shown.time_s
            sound.origins.see(index, shown.origin_s)
            if index:
                step_s, pieces = time_s - last_s, sound.until(time_s)
                for one in under_way:
                    one.movie.sound(pieces, one.start_s)
            last_s = time_s
            for one in [one for one in under_way if one.window.lies_before(index, time_s)]:
                _finish(one, time_s, done)
                under_way.remove(one)
            _begin(job, shown, waiting, under_way, fps, sound)
            _draw(shown, under_way, pictured)
            if index % 16 == 0:
                tell("progress", index)
            if not waiting and not under_way and not pictured:
                return
        end_s = last_s + step_s
        pieces = sound.until(end_s)
        for one in under_way:
            one.movie.sound(pieces, one.start_s)
            _finish(one, end_s, done)
        under_way.clear()
    finally:
        for one in under_way:
            one.movie.abandon()


def _begin(job: CutJob, shown: Shown, waiting: list[Window], under_way: list[_Open], fps: float, sound: Sound) -> None:
    for window in [window for window in waiting if window.holds(shown.index, shown.time_s)]:
        width, height = shown.size()
        track = (sound.rate, sound.channels) if sound.rate else None
        movie = Movie(window.clip, width, height, fps, track, job.encoder)
        under_way.append(_Open(window, movie, shown.index, shown.time_s))
        waiting.remove(window)


def _draw(shown: Shown, under_way: Sequence[_Open], pictured: list[Window]) -> None:
    """Add a frame to the clips that it is in, and keep it where it is the peak of one."""
    peaks = [window for window in pictured if shown.time_s >= window.peak_s - ROUNDING_S]
    if not under_way and not peaks:
        return
    image = shown.picture()
    for one in under_way:
        one.movie.picture(image, shown.time_s - one.start_s)
    for window in peaks:
        try:
            _thumbnail(image).save(window.thumbnail)
        except OSError as error:
            raise OutputError(f"{window.thumbnail} cannot be written: {error.strerror or error}") from error
        pictured.remove(window)


def _thumbnail(image: np.ndarray) -> Image.Image:
    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small


def _finish(one: _Open, end_s: float, done: dict[Path, Cut]) -> None:
    one.movie.close(end_s - one.start_s)
    done[one.window.clip] = Cut(one.window.clip, one.first_frame, one.movie.frames, one.start_s, end_s)
