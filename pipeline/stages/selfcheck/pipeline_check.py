"""The way from a file to features in the cache, on the generated clip: decoder, backbone, cache."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cache import FeatureStore
from cache.objects import Objects
from pipeline.config import Experiment
from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.data.windows import window_indices
from pipeline.progress import silent
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.sources import experiment_workers
from pipeline.stages.selfcheck.clip import FPS, drawn_pictures, write_video
from pipeline.stages.selfcheck.features import difference
from pipeline.stages.selfcheck.findings import Check

__all__ = ["HEIGHT", "WIDTH", "check_decoding", "check_extraction", "scratch_url"]

FRAMES, WIDTH, HEIGHT = 24, 340, 256
MOST_LEVELS = 3.0
"""Of 255, mean over a picture. Colours are kept for blocks of four pixels; frames in a wrong order differ by more."""
MOST_DIFFERENCE = 2e-3
"""Relative difference of features that were stored as float16 from those that were not; seen: 3e-4."""
NAMESPACE, VIDEO_ID = "selfcheck", "clip"


def check_decoding(folder: Path) -> Check:
    """Write the clip to the folder, decode it, and compare its pictures and times with what was drawn.

    Raises:
        DecodeError: the clip cannot be decoded.
        OSError: it cannot be written.
    """
    drawn, path = drawn_pictures(FRAMES, WIDTH, HEIGHT), folder / "clip.mp4"
    write_video(path, drawn)
    frames = list(iter_raw_frames(path))
    if len(frames) != FRAMES:
        return Check("decoding", False, f"expected {FRAMES} frames of the generated clip, got {len(frames)}")
    pictures = np.stack([np.asarray(frame.image) for frame in frames])
    levels = np.abs(pictures.astype(np.int16) - drawn).mean(axis=(1, 2, 3))
    late = float(np.abs(np.array([frame.time_s for frame in frames]) - np.arange(FRAMES) / FPS).max())
    digest = hashlib.sha256(pictures.tobytes()).hexdigest()
    detail = (
        f"{FRAMES} frames of a generated clip, at most {levels.max():.2f} of 255 levels from the drawn ones (mean of a "
        f"picture; at most {MOST_LEVELS:g} expected), times to {late:.1g} s, SHA-256 of the pictures {digest[:16]}"
    )
    return Check("decoding", bool(levels.max() <= MOST_LEVELS and late < 1e-3), detail)


@contextmanager
def scratch_url(cache: str) -> Iterator[str]:
    """A place of its own in a cache, for things that are removed when the block ends."""
    root = f"selfcheck-{uuid.uuid4().hex}"
    try:
        yield f"{cache.rstrip('/')}/{root}"
    finally:
        Objects(cache).remove(root)


def check_extraction(extractor: Extractor, experiment: Experiment, folder: Path) -> Check:
    """Extract the clip in `folder` into the configured cache, read it, and compare with the same batch computed here.

    Raises:
        CacheError: the cache cannot be written or read.
        DecodeError: the clip cannot be decoded.
    """
    path, name = folder / "clip.mp4", f"cache at {experiment.paths.cache}"
    with scratch_url(experiment.paths.cache) as url:
        store = FeatureStore.open(url)
        with experiment_workers(experiment) as workers:
            for outcome in extractor.extract([(VIDEO_ID, path)], "test", store, NAMESPACE, workers, silent):
                if outcome.error:
                    raise outcome.error
            (stream,) = workers.streams([extractor.job(path, VIDEO_ID, "test")])
            _, pictures = workers.collect(stream)
        stored = store.reader(NAMESPACE, VIDEO_ID).features(0)
        damaged = store.verify(NAMESPACE)
    windows = window_indices(FRAMES, **experiment.test_sampling.model_dump())
    if damaged or len(stored) != len(windows):
        seen = damaged[0].problem if damaged else f"{len(stored)} windows"
        return Check(name, False, f"expected the features of {len(windows)} windows as they were written, got: {seen}")
    engine = extractor.engine
    features = engine.frames([pictures[number] for number in range(FRAMES)])
    reference = engine.clips([[features[number] for number in window] for window in windows.tolist()]).numpy()
    differs = difference(stored.astype(np.float32), reference)
    detail = f"written, read and verified; relative difference {differs:.2g}, at most {MOST_DIFFERENCE:g} expected"
    return Check(name, differs <= MOST_DIFFERENCE, detail)
