"""Which videos a browser plays, and small H.264 copies of those that it does not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import av
import numpy as np

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.data.decoding.opening import opened
from pipeline.errors import DecodeError
from pipeline.stages.common.outputs import whole_file

__all__ = ["Media", "find_media", "link", "write_proxy"]

PLAYED = {
    "mp4": {"h264", "av1", "vp9"},
    "webm": {"vp8", "vp9", "av1"},
}
"""What Chromium, Firefox and Safari all play: container -> codecs, with 4:2:0 pictures of 8 bits."""
PIXELS = ("yuv420p", "yuvj420p")
SUFFIXES = {"mp4": (".mp4", ".m4v", ".mov"), "webm": (".webm",)}
PROXY_HEIGHT = 360
TIME_BASE = Fraction(1, 90_000)


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


def find_media(path: Path | None) -> Media:
    """Look at a file's header; a folder of images, and a file that is not there or not known, are told as such."""
    if path is None:
        return Media("", False, "nothing says where it lies")
    if path.is_dir():
        return Media("folder of images", False, "it is a folder of images")
    if not path.is_file():
        return Media("", False, "the file is not where it was")
    try:
        with opened(path) as (container, stream):
            codec, pixels = (
                stream.codec_context.codec.canonical_name,
                stream.codec_context.pix_fmt or "unknown pictures",
            )
            kind = next((k for k, names in SUFFIXES.items() if path.suffix.lower() in names), container.format.name)
    except (DecodeError, OSError) as error:
        return Media("", False, str(error))
    told = f"{codec}, {pixels}, in {path.suffix.lstrip('.') or kind}"
    if codec in PLAYED.get(kind, ()) and pixels in PIXELS:
        return Media(told, True, "")
    return Media(told, False, f"browsers do not play {told}")


def link(path: Path, page: Path, inside: Path) -> str:
    """The URL by which a page shows a file: relative where both are moved together, else of the file system.

    Args:
        path: the file.
        page: the folder of the page.
        inside: a folder that is moved as a whole and holds the page.
    """
    path = path.absolute()
    if path.is_relative_to(inside.absolute()):
        return quote(os.path.relpath(path, page.absolute()), errors="surrogateescape")
    return "file://" + quote(str(path), errors="surrogateescape")


def write_proxy(source: Path, target: Path) -> None:
    """Write a video once more as H.264 in MP4, at most 360 lines high, without sound; its frames keep their times.

    One frame is held at a time. Raises DecodeError where the source cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream, last = None, -1
        for frame in iter_raw_frames(source, damage=Damage()):
            image = frame.image
            if image is None:
                continue  # a lost frame: the one before it stays
            if stream is None:
                stream = container.add_stream("libx264", rate=30, options={"crf": "28", "preset": "veryfast"})
                stream.width, stream.height = _size(image)
                stream.pix_fmt, stream.codec_context.time_base = "yuv420p", TIME_BASE
            picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(stream.width, stream.height, "yuv420p")
            last = max(last + 1, round(frame.time_s / TIME_BASE))
            picture.pts, picture.time_base = last, TIME_BASE
            container.mux(stream.encode(picture))
        if stream is None:
            raise DecodeError(f"{source}: no frame could be decoded")
        container.mux(stream.encode(None))


def _size(image: np.ndarray) -> tuple[int, int]:
    """Width and height of the copy, both even."""
    height, width = image.shape[:2]
    scale = min(1.0, PROXY_HEIGHT / height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
