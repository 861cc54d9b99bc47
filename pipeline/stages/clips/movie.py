"""Writing a video: H.264 and AAC in an MP4, each frame at its own time, the sound on the same clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from pipeline.errors import OutputError
from pipeline.stages.clips.sound import Piece

__all__ = ["ENCODER", "Movie", "even", "resized"]

ENCODER = "libx264" if "libx264" in av.codecs_available else "mpeg4"
TICKS = {"libx264": 120_000, "mpeg4": 60_000}
"""Of a second: whole numbers of them are frames at 23.976, 24, 25, 29.97, 30, 50 and 59.94 a second. MPEG-4 has none
above 65535, and does without those of 23.976."""
OPTIONS = {
    # No B-frames: the first frame is then at time 0 without an edit list, which not every player heeds.
    "libx264": {"crf": "18", "preset": "veryfast", "bf": "0", "g": "60", "threads": "2"},
    "mpeg4": {"qscale": "3", "g": "60"},
}
BT709 = 1
CHUNK = 1024
JITTER_S = 0.01
"""By less than this a sound's clock may be off from the samples so far before it is set right."""


class Movie:
    """One file that is being written.

    Args:
        path: of the file.
        width, height: pixels of the pictures; an odd side gets one more column or row, for H.264 has none.
        fps: mean frame rate, for what players say of it.
        sound: (rate, channels); None without sound.
        encoder: of the pictures.
        options: of the encoder, in place of some of `OPTIONS`.

    Raises:
        OutputError: the file cannot be written; from every method.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: float,
        sound: tuple[int, int] | None = None,
        encoder: str = ENCODER,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.frames = 0
        self._ticks, self._last, self._sampled = TICKS[encoder], -1, 0
        self._path, self._size = path, (width, height)
        with self._named():
            self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        video = self._container.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
        self._video = cast(av.VideoStream, video)
        self._video.width, self._video.height, self._video.pix_fmt = even(width), even(height), "yuv420p"
        context = self._video.codec_context
        context.time_base = Fraction(1, self._ticks)
        context.options = OPTIONS[encoder] | dict(options or {})
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = 1  # 16 to 235
        self._audio: av.AudioStream | None = None
        if sound:
            self._rate, channels = sound
            self._layout = "stereo" if channels == 2 else "mono"
            self._audio = self._container.add_stream("aac", rate=self._rate)
            self._audio.codec_context.layout = self._layout
            self._audio.codec_context.bit_rate = 96_000 * channels

    def picture(self, image: np.ndarray, time_s: float) -> None:
        """Add a frame.

        Args:
            image: (height, width, 3) uint8 RGB; one of another size, as in joined streams, is brought to the movie's.
            time_s: when it is shown, from 0 on, rising.
        """
        width, height = self._size
        if image.shape[:2] != (height, width):
            image = resized(image, width, height)
        odd = [(0, self._video.height - height), (0, self._video.width - width), (0, 0)]
        if any(after for _, after in odd):
            image = np.pad(image, odd, mode="edge")
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", dst_colorspace=BT709)
        self._last = max(self._last + 1, round(time_s * self._ticks))
        frame.pts, frame.time_base = self._last, Fraction(1, self._ticks)
        self._write(self._video.encode(frame))
        self.frames += 1

    def sound(self, pieces: Sequence[Piece], from_s: float) -> None:
        """Add sound, and silence where none comes.

        Args:
            pieces: in order of time. What lies before the movie's beginning, or was added already, is left out.
            from_s: the movie's beginning on the clock of the pieces, seconds.

        Raises:
            OutputError: the file cannot be written.
        """
        for piece in pieces if self._audio else ():
            place = round((piece.start_s - from_s) * self._rate)
            samples = piece.samples
            off = place - self._sampled
            if abs(off) > JITTER_S * self._rate or (self._sampled == 0 and off):
                if off > 0:
                    self._silence(off)
                else:
                    samples = samples[:, -off:]
            self._add(samples)

    def close(self, end_s: float) -> None:
        """Finish the file. `end_s` is when the last frame ends: the sound, if any, is filled up to there."""
        if self._audio:
            self._silence(round(end_s * self._rate) - self._sampled)
            self._write(self._audio.encode(None))
        self._write(self._video.encode(None))
        with self._named():
            self._container.close()

    def abandon(self) -> None:
        """Close the file as it is, whether or not that works."""
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()

    def _write(self, packets: Sequence[av.Packet]) -> None:
        with self._named():
            self._container.mux(packets)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors name the file that is written: without that they would be taken for those of the video."""
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}") from error

    def _silence(self, samples: int) -> None:
        channels = 2 if self._layout == "stereo" else 1
        while samples > 0:
            self._add(np.zeros((channels, min(samples, 64 * CHUNK)), np.float32))
            samples -= 64 * CHUNK

    def _add(self, samples: np.ndarray) -> None:
        if samples.shape[1] == 0 or self._audio is None:
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._sampled, Fraction(1, self._rate)
        self._sampled += samples.shape[1]
        self._write(self._audio.encode(frame))


def even(side: int) -> int:
    """The side of a picture as H.264 with half the colours stores it."""
    return side + side % 2


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture of another size.

    Args:
        image: (h, w, 3) uint8 RGB.
        width, height: of the result, pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return frame.reformat(width, height).to_ndarray()
