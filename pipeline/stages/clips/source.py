"""A video as clips are made of it: every frame in its place and upright, converted only where its picture is wanted,
and the sound beside it on the same clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import av
import numpy as np
from av.audio.resampler import AudioResampler

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.opening import opened, reason
from pipeline.data.decoding.orientation import Upright
from pipeline.data.decoding.placing import Placed, placed_frames
from pipeline.data.decoding.times import timed
from pipeline.errors import DecodeError

__all__ = ["Piece", "Shown", "Sound", "shown_frames"]

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
LONGEST_JUMP_S = 10.0
"""A larger step of the sound's clock is a clock that began anew, as in transport streams that were joined."""


class Shown:
    """One frame; its picture can be had until the next frame is.

    Attributes:
        index: its number, from 0.
        time_s: seconds from the video's first frame on.
        origin_s: what the container's clock said at the first frame, as far as this frame tells; None where it has no
            stamp.
    """

    def __init__(self, path: Path, upright: Upright, placed: Placed, index: int, time_s: float) -> None:
        self._path, self._upright, self._frame = path, upright, placed.frame
        self.index, self.time_s = index, time_s
        self.origin_s = None if placed.stamp_s is None else placed.stamp_s - time_s

    def size(self) -> tuple[int, int]:
        """(width, height) of its picture."""
        return self._upright.size(self._frame)

    def picture(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """(height, width, 3) uint8 RGB, upright, of another (width, height) than the video's own where that is given.
        Raises DecodeError."""
        try:
            return np.ascontiguousarray(self._upright.image(self._frame, *(size or self._upright.size(self._frame))))
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(
                f"{self._path}: frame {self.index} cannot be converted to RGB: {reason(error)}", frame=self.index
            ) from error


def shown_frames(path: Path, damage: Damage) -> Iterator[Shown]:
    """All frames of a video file or a folder of images, as `pipeline.data.decoding` numbers and times them. Raises
    DecodeError."""
    upright = Upright()
    stamped = ((placed, placed.stamp_s, placed.pace) for placed in placed_frames(path, damage))
    for index, (placed, time_s) in enumerate(timed(stamped)):
        yield Shown(path, upright, placed, index, time_s)


@dataclass(frozen=True, eq=False)
class Piece:
    """Some sound: (channels, n) float32 in [-1, 1], from `start_s` on."""

    start_s: float
    samples: np.ndarray


class Sound:
    """The sound of a video file, read forwards once. Use it in a `with` block.

    Attributes:
        rate: samples a second; 0 for a video without sound.
        channels: 1 or 2.
        errors: packets that could not be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._stack, self._held = ExitStack(), Piece(0.0, np.zeros((1, 0), np.float32))
        self.rate, self.channels, self.errors, self.origin_s = 0, 1, 0, 0.0
        self._pieces: Iterator[Piece] = iter(())
        if path.is_dir():
            return
        container, _ = self._stack.enter_context(opened(path))
        stream = cast(av.AudioStream | None, container.streams.best("audio"))
        if stream is None or stream.codec_context is None or not stream.rate:
            return
        self.rate = stream.rate if stream.rate in AAC_RATES else 48000
        self.channels = min(2, max(1, stream.channels))
        self._pieces = self._decoded(container, stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def until(self, time_s: float) -> list[Piece]:
        """What has not been taken of the sound before `time_s`, seconds from the video's first frame on."""
        found: list[Piece] = []
        while True:
            held = self._held
            if held.samples.shape[1] == 0:
                piece = next(self._pieces, None)
                if piece is None:
                    return found
                self._held = piece
                continue
            here = round((time_s - (held.start_s - self.origin_s)) * self.rate)
            if here <= 0:
                return found
            taken, rest = held.samples[:, :here], held.samples[:, here:]
            found.append(Piece(held.start_s - self.origin_s, taken))
            self._held = Piece(held.start_s + taken.shape[1] / self.rate, rest)

    def _decoded(self, container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[Piece]:
        """By the container's clock."""
        resampler = AudioResampler("fltp", "stereo" if self.channels == 2 else "mono", self.rate)
        expected_s: float | None = None
        shift_s = 0.0
        for frame in self._frames(container, stream):
            start_s = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
            if start_s is None:
                start_s = expected_s or 0.0
            elif expected_s is not None and abs(start_s + shift_s - expected_s) > LONGEST_JUMP_S:
                shift_s = expected_s - start_s
            start_s = start_s + shift_s if frame.pts is not None else start_s
            expected_s = start_s + frame.samples / frame.sample_rate
            frame.pts = None
            for part in resampler.resample(frame):
                samples = part.to_ndarray()
                yield Piece(start_s, samples)
                start_s += samples.shape[1] / self.rate

    def _frames(self, container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, ValueError):
                self.errors += 1
                return  # the file ends here
            if packet is None:
                return
            try:
                yield from packet.decode()
            except (av.error.FFmpegError, ValueError):
                self.errors += 1
