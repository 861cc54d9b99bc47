"""From cached maps to reduced bags: with frozen features the cue and the pattern vectors are constants (METHOD, fact 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cache import FeatureStore
from pipeline.config import Head
from pipeline.errors import LengthMismatch
from pipeline.models.reduction import ChannelMoments, Standardizer, spatial_patterns
from pipeline.stages.recipes import Progress

__all__ = ["Bags", "fit_standardizer", "reduce_bags", "reduce_windows"]

WINDOWS_AT_ONCE = 32


@dataclass(frozen=True)
class Bags:
    """Reduced training bags of all videos.

    Attributes:
        video_ids: N ids, sorted, so that a result does not depend on the order of the manifest.
        cues: (N, V, D) float32, eq. 1.
        patterns: (N, V, T, D) float32, eq. 6.
    """

    video_ids: tuple[str, ...]
    cues: torch.Tensor
    patterns: torch.Tensor

    def subset(self, chosen: torch.Tensor) -> Bags:
        """The videos where `chosen`, (N,) bool, is True."""
        video_ids = tuple(video_id for video_id, keep in zip(self.video_ids, chosen.tolist(), strict=True) if keep)
        return Bags(video_ids, self.cues[chosen], self.patterns[chosen])


def fit_standardizer(
    store: FeatureStore, namespace: str, video_ids: Sequence[str], offset: float, progress: Progress | None = None
) -> Standardizer:
    """Mean and deviation of every channel over the training maps; labels are not looked at."""
    moments = ChannelMoments()
    for number, video_id in enumerate(sorted(video_ids)):
        if progress:
            progress(number, len(video_ids), "channel statistics")
        reader = store.reader(namespace, video_id)
        for view in range(reader.shape[0]):
            for _, maps in reader.iter_clips(view, WINDOWS_AT_ONCE):
                moments.update(torch.from_numpy(np.asarray(maps, dtype=np.float32)))
    return moments.finish(offset)


def reduce_bags(
    store: FeatureStore,
    namespace: str,
    video_ids: Sequence[str],
    head: Head,
    standardizer: Standardizer | None,
    progress: Progress | None = None,
) -> Bags:
    """One pass over the training maps: eqs. 1, 2, 5 and 6 of every view of every video.

    Raises LengthMismatch when a video has another number of views or segments than the first.
    """
    ordered = tuple(sorted(video_ids))
    shape = store.reader(namespace, ordered[0]).shape
    views, segments, _, _, channels = shape
    # Filled in place: see `pipeline.stages.score.score_video`.
    cues = torch.empty(len(ordered), views, channels)
    patterns = torch.empty(len(ordered), views, segments, channels)
    for number, video_id in enumerate(ordered):
        if progress:
            progress(number, len(ordered), "reducing feature maps")
        reader = store.reader(namespace, video_id)
        if reader.shape != shape:
            raise LengthMismatch(f"{namespace}/{video_id}: expected maps {shape}, as of {ordered[0]}, got {reader.shape}")
        for view in range(views):
            cue = video_cue(reader.cue()[view], standardizer)
            cues[number, view] = cue[0]
            done = 0
            for part in _reduce(reader.iter_clips(view, WINDOWS_AT_ONCE), cue, head, standardizer):
                vectors = part.vectors[0]
                patterns[number, view, done : (done := done + len(vectors))] = vectors
    return Bags(ordered, cues, patterns)


def reduce_windows(
    store: FeatureStore, namespace: str, video_id: str, head: Head, standardizer: Standardizer | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Stream a test video: yields (cue (1, D), pattern vectors (1, n, D), chosen positions (1, n, k)) of n windows at a time.

    The cue is the maximum over all windows, kept while the features were written (METHOD, fact 3).
    """
    reader = store.reader(namespace, video_id)
    cue = video_cue(reader.cue()[0], standardizer)
    for patterns in _reduce(reader.iter_clips(0, WINDOWS_AT_ONCE), cue, head, standardizer):
        yield cue, patterns.vectors, patterns.positions


def video_cue(cached: np.ndarray, standardizer: Standardizer | None) -> torch.Tensor:
    """The cached running maximum (D,) as the cue (1, D) of the maps that the head sees."""
    cue = torch.from_numpy(np.asarray(cached, dtype=np.float32))[None]
    return standardizer.cue(cue) if standardizer else cue


def _reduce(chunks: Iterator, cue: torch.Tensor, head: Head, standardizer: Standardizer | None) -> Iterator:
    with torch.inference_mode():
        for _, maps in chunks:
            live = torch.from_numpy(np.asarray(maps, dtype=np.float32))[None]
            if standardizer:
                live = standardizer.maps(live)
            yield spatial_patterns(live, cue, head.k)
