"""Frames of a video: streaming, in presentation order, rotated upright, resized once.

Videos are decoded by FFmpeg through PyAV. Of several video streams the one that FFmpeg rates best is used (one marked
as default before others). A folder of numbered images is a video too. What counts is the frames that the decoder
yields: counts and durations in a container are only plans. Damage is an error, unless the caller passes a `Damage` to
count it: then a lost frame keeps its number, and the frame before it replaces it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

import av
import numpy as np

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.geometry import PAPER_CROP, Fit
from pipeline.data.decoding.image_folder import first_image, image_files
from pipeline.data.decoding.opening import check_pixels, reason
from pipeline.data.decoding.orientation import Upright
from pipeline.data.decoding.packets import open_packets
from pipeline.data.decoding.placing import FOLDER_FPS, mean_rate, placed_frames
from pipeline.data.decoding.times import timed
from pipeline.errors import DecodeError
from pipeline.hashing import file_sha256
from pipeline.remote import AnyPath

__all__ = ["Frame", "VideoHeader", "content_sha256", "iter_frames", "iter_raw_frames", "read_header"]


@dataclass(frozen=True)
class VideoHeader:
    """What is known of a video before it is decoded.

    Attributes:
        path: the file or folder.
        width, height: pixels, after rotation.
        fps: mean frame rate that the container states; 25 for a folder of images or where it states none.
        packets: planned number of frames: video packets for which a player shows a picture, or images in a folder.
            Packets that an edit list hides, and second fields, do not count, see `pipeline.data.decoding.pictures`.
        bytes: size on disk.
        declared: number of frames that the container says it shows; 0 where it says nothing.
        fault: why the file is not whole, according to FFmpeg or its own index; None if nothing is known against it.
    """

    path: AnyPath
    width: int
    height: int
    fps: float
    packets: int
    bytes: int
    declared: int = 0
    fault: str | None = None


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        image: (height, width, 3) uint8 RGB; None where the picture was not asked for.
        time_s: seconds from the video's first frame, rising, see `pipeline.data.decoding.times`.
    """

    image: np.ndarray | None
    time_s: float


def read_header(path: AnyPath, alive: Callable[[], None] | None = None) -> VideoHeader:
    """Read a video's header and count the packets that show a picture.

    Only the first frame is decoded, because rotation is known from a frame only.

    Args:
        path: a video file, or a folder of numbered images.
        alive: called every thousand packets, as a sign of life.

    Raises:
        DecodeError: the file is missing, empty, not a video, or its first frame cannot be decoded.
    """
    if path.is_dir():
        images = image_files(path)
        width, height = Upright().size(first_image(images))
        size = sum(image.stat().st_size for image in images if image.exists())
        return VideoHeader(path, width=width, height=height, fps=FOLDER_FPS, packets=len(images), bytes=size)
    first: av.VideoFrame | None = None
    failure: Exception | None = None
    with open_packets(path) as (_, stream, packets):
        for count, demuxed in enumerate(packets, start=1):
            failure = demuxed.error or failure
            if alive and count % 1000 == 0:
                alive()
            if first is None and demuxed.packet:
                try:
                    first = next(iter(demuxed.packet.decode()), None)
                except (av.error.FFmpegError, ValueError) as error:
                    failure = error
        if first is None:
            detail = f": {reason(failure)}" if failure else ""
            raise DecodeError(f"{path}: no frame could be decoded{detail}") from failure
        width, height = Upright().size(first)
        return VideoHeader(
            path,
            width=width,
            height=height,
            fps=mean_rate(stream),
            packets=packets.shown,
            bytes=path.stat().st_size,
            declared=packets.declared(),
            fault=packets.fault(),
        )


def iter_frames(
    path: AnyPath,
    fit: Fit = PAPER_CROP,
    *,
    wanted: Container[int] | None = None,
    damage: Damage | None = None,
) -> Iterator[Frame]:
    """Decode a video once, in bounded memory, as the backbone sees it.

    The resize is one step of libswscale (bilinear) straight from the decoder's pixel format to RGB; smaller videos are
    enlarged.

    Args:
        path: a video file, or a folder of numbered images.
        fit: what the backbone sees of a picture, and at what size.
        wanted: numbers of the frames whose pictures are needed; None for all. The others are only decoded.
        damage: where damage is counted; None makes it an error.

    Yields:
        Frames of (fit.height, fit.width, 3).

    Raises:
        DecodeError: naming the file, the frame reached, and FFmpeg's message.
    """
    fitted = _Fitted(path, fit)
    return _prepared(path, fitted.image, wanted, damage, fitted.begin if fit.kind == "letterbox" else None)


