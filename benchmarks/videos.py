"""Generated videos for measurements."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def make_video(path: Path, width: int, height: int, frames: int, bits_per_pixel: float) -> None:
    """H.264, 30 frames/s, of a drifting pattern under noise."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 12, (8, height, width, 1))
    y, x = np.arange(height)[:, None], np.arange(width)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = int(30 * width * height * bits_per_pixel)
        for index in range(frames):
            wave = np.stack(
                [np.sin((x + shift * index) / 23) + np.sin((y - shift * index) / 31) for shift in (1, 2, 3)], axis=-1
            )
            image = np.clip(128 + 45 * wave + noise[index % 8], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
