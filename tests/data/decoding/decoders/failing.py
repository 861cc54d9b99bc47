"""A decoder that fails as the video's name asks."""

from __future__ import annotations

import ctypes
import time

import numpy as np

from pipeline.data.decoding.decode import Frame, VideoHeader


def read_header(path, alive=None):
    if "header" in path.name:
        ctypes.string_at(0)
    return VideoHeader(path, 8, 8, 10.0, 5, 1)


def iter_frames(path, fit, *, wanted=None, damage=None):
    count = 7 if "longer" in path.name else 5
    for index in range(count):
        if index == 3 and "crash" in path.name:
            ctypes.string_at(0)  # a segmentation fault
        if index == 3 and "hang" in path.name:
            time.sleep(600)
        if index == 3 and "raise" in path.name:
            raise ValueError("a library's message")
        if index == 3 and "exit" in path.name:
            raise SystemExit(3)
        image = np.full((fit.height, fit.width, 3), index, np.uint8) if wanted is None or index in wanted else None
        yield Frame(image, index / 10)