class _Fitted:
    """What the backbone sees of the frames of one video.

    Where the first frame of a letterbox goes, all others go: one of another shape is padded within that place, so that
    the padding of the video is known from its header.
    """

    def __init__(self, path: AnyPath, fit: Fit) -> None:
        self._path, self._fit, self._upright = path, fit, Upright()
        self._first_size: tuple[int, int] | None = None

    def begin(self, frame: av.VideoFrame) -> None:
        """The first frame of the video, whether its picture is wanted or not."""
        self._first_size = self._upright.size(frame)

    def image(self, frame: av.VideoFrame) -> np.ndarray:
        """(height, width, 3) uint8, of the fit's size."""
        fit, size = self._fit, self._upright.size(frame)
        place = fit.geometry(*size)
        if self._first_size and size != self._first_size:
            place = fit.within(fit.geometry(*self._first_size), *size)
        if fit.kind == "crop":
            what = f"at a short side of {fit.short_side} pixels its pictures would be"
            check_pixels(self._path, place.width, place.height, what)
        image = self._upright.image(frame, place.width, place.height)
        if fit.kind == "letterbox":
            padded = np.empty((fit.height, fit.width, 3), np.uint8)
            padded[:] = fit.colour
            padded[-place.top :, -place.left :][: place.height, : place.width] = image
            return padded
        return image[place.top : place.top + fit.height, place.left : place.left + fit.width]


def iter_raw_frames(
    path: AnyPath, *, wanted: Container[int] | None = None, damage: Damage | None = None
) -> Iterator[Frame]:
    """Decode a video once, in bounded memory, at its own size.

    Args:
        path: a video file, or a folder of numbered images.
        wanted: numbers of the frames whose pictures are needed; None for all. The others are only decoded.
        damage: where damage is counted; None makes it an error.

    Yields:
        Frames of (height, width, 3), rotation applied.

    Raises:
        DecodeError: naming the file, the frame reached, and FFmpeg's message.
    """
    upright = Upright()

    def prepare(frame: av.VideoFrame) -> np.ndarray:
        width, height = upright.size(frame)
        return upright.image(frame, width, height)

    return _prepared(path, prepare, wanted, damage)


def _prepared(
    path: AnyPath,
    prepare: Callable[[av.VideoFrame], np.ndarray],
    wanted: Container[int] | None = None,
    damage: Damage | None = None,
    begin: Callable[[av.VideoFrame], None] | None = None,
) -> Iterator[Frame]:
    frame: av.VideoFrame | None = None
    image: np.ndarray | None = None
    stamped = ((shown, shown.stamp_s, shown.pace) for shown in placed_frames(path, damage))
    for index, (shown, time_s) in enumerate(timed(stamped)):
        if index == 0 and begin:
            begin(shown.frame)
        if wanted is not None and index not in wanted:
            yield Frame(None, time_s)
            continue
        if shown.frame is not frame:
            frame = shown.frame
            try:
                image = np.ascontiguousarray(prepare(frame))
            except (av.error.FFmpegError, ValueError) as error:
                raise DecodeError(
                    f"{path}: frame {index} cannot be converted to RGB: {reason(error)}", frame=index
                ) from error
        yield Frame(image, time_s)


def content_sha256(path: AnyPath) -> str:
    """SHA-256 of a file's content, or of the names and contents of a folder's images in order; 64 hex digits.

    Raises OSError when the file cannot be read, StorageError when its storage fails, DecodeError for a folder without
    images.
    """
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for image in image_files(path):
        content = bytes.fromhex(content_sha256(image)) if image.exists() else b""  # a link that leads nowhere
        digest.update(os.fsencode(image.name) + b"\0" + content)
    return digest.hexdigest()
