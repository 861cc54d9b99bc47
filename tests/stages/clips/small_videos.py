"""Small videos whose frames are told by their brightness, and whose sound is silent but for clicks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 16_000


def level(number: int) -> int:
    """The brightness of a frame."""
    return 30 + 25 * (number % 8)


def write_video(
    path: Path,
    times_s: Sequence[float],
    *,
    clicks_s: Sequence[float] | None = None,
    size: tuple[int, int] = (96, 64),
    rotation: int = 0,
    begin_s: float = 0.0,
    codec: str = "libx264",
) -> Path:
    """Encode a frame for every time, dark on its lower half; with sound where clicks are given, even none.

    Args:
        path: of the file.
        times_s: when frames are shown.
        clicks_s: when the sound is loud, for 5 ms.
        size: (width, height) before rotation.
        rotation: degrees, in the file's display matrix.
        begin_s: what the container's clock says at time 0.
        codec: of the pictures: libx264, or mjpeg, at 25 frames a second whatever the times.
    """
    width, height = size
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = width, height, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec != "mjpeg":
            video.codec_context.time_base = Fraction(1, 60_000)
            video.options = {"crf": "10"}
        if rotation:
            video.set_display_rotation(rotation)
        sound = None
        if clicks_s is not None:
            sound = container.add_stream("aac", rate=RATE)
            sound.codec_context.layout = "mono"
        for number, time_s in enumerate(times_s):
            image = np.full((height, width, 3), level(number), np.uint8)
            image[height // 2 :] //= 2
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if codec != "mjpeg":
                frame.pts, frame.time_base = round((begin_s + time_s) * 60_000), Fraction(1, 60_000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            samples = np.zeros((1, round((times_s[-1] + 0.04) * RATE)), np.float32)
            for click_s in clicks_s:
                samples[:, round(click_s * RATE) : round((click_s + 0.005) * RATE)] = 0.8
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, round(begin_s * RATE), Fraction(1, RATE)
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def first_click_s(path: Path) -> float | None:
    """When the sound of a file, by its own clock, gets loud first; None where it never does, or there is none."""
    return next(iter(clicks_s(path)), None)


def clicks_s(path: Path) -> list[float]:
    """When the sound of a file, by its own clock, gets loud; once for each click."""
    found: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0) if container.streams.audio else ():
            loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.3)
            if len(loud):
                time_s = float(frame.pts * frame.time_base) + loud[0] / frame.sample_rate
                if not found or time_s > found[-1] + 0.1:
                    found.append(time_s)
    return found
