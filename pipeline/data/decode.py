"""Frames of a video: streaming, in presentation order, rotated upright, resized once.

FFmpeg through PyAV; of several video streams the one that FFmpeg rates best is used (one marked as default before others). A
folder of numbered images is a video too. Frames are what the decoder yields: counts and durations in a container are only plans.
Damage is an error, or, where the caller brings a `Damage` to count it, passed over: the frames before and after it are given.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from pipeline.data.damage import Damage
from pipeline.data.geometry import crop_geometry
from pipeline.data.image_folder import decoded_images, first_image, image_files
from pipeline.data.opening import MAX_PIXELS, complaint, opened, reason
from pipeline.data.orientation import Upright
from pipeline.data.times import Pace, pace_of, timed
from pipeline.errors import DecodeError

__all__ = ["Frame", "VideoHeader", "content_sha256", "iter_frames", "iter_raw_frames", "read_header"]

FOLDER_FPS = 25.0


@dataclass(frozen=True)
class VideoHeader:
    """What is known of a video before it is decoded.

    Attributes:
        path: the file or folder.
        width, height: pixels, after rotation.
        fps: mean frame rate the container states; 25 for a folder of images or where it states none.
        packets: video packets in the file (images in a folder): the planned number of frames.
        bytes: size on disk.
        declared: frames that the container says it holds; 0 where it says nothing.
    """

    path: Path
    width: int
    height: int
    fps: float
    packets: int
    bytes: int
    declared: int = 0


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        image: (height, width, 3) uint8 RGB; None where the picture was not asked for.
        time_s: seconds from the video's first frame, rising (`pipeline.data.times`).
    """

    image: np.ndarray | None
    time_s: float


def read_header(path: Path, alive: Callable[[], None] | None = None, *, max_pixels: int = MAX_PIXELS) -> VideoHeader:
    """Read a video's header and count its non-empty packets.

    Nothing is decoded but the first frame, because rotation is known from a frame only.

    Args:
        path: a video file, or a folder of numbered images.
        alive: called every thousand packets, as a sign of life.
        max_pixels: width x height of the largest picture that is decoded.

    Raises:
        DecodeError: the file is missing, empty, not a video, too large, or its first frame cannot be decoded; of a folder, none of
            its images can be.
    """
    if path.is_dir():
        images = image_files(path)
        width, height = Upright().size(first_image(path, images, max_pixels))
        size = sum(image.stat().st_size for image in images if image.is_file())
        return VideoHeader(path, width, height, FOLDER_FPS, len(images), size)
    packets, first, failure = 0, None, None
    with opened(path, max_pixels=max_pixels) as (container, stream):
        for packet in _demuxed(container, stream):
            if isinstance(packet, Exception):
                failure = packet
                break
            packets += packet.size > 0
            if alive and packets % 1000 == 0:
                alive()
            if first is None:
                try:
                    first = next(iter(packet.decode()), None)
                except (av.error.FFmpegError, ValueError) as error:
                    failure = error
        fps, declared = _fps(stream), stream.frames
    if first is None:
        detail = f": {complaint(path, max_pixels) or reason(failure)}" if failure else ""
        raise DecodeError(f"{path}: no frame could be decoded{detail}") from failure
    return VideoHeader(path, *Upright().size(first), fps, packets, path.stat().st_size, declared)


def iter_frames(
    path: Path,
    *,
    short_side: int = 256,
    crop: int = 224,
    wanted: Container[int] | None = None,
    damage: Damage | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Frame]:
    """Decode a video once, in bounded memory, as the backbone sees it.

    The resize is one step of libswscale (bilinear) straight from the decoder's pixel format to RGB; smaller videos are
    enlarged.

    Args:
        path: a video file, or a folder of numbered images.
        short_side: shorter side after resizing, pixels.
        crop: side of the centre crop, pixels, at most short_side.
        wanted: numbers of the frames whose pictures are needed; None for all. The others are decoded and not converted.
        damage: where damage is counted; None makes it an error.
        max_pixels: width x height of the largest picture that is decoded.

    Yields:
        Frames of (crop, crop, 3).

    Raises:
        DecodeError: naming the file, the frame reached, and FFmpeg's message.
        ValueError: crop larger than short_side.
    """
    if crop > short_side:
        raise ValueError(f"crop: expected at most the short side of {short_side} pixels, got {crop}")

    def prepare(frame: av.VideoFrame) -> np.ndarray:
        geometry = crop_geometry(*upright.size(frame), short_side, crop)
        image = upright.image(frame, geometry.width, geometry.height)
        return image[geometry.top : geometry.top + crop, geometry.left : geometry.left + crop]

    upright = Upright()
    return _prepared(path, prepare, wanted, damage, max_pixels)


