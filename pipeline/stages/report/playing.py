"""Which videos a browser plays, and small H.264 copies of those that it does not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import read_header
from pipeline.data.decoding.opening import opened
from pipeline.errors import DecodeError, StorageError
from pipeline.remote import AnyPath, RemotePath, is_web, scheme_of
from pipeline.stages.clips.movie import ENCODER, Movie
from pipeline.stages.clips.sound import Sound
from pipeline.stages.clips.source import shown_frames
from pipeline.stages.common.outputs import whole_file

__all__ = ["Media", "Medias", "find_media", "link", "write_proxy"]

PLAYED = {
    "mp4": {"h264", "av1", "vp9"},
    "webm": {"vp8", "vp9", "av1"},
}
"""What Chromium, Firefox and Safari all play: container -> codecs, with 4:2:0 pictures of 8 bits."""
PIXELS = ("yuv420p", "yuvj420p")
SUFFIXES = {"mp4": (".mp4", ".m4v", ".mov"), "webm": (".webm",)}
READERS = 8
"""Headers that are read at a time: most of it is waiting for a disk."""
PROXY_HEIGHT = 360
SMALL = {"crf": "28"} if ENCODER == "libx264" else {"qscale": "6"}


@dataclass(frozen=True)
class Media:
    """What a browser can do with a video.

    Attributes:
        codec: in words; "" where the file cannot be opened.
        playable: whether browsers play it.
        reason: why not, or "".
    """

    codec: str
    playable: bool
    reason: str


def find_media(path: AnyPath | None) -> Media:
    """Look at a file's header; a folder of images, and a file that is not there or not known, are told as such."""
    if path is None:
        return Media("", False, "nothing says where it lies")
    try:
        if path.is_dir():
            return Media("folder of images", False, "it is a folder of images")
        if not path.is_file():
            return Media("", False, "the file is not where it was")
        with opened(path) as (container, stream):
            codec, pixels = (
                stream.codec_context.codec.canonical_name,
                stream.codec_context.pix_fmt or "unknown pictures",
            )
            kind = next((k for k, names in SUFFIXES.items() if path.suffix.lower() in names), container.format.name)
    except (DecodeError, StorageError, OSError) as error:
        return Media("", False, str(error))
    told = f"{codec}, {pixels}, in {path.suffix.lstrip('.') or kind}"
    if isinstance(path, RemotePath) and not is_web(path):
        return Media(told, False, f"browsers do not read {scheme_of(path.root)}://")
    if codec in PLAYED.get(kind, ()) and pixels in PIXELS:
        return Media(told, True, "")
    return Media(told, False, f"browsers do not play {told}")


class Medias:
    """Looks at the headers of videos ahead of their use, several at a time. Use it in a `with` block.

    Args:
        paths: video id -> where the video lies; None where nothing says so.
    """

    def __init__(self, paths: Mapping[str, AnyPath | None]) -> None:
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="header")
        self._found = {video_id: self._pool.submit(find_media, path) for video_id, path in paths.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def of(self, video_id: str) -> Media:
        """What a browser can do with a video."""
        return self._found[video_id].result()


def link(path: AnyPath, page: Path, inside: Path) -> str:
    """The URL by which a page shows a file: relative where both are moved together, else of the file system.

    Args:
        path: the file.
        page: the folder of the page.
        inside: a folder that is moved as a whole and holds the page.
    """
    if isinstance(path, RemotePath):
        return quote(str(path), safe=":/")
    path = path.absolute()
    if path.is_relative_to(inside.absolute()):
        return quote(os.path.relpath(path, page.absolute()), errors="surrogateescape")
    return "file://" + quote(str(path), errors="surrogateescape")


def write_proxy(source: AnyPath, target: Path) -> None:
    """Write a copy of a video that browsers play: H.264 and AAC in MP4, at most 360 lines high.

    Frames and sound keep their times. One frame is held at a time.

    Args:
        source: the video.
        target: the file; its folder is made.

    Raises:
        DecodeError: the source cannot be read.
        OutputError: the copy cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fps = read_header(source).fps
    with Sound(source) as sound, whole_file(target) as partial:
        _copy(source, partial, fps, sound)


def _copy(source: AnyPath, target: Path, fps: float, sound: Sound) -> None:
    movie, size, last_s, step_s = None, (0, 0), 0.0, 1 / fps
    try:
        for shown in shown_frames(source, Damage()):
            sound.origins.see(shown.index, shown.origin_s)
            if movie is None:
                size = _size(*shown.size())
                movie = Movie(target, *size, fps, (sound.rate, sound.channels) if sound.rate else None, options=SMALL)
            else:
                step_s = shown.time_s - last_s
                movie.sound(sound.until(shown.time_s), 0.0)
            last_s = shown.time_s
            movie.picture(shown.picture(size), last_s)
        if movie is not None:
            movie.sound(sound.until(last_s + step_s), 0.0)
            movie.close(last_s + step_s)
    except BaseException:
        if movie is not None:
            movie.abandon()
        raise


def _size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the copy, both even."""
    scale = min(1.0, PROXY_HEIGHT / height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
