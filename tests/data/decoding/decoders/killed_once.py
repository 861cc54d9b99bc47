"""A decoder that is killed once, at the header or in the middle of the video.

A file beside the video asks for it: VIDEO.header or VIDEO.frame. It is removed, so that the next try succeeds. Before
that, the decoder waits until another video's decoder has begun; the next try notes whether that one lives.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from pipeline.data.decoding.decode import Frame, VideoHeader


def read_header(path, alive=None):
    other = path.with_name({"b": "c"}.get(path.stem, path.stem)).with_suffix(".pid")
    if path.with_suffix(".killed").exists():
        path.with_suffix(".alone").write_text(str(not _lives(int(other.read_text()))))
    path.with_suffix(".pid").write_text(str(os.getpid()))
    while not other.exists():
        time.sleep(0.01)
    _be_killed(path, "header")
    return VideoHeader(path, 8, 8, 10.0, 5, 1)


def iter_frames(path, fit, *, wanted=None, damage=None):
    for index in range(5):
        if index == 2:
            _be_killed(path, "frame")
        yield Frame(np.full((fit.height, fit.width, 3), index, np.uint8), index / 10)


def _be_killed(path, where):
    mark = path.with_suffix(f".{where}")
    if mark.exists():
        mark.rename(path.with_suffix(".killed"))
        os.kill(os.getpid(), signal.SIGKILL)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False
