"""The sound of a video, on the clock of its frames.

The clock of a file may begin anew, as in transport streams that were joined. Sound and pictures then do so at different
packets, and their stamps say nothing of how long the part before was. So the sound of a part is placed by what that
part's own clock said when its frames were shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self, cast

import av
import numpy as np
from av.audio.resampler import AudioResampler

from pipeline.data.decoding.opening import opened
from pipeline.data.decoding.placing import mean_rate
from pipeline.data.decoding.times import Pace
from pipeline.remote import AnyPath

__all__ = ["Origins", "Piece", "Sound"]

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
STEP_BACK_S = 0.5
"""A clock that goes back by more has begun anew; by less, its stamps are inexact."""
SETTLED_S = 0.02
SIDE_BY_SIDE_S = 1.0
PATIENCE_S = 2.0
"""For so long the sound of a new part waits for frames of that part, unless the packets say that there are some.
Without any, only the sound's clock jumped."""


class Origins:
    """What the container's clock said when the video began: one number, in seconds, for each part of the video.

    A new part begins where the clock begins anew.
    """

    def __init__(self) -> None:
        self._found: list[float] = []
        self._before_s: float | None = None

    def __len__(self) -> int:
        """How many parts have been seen."""
        return len(self._found)

    def of(self, part: int) -> float:
        """That of a part, from 0; of the last one that was seen for those after it."""
        return self._found[min(part, len(self._found) - 1)] if self._found else 0.0

    def see(self, index: int, origin_s: float | None) -> None:
        """Take note of a frame: its number, and what it tells; None where it has no stamp."""
        if origin_s is None:
            return
        settled = self._before_s is not None and abs(origin_s - self._before_s) < SETTLED_S
        self._before_s = origin_s
        if index <= 1 or not self._found:  # the second frame knows better where the first one's stamp was wrong
            self._found = [origin_s]
        elif settled and abs(origin_s - self._found[-1]) > STEP_BACK_S:  # two agree: the clock began anew
            self._found.append(origin_s)
        elif settled:
            self._found[-1] = origin_s


@dataclass(frozen=True, eq=False)
class Piece:
    """Some sound.

    Attributes:
        start_s: when it begins, seconds.
        samples: (channels, n) float32 in [-1, 1].
        part: of the video by whose clock `start_s` is, from 0; the clock of some files begins anew.
    """

    start_s: float
    samples: np.ndarray
    part: int = 0


class Sound:
    """The sound of a video file, read forwards once. Use it in a `with` block.

    Args:
        path: the video; a folder of images has no sound.

    Attributes:
        rate: samples a second; 0 for a video without sound.
        channels: 1 or 2.
        errors: packets that could not be decoded.
        origins: to be told of every frame, before the sound up to it is taken.
    """

    def __init__(self, path: AnyPath) -> None:
        self._stack, self._held = ExitStack(), Piece(0.0, np.zeros((1, 0), np.float32))
        self.rate, self.channels, self.errors, self.origins = 0, 1, 0, Origins()
        self._taken_s = 0.0
        self._part_of_video, self._shown_s = 0, 0.0  # of the packets read so far; seconds of that part
        self._longest_s = float("inf")
        self._pieces: Iterator[Piece] = iter(())
        if path.is_dir():
            return
        container, video = self._stack.enter_context(opened(path))
        stream = cast(av.AudioStream | None, container.streams.best("audio"))
        if stream is None or stream.codec_context is None or not stream.rate:
            return
        self.rate = stream.rate if stream.rate in AAC_RATES else 48000
        self.channels = min(2, max(1, stream.channels))
        self._longest_s = Pace.of(container, mean_rate(video)).longest_s
        self._pieces = self._decoded(container, stream, video)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def until(self, time_s: float) -> list[Piece]:
        """What has not been taken of the sound before `time_s`. Seconds are from the video's first frame on."""
        found: list[Piece] = []
        while True:
            held = self._held
            if held.samples.shape[1] == 0:
                piece = next(self._pieces, None)
                if piece is None:
                    return found
                self._held = piece
                continue
            if held.part >= len(self.origins) > 0 and (
                held.part <= self._part_of_video or time_s < self._taken_s + PATIENCE_S
            ):
                return found
            start_s = held.start_s - self.origins.of(held.part)
            here = round((time_s - start_s) * self.rate)
            if here <= 0:
                return found
            taken, rest = held.samples[:, :here], held.samples[:, here:]
            found.append(Piece(start_s, taken, held.part))
            self._taken_s = start_s + taken.shape[1] / self.rate
            self._held = Piece(held.start_s + taken.shape[1] / self.rate, rest, held.part)

    def _decoded(
        self, container: av.container.InputContainer, stream: av.AudioStream, video: av.VideoStream
    ) -> Iterator[Piece]:
        """By the container's clock."""
        resampler = AudioResampler("fltp", "stereo" if self.channels == 2 else "mono", self.rate)
        expected_s: float | None = None
        part = 0
        for frame in self._frames(container, stream, video):
            start_s = Pace.seconds(frame.pts, frame.time_base)
            if start_s is None:
                start_s = expected_s or 0.0
            elif self._began_anew(expected_s, start_s):
                # Packets of sound and pictures lie side by side in the file: a part of which many pictures have come is
                # not the one that begins here.
                part = max(part + 1, self._part_of_video + (self._shown_s > SIDE_BY_SIDE_S))
            expected_s = start_s + frame.samples / frame.sample_rate
            frame.pts = None
            for resampled in resampler.resample(frame):
                samples = resampled.to_ndarray()
                yield Piece(start_s, samples, part)
                start_s += samples.shape[1] / self.rate

    def _began_anew(self, before_s: float | None, stamp_s: float) -> bool:
        return before_s is not None and not -STEP_BACK_S <= stamp_s - before_s <= self._longest_s

    def _frames(
        self, container: av.container.InputContainer, stream: av.AudioStream, video: av.VideoStream
    ) -> Iterator[av.AudioFrame]:
        """The sound's frames; on the way, how often the clock of the video's packets has begun anew."""
        packets = container.demux(stream, video)
        last_s: float | None = None
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, ValueError):
                self.errors += 1
                return  # the file ends here
            if packet is None:
                return
            if packet.stream.index == video.index:
                stamp_s = Pace.seconds(packet.dts, packet.time_base)
                if stamp_s is not None and self._began_anew(last_s, stamp_s):
                    self._part_of_video, self._shown_s = self._part_of_video + 1, 0.0
                elif stamp_s is not None and last_s is not None:
                    self._shown_s += stamp_s - last_s
                last_s = last_s if stamp_s is None else stamp_s
                continue
            try:
                yield from cast(list[av.AudioFrame], packet.decode())
            except (av.error.FFmpegError, ValueError):
                self.errors += 1
