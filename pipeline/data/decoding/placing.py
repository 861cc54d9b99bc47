"""Every frame of a video in its place: a frame that the decoder does not give is replaced by its neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.hearing import HeardDecoder
from pipeline.data.decoding.image_folder import decoded_images
from pipeline.data.decoding.packets import open_packets
from pipeline.data.decoding.positions import Positions
from pipeline.data.decoding.times import Pace
from pipeline.errors import DecodeError
from pipeline.remote import AnyPath

__all__ = ["FOLDER_FPS", "Placed", "mean_rate", "placed_frames"]

FOLDER_FPS = 25.0


def mean_rate(stream: av.VideoStream) -> float:
    """Frames per second, as the container states or FFmpeg guesses; 25 without either."""
    return float(stream.average_rate or stream.guessed_rate or FOLDER_FPS)


@dataclass(frozen=True)
class Placed:
    """What is shown as one frame: its own picture, or a neighbour's where it is lost.

    Attributes:
        frame: the picture.
        stamp_s: when it is shown by the video's clock, seconds; None where that is not known.
        pace: how the video tells its times.
    """

    frame: av.VideoFrame
    stamp_s: float | None
    pace: Pace


def placed_frames(path: AnyPath, damage: Damage | None) -> Iterator[Placed]:
    """All frames of a video, in the order of their numbers.

    A lost frame shows the picture before it; at the start of the video, the one after it.

    Args:
        path: a video file, or a folder of numbered images.
        damage: where damage is counted; None makes it an error.

    Raises:
        DecodeError: naming the file, the frame reached, and FFmpeg's message.
    """
    source = _from_folder(path, damage) if path.is_dir() else _from_file(path, damage)
    last: av.VideoFrame | None = None
    early_stamps_s: list[float | None] = []
    for number, (frame, stamp_s, pace) in enumerate(source):
        if frame is None:
            assert damage is not None  # without it a lost frame is an error
            damage.lose(number)
        elif last is None:
            yield from (Placed(frame, early_s, pace) for early_s in early_stamps_s)
        last = last if frame is None else frame
        if last is None:
            early_stamps_s.append(stamp_s)
        else:
            yield Placed(last, stamp_s, pace)
    if last is None:
        raise DecodeError(f"{path}: no frame could be decoded" + (f": {damage.message}" if damage else ""), 0)


def _from_folder(path: AnyPath, damage: Damage | None) -> Iterator[tuple[av.VideoFrame | None, None, Pace]]:
    return ((image, None, Pace(FOLDER_FPS)) for image in decoded_images(path, damage))


def _from_file(path: AnyPath, damage: Damage | None) -> Iterator[tuple[av.VideoFrame | None, float | None, Pace]]:
    """Frames as the decoder gives them, None for a lost one, with their stamps in seconds and the video's pace."""
    count = 0
    with open_packets(path) as (container, stream, packets):
        # One thread: FFmpeg's slice threads hide damage, and its frame threads lose good frames at the end of a damaged
        # video. Several videos are decoded at once instead.
        stream.thread_type = "NONE"
        fps = mean_rate(stream)
        pace = Pace.of(container, fps)
        positions, decoder = Positions(stream, fps, timed=not pace.by_order), HeardDecoder(stream)
        for demuxed in packets:
            if damage is not None and demuxed.complaint:
                damage.note(count, demuxed.complaint)
            elif demuxed.error:
                raise DecodeError(
                    f"{path}: decoding failed at frame {count}: {demuxed.complaint}", count
                ) from demuxed.error
            if demuxed.complaint or demuxed.doubtful:
                positions.complained()
            if demuxed.packet is None:
                continue
            positions.sent(demuxed.packet, demuxed.shown)
            frames = decoder.decode(demuxed.packet)
            if decoder.complaint:
                if damage is None:
                    raise DecodeError(
                        f"{path}: decoding failed at frame {count}: {decoder.complaint}", count
                    ) from decoder.error
                damage.note(count, decoder.complaint)
                positions.failed()
            for frame in frames:
                lost = positions.lost_before(frame) if damage is not None else ()
                yield from ((None, pace.seconds(pts, stream.time_base), pace) for pts in lost)
                count += len(lost)
                if damage is not None and positions.is_corrupt(frame):
                    damage.note(count, "FFmpeg calls the frame corrupt", corrupt=True)
                yield frame, pace.stamp_s(frame), pace
                count += 1
        if damage is not None:
            yield from ((None, pace.seconds(pts, stream.time_base), pace) for pts in positions.lost_at_end())
