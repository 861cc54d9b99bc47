"""From cached maps to reduced bags: with frozen features the cue and the pattern vectors are constants
(docs/method.md).

Heads that change the maps before they reduce them (`channel_attention`) get the maps themselves, anew in every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cache import FeatureStore
from pipeline.config import Head
from pipeline.errors import LengthMismatch
from pipeline.models.reduction import ChannelMoments, SpatialPatterns, Standardizer, pattern_vectors
from pipeline.progress import Progress

__all__ = [
    "Bags",
    "CachedBags",
    "Windows",
    "fit_standardizer",
    "in_parts",
    "reduce_bags",
    "reduce_maps",
    "reduce_windows",
]

WINDOWS_AT_ONCE = 32
Windows = Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Bags:
    """Reduced training bags of all videos.

    Attributes:
        video_ids: N ids, sorted, so that a result does not depend on the order of the manifest.
        cues: (N, V, D) float32, eq. 1.
        patterns: (N, V, T, D) float32, eq. 6 or pooled maps, as the head's settings have it.
    """

    video_ids: tuple[str, ...]
    cues: torch.Tensor
    patterns: torch.Tensor

    def subset(self, chosen: torch.Tensor) -> Bags:
        """The videos where `chosen`, (N,) bool, is True."""
        return Bags(_where(self.video_ids, chosen), self.cues[chosen], self.patterns[chosen])

    def take(self, videos: torch.Tensor, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What a head sees of some bags, by the numbers (B,) of video and view: cues (B, D) and patterns (B, T, D)."""
        rows = videos * self.cues.shape[1] + views
        return self.cues.flatten(0, 1).index_select(0, rows), self.patterns.flatten(0, 1).index_select(0, rows)

    def parts(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All bags as of `take`, view after view of video after video, as many at a time as memory is there for."""
        yield self.cues.flatten(0, 1), self.patterns.flatten(0, 1)


@dataclass(frozen=True)
class CachedBags:
    """Training bags for heads that take maps, which stay in the cache until they are asked for.

    Attributes:
        store, namespace: where they lie.
        video_ids, cues: as of `Bags`.
        standardizer: of the maps, or None.
    """

    store: FeatureStore
    namespace: str
    video_ids: tuple[str, ...]
    cues: torch.Tensor
    standardizer: Standardizer | None

    def subset(self, chosen: torch.Tensor) -> CachedBags:
        """As of `Bags`."""
        return replace(self, video_ids=_where(self.video_ids, chosen), cues=self.cues[chosen])

    def take(self, videos: torch.Tensor, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As of `Bags`, but maps (B, T, H, W, D) in place of patterns."""
        names = [self.video_ids[i] for i in videos.tolist()]
        maps = [
            self.store.reader(self.namespace, v).features(view) for v, view in zip(names, views.tolist(), strict=True)
        ]
        live = torch.from_numpy(np.stack(maps)).float()
        return self.cues[videos, views], self.standardizer.maps(live) if self.standardizer else live

    def parts(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As of `Bags`, a video at a time."""
        videos, views = self.cues.shape[:2]
        for number in range(videos):
            yield self.take(torch.full((views,), number), torch.arange(views))


def _where(names: Sequence[str], chosen: torch.Tensor) -> tuple[str, ...]:
    return tuple(name for name, keep in zip(names, chosen.tolist(), strict=True) if keep)


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
                moments.update(torch.from_numpy(maps).float())
    return moments.finish(offset)


def reduce_bags(
    store: FeatureStore,
    namespace: str,
    video_ids: Sequence[str],
    head: Head,
    standardizer: Standardizer | None,
    progress: Progress | None = None,
) -> Bags | CachedBags:
    """One pass over the training maps: eqs. 1, 2, 5 and 6 of every view of every video; only eq. 1 for a head that
    takes maps.

    Raises LengthMismatch when a video has another number of views or segments than the first.
    """
    ordered = tuple(sorted(video_ids))
    shape = store.reader(namespace, ordered[0]).shape
    views, segments, _, _, channels = shape
    # Filled in place: see `pipeline.stages.scoring.score.score_video`.
    cues = torch.empty(len(ordered), views, channels)
    takes_maps = head.kept() is None
    patterns = torch.empty(0 if takes_maps else len(ordered), views, segments, channels)
    for number, video_id in enumerate(ordered):
        if progress:
            progress(number, len(ordered), "reducing feature maps")
        reader = store.reader(namespace, video_id)
        if reader.shape != shape:
            raise LengthMismatch(
                f"{namespace}/{video_id}: expected maps {shape}, as of {ordered[0]}, got {reader.shape}"
            )
        for view, cached in enumerate(reader.cue()):
            cue = video_cue(cached, standardizer)
            cues[number, view] = cue[0]
            done = 0
            for part in (
                () if takes_maps else _reduce(reader.iter_clips(view, WINDOWS_AT_ONCE), cue, head, standardizer)
            ):
                vectors = part.vectors[0]
                patterns[number, view, done : (done := done + len(vectors))] = vectors
    return CachedBags(store, namespace, ordered, cues, standardizer) if takes_maps else Bags(ordered, cues, patterns)


def reduce_windows(
    store: FeatureStore, namespace: str, video_id: str, head: Head, standardizer: Standardizer | None
) -> Windows:
    """Stream a test video: yields (cue (1, D), vectors (1, n, D), chosen positions (1, n, k)) of n windows at a time;
    of pooled maps no positions are chosen, and k is 0. For a head that takes maps the vectors are maps (1, n, H, W, D),
    and k is 0.

    The cue is the maximum over all windows, kept while the features were written (docs/method.md).
    """
    reader = store.reader(namespace, video_id)
    cue = video_cue(reader.cue()[0], standardizer)
    for patterns in _reduce(reader.iter_clips(0, WINDOWS_AT_ONCE), cue, head, standardizer):
        yield cue, patterns.vectors, patterns.positions


def in_parts(stream: Windows, windows: int, context: int | None) -> Windows:
    """The stream of a video in parts of about equal length, each what a head with a context sees at a time.

    Args:
        stream: of `reduce_windows`.
        windows: W of the video.
        context: about how many windows a part may hold; None leaves the stream as it is.
    """
    if context is None:
        yield from stream
        return
    size = -(-windows // -(-windows // context))
    waiting: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for piece in stream:
        waiting.append(piece)
        if sum(vectors.shape[1] for _, vectors, _ in waiting) >= size:
            yield _join(waiting)
            waiting = []
    if waiting:
        yield _join(waiting)


def _join(
    pieces: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    cues, vectors, positions = zip(*pieces, strict=True)
    return cues[0], torch.cat(vectors, dim=1), torch.cat(positions, dim=1)


def video_cue(cached: np.ndarray, standardizer: Standardizer | None) -> torch.Tensor:
    """The cached running maximum (D,) as the cue (1, D) of the maps that the head sees."""
    cue = torch.from_numpy(np.asarray(cached, dtype=np.float32))[None]
    return standardizer.cue(cue) if standardizer else cue


def reduce_maps(maps: torch.Tensor, cue: torch.Tensor, head: Head) -> SpatialPatterns:
    """What a head of these settings sees of maps (B, T, H, W, D) whose cue is (B, D)."""
    if (kept := head.kept()) is None:
        return SpatialPatterns(maps, torch.empty(*maps.shape[:2], 0, dtype=torch.int64))
    return pattern_vectors(maps, cue, **kept)


def _reduce(chunks: Iterator, cue: torch.Tensor, head: Head, standardizer: Standardizer | None) -> Iterator:
    with torch.inference_mode():
        for _, maps in chunks:
            live = torch.from_numpy(maps).float()[None]
            if standardizer:
                live = standardizer.maps(live)
            yield reduce_maps(live, cue, head)
