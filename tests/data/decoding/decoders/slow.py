"""As `numbered`, but slow: half a second per frame."""

from __future__ import annotations

import time

from decoders import numbered
from decoders.numbered import read_header

__all__ = ["iter_frames", "read_header"]


def iter_frames(path, fit, **options):
    for frame in numbered.iter_frames(path, fit, **options):
        time.sleep(0.5)
        yield frame
