"""A video with its scores drawn into it: every frame at its own time, with its sound, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import read_header
from pipeline.data.events import Event
from pipeline.progress import Progress, Say
from pipeline.remote import AnyPath
from pipeline.stages.clips.heat import Heat, HeatMaps
from pipeline.stages.clips.movie import ENCODER, Movie, even, resized
from pipeline.stages.clips.process import in_process
from pipeline.stages.clips.sound import Sound
from pipeline.stages.clips.source import Shown, shown_frames
from pipeline.stages.clips.strip import PAPER, Scores, Strip

__all__ = ["RenderJob", "render", "render_video"]

NARROWEST = 320
"""Pixels: a narrower picture gets a border, so that the text has room."""
UNDER, OVER = 0.3, 0.7


@dataclass(frozen=True, eq=False)
class RenderJob:
    """What is rendered.

    Attributes:
        path: the video.
        out: the file, .mp4.
        scores: of its frames.
        events: of it.
        heat: relation maps; None for none.
        over: draw the strip over the lower edge of the picture, not below it, unless it would hide half of it.
        max_pixels: how many a picture may have.
    """

    path: AnyPath
    out: Path
    scores: Scores
    events: tuple[Event, ...]
    heat: HeatMaps | None
    over: bool
    max_pixels: int


def render_video(job: RenderJob, progress: Progress | None = None, say: Say = lambda message: None) -> int:
    """Render in a process of its own.

    Args:
        job: what is rendered.
        progress: told how many frames are done.
        say: told what the user should know, such as damage.

    Returns:
        The number of frames.

    Raises:
        DecodeError: the video cannot be decoded at all.
        OutputError: the file cannot be written.
    """
    if ENCODER != "libx264":
        say("this build of PyAV has no libx264: the video is MPEG-4, which browsers do not play")
    planned = len(job.scores.general)

    def watch(frames: int) -> None:
        if progress:
            progress(min(frames, planned), planned, job.path.name)

    frames: int = in_process("pipeline.stages.clips.render:render", job.path, job, watch, say)
    return frames


def render(job: RenderJob, tell: Callable[[str, object], None]) -> int:
    """Write a job's file; returns the number of frames.

    Args:
        job: what to write.
        tell: called as tell("progress", frames so far) and tell("note", text).

    Raises:
        DecodeError: the video cannot be decoded at all.
    """
    fps, damage = read_header(job.path).fps, Damage()
    count, last_s, step_s = 0, 0.0, 1 / fps
    canvas: _Canvas | None = None
    movie: Movie | None = None
    try:
        with Sound(job.path) as sound:
            for shown in shown_frames(job.path, damage):
                sound.origins.see(shown.index, shown.origin_s)
                if canvas is None or movie is None:
                    canvas = _Canvas(job, *shown.size(), fps)
                    if job.over and not canvas.over:
                        tell("note", f"{job.path}: too low to draw over: the curve is below the picture")
                    track = (sound.rate, sound.channels) if sound.rate else None
                    movie = Movie(job.out, canvas.width, canvas.height, fps, track)
                else:
                    movie.sound(sound.until(shown.time_s), 0.0)
                    step_s = shown.time_s - last_s
                movie.picture(canvas.draw(shown), shown.time_s)
                count, last_s = shown.index + 1, shown.time_s
                if count % 8 == 0:
                    tell("progress", count)
            if movie is not None:
                movie.sound(sound.until(last_s + step_s), 0.0)
                movie.close(last_s + step_s)
                movie = None
        _tell_notes(job, count, damage, sound, tell)
    finally:
        if movie is not None:
            movie.abandon()
    return count


def _tell_notes(job: RenderJob, count: int, damage: Damage, sound: Sound, tell: Callable[[str, object], None]) -> None:
    if damage:
        tell("note", f"{job.path} is damaged; frames that were lost keep their places: {damage.message}")
    if sound.errors:
        tell("note", f"{job.path}: {sound.errors} packets of sound cannot be decoded; there is silence for them")
    if count != len(job.scores.general):
        tell("note", f"{job.path}: {len(job.scores.general)} scores for {count} frames; the curve is of the scores")


class _Canvas:
    """The picture, and the strip below or over it, for frames of one size (that of the first frame)."""

    def __init__(self, job: RenderJob, width: int, height: int, fps: float) -> None:
        self._size, self._job = (width, height), job
        self.width = even(max(width, NARROWEST))
        self._strip = Strip(self.width, job.scores, job.events, fps)
        self._heat = Heat(job.heat, width, height) if job.heat else None
        self._left = (self.width - width) // 2
        self.over = job.over and 2 * self._strip.height <= height
        self.height = even(height if self.over else height + self._strip.height)

    def draw(self, shown: Shown) -> np.ndarray:
        """(height, width, 3) uint8."""
        image = shown.picture()
        width, height = self._size
        if image.shape[:2] != (height, width):  # a stream whose pictures change their size
            image = resized(image, width, height)
        if self._heat:
            image = self._heat.over(image, shown.index)
        canvas = np.zeros((self.height, self.width, 3), np.uint8)
        canvas[:height, self._left : self._left + width] = image
        strip = self._strip.at(shown.index, shown.time_s)
        rows: int = strip.shape[0]
        if self.over:
            part = canvas[self.height - rows :]
            paper = (strip == PAPER).all(axis=2, keepdims=True)  # the picture shines through it, not through the text
            part[:] = np.where(paper, UNDER * part + OVER * strip, strip).astype(np.uint8)
        else:
            canvas[height : height + rows] = strip
        return canvas