def iter_raw_frames(
    path: Path, *, wanted: Container[int] | None = None, damage: Damage | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Frame]:
    """Decode a video once, in bounded memory, at its own size; arguments as `iter_frames`.

    Yields:
        Frames of (height, width, 3), rotation applied.

    Raises:
        DecodeError: as `iter_frames`.
    """
    upright = Upright()
    return _prepared(path, lambda frame: upright.image(frame, *upright.size(frame)), wanted, damage, max_pixels)


def _prepared(
    path: Path,
    prepare: Callable[[av.VideoFrame], np.ndarray],
    wanted: Container[int] | None,
    damage: Damage | None,
    max_pixels: int,
) -> Iterator[Frame]:
    for index, (frame, time_s) in enumerate(timed(_decoded(path, damage, max_pixels))):
        if wanted is not None and index not in wanted:
            yield Frame(None, time_s)
            continue
        try:
            image = np.ascontiguousarray(prepare(frame))
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(f"{path}: frame {index} cannot be converted to RGB: {reason(error)}", frame=index) from error
        yield Frame(image, time_s)


def _fps(stream: av.VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or FOLDER_FPS)


def _decoded(path: Path, damage: Damage | None, max_pixels: int) -> Iterator[tuple[av.VideoFrame, Pace]]:
    """Frames as the decoder gives them, with what the container says of their times."""
    if path.is_dir():
        yield from ((image, Pace(FOLDER_FPS)) for image in decoded_images(path, damage, max_pixels))
        return
    count = 0
    with opened(path, max_pixels=max_pixels) as (container, stream):
        # One thread: FFmpeg's slice threads hide damage, and its frame threads lose good frames at the end of a damaged video.
        # Several videos are decoded at once instead.
        stream.thread_type = "NONE"
        pace = pace_of(container, _fps(stream))
        packets = 0
        for packet in _demuxed(container, stream):
            try:
                if isinstance(packet, Exception):
                    raise packet
                packets += packet.size > 0
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                if damage is None:
                    raise DecodeError(f"{path}: decoding failed at frame {count}: {reason(error)}", count) from error
                damage.note(count, reason(error))
                frames = []
            for frame in frames:
                if frame.is_corrupt and damage is not None:
                    damage.note(count, "the decoder calls the frame corrupt", corrupt=True)
                yield frame, pace
                count += 1
        if damage is not None and "mov" in container.format.name and packets < stream.frames:
            # An MP4 lists its packets, so this one was cut; the counts of other containers are only claims.
            damage.note(count, f"the file ends after {packets} of {stream.frames} packets")
    if count == 0:
        raise DecodeError(f"{path}: no frame could be decoded" + (f": {damage.message}" if damage else ""), 0)


def _demuxed(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet | Exception]:
    """The stream's packets; where the container cannot be read on, the error is the last."""
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, ValueError) as error:
            yield error
            return


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's content, or of the names and contents of a folder's images in order; 64 hex digits.

    Raises OSError when the file cannot be read, DecodeError for a folder without images.
    """
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    digest = hashlib.sha256()
    for image in image_files(path):
        content = content_sha256(image) if image.is_file() else "00" * 32  # a link that leads nowhere is an image that is damaged
        digest.update(os.fsencode(image.name) + b"\0" + bytes.fromhex(content))
    return digest.hexdigest()
