"""From the cached maps of training videos to the bags that heads see.

With frozen features the cue and the pattern vectors are constants (docs/method.md), so they are computed once. Heads
that change the maps before they reduce them (`channel_attention`) get the maps themselves in every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from cache import FeatureStore
from pipeline.config import Head
from pipeline.errors import LengthMismatch
from pipeline.models.reduction import ChannelMoments, Standardizer
from pipeline.progress import Progress
from pipeline.stages.training.bags import Bags, CachedBags
from pipeline.stages.training.windows import WINDOWS_AT_ONCE, live_maps, reduced, video_overview

__all__ = [
    "Reduction",
    "Sums",
    "VideoBag",
    "fit_standardizer",
    "reduce_bags",
    "video_bag",
    "video_sums",
]


class VideoBag(NamedTuple):
    """A training video reduced: V views of T segments.

    Attributes:
        shape: of its maps, (V, T, H, W, D).
        cues: (V, D) float32, eq. 1, or as `head.cue_of` says.
        patterns: (V, T, D) float32; None for a head that takes maps.
    """

    shape: tuple[int, ...]
    cues: torch.Tensor
    patterns: torch.Tensor | None


Sums = tuple[int, torch.Tensor, torch.Tensor]
"""See `ChannelMoments.sums`."""


@dataclass(frozen=True)
class Reduction:
    """How the training videos of a namespace are read, one by one: in this process, unless a subclass says otherwise.

    Attributes:
        store: the cache.
        namespace: of the maps.
    """

    store: FeatureStore
    namespace: str

    def sums(self, video_ids: Sequence[str]) -> Iterator[list[Sums]]:
        """What the maps of each video add to the channel statistics, in the order of the videos."""
        for video_id in video_ids:
            yield video_sums(self.store, self.namespace, video_id)

    def bags(
        self, video_ids: Sequence[str], head: Head, standardizer: Standardizer | None
    ) -> Iterator[tuple[str, VideoBag]]:
        """Each video reduced, in any order."""
        for video_id in video_ids:
            yield video_id, video_bag(self.store, self.namespace, video_id, head, standardizer)


def fit_standardizer(
    store: FeatureStore,
    namespace: str,
    video_ids: Sequence[str],
    offset: float,
    progress: Progress | None = None,
    reduction: Reduction | None = None,
) -> Standardizer:
    """Mean and deviation of every channel over the training maps. No labels are used."""
    moments, ordered = ChannelMoments(), sorted(video_ids)
    found = (reduction or Reduction(store, namespace)).sums(ordered)
    for number, video in enumerate(found):
        if progress:
            progress(number, len(ordered), "channel statistics")
        for sums in video:
            moments.add(sums)
    return moments.finish(offset)


def video_sums(store: FeatureStore, namespace: str, video_id: str) -> list[Sums]:
    """What the maps of a video add to the channel statistics, in pieces."""
    reader = store.reader(namespace, video_id)
    return [
        ChannelMoments.sums(torch.from_numpy(maps).float())
        for view in range(reader.shape[0])
        for _, maps in reader.iter_clips(view, WINDOWS_AT_ONCE)
    ]


def reduce_bags(
    store: FeatureStore,
    namespace: str,
    video_ids: Sequence[str],
    head: Head,
    standardizer: Standardizer | None,
    progress: Progress | None = None,
    reduction: Reduction | None = None,
) -> Bags | CachedBags:
    """Reduce all training maps in one pass: eqs. 1, 2, 5 and 6 for every view of every video.

    For a head that takes maps only eq. 1 is computed.

    Args:
        store: the cache.
        namespace: of the maps.
        video_ids: N videos, in any order.
        head: says how maps are reduced.
        standardizer: of the maps, or None.
        progress: called once per video.
        reduction: where single videos are reduced; by default in this process.

    Returns:
        Bags in memory; `CachedBags` for a head that takes maps.

    Raises:
        LengthMismatch: a video has another number of views or segments than the first.
    """
    ordered = tuple(sorted(video_ids))
    numbers = {video_id: number for number, video_id in enumerate(ordered)}
    shape = store.reader(namespace, ordered[0]).shape
    views, segments, _, _, channels = shape
    # Filled in place: see `pipeline.stages.scoring.score.score_video`.
    cues = torch.empty(len(ordered), views, channels)
    takes_maps = head.kept() is None
    patterns = torch.empty(0 if takes_maps else len(ordered), views, segments, channels)
    found = (reduction or Reduction(store, namespace)).bags(ordered, head, standardizer)
    for done, (video_id, bag) in enumerate(found):
        if progress:
            progress(done, len(ordered), "reducing feature maps")
        if bag.shape != shape:
            raise LengthMismatch(f"{namespace}/{video_id}: expected maps {shape}, as {ordered[0]} has, got {bag.shape}")
        cues[numbers[video_id]] = bag.cues
        if bag.patterns is not None:
            patterns[numbers[video_id]] = bag.patterns
    return CachedBags(store, namespace, ordered, cues, standardizer) if takes_maps else Bags(ordered, cues, patterns)


def video_bag(
    store: FeatureStore, namespace: str, video_id: str, head: Head, standardizer: Standardizer | None
) -> VideoBag:
    """Reduce the maps of a training video."""
    reader = store.reader(namespace, video_id)
    views, segments, _, _, channels = reader.shape
    cues = torch.empty(views, channels)
    patterns = None if head.kept() is None else torch.empty(views, segments, channels)
    for view in range(views):
        whole = video_overview(reader, view, standardizer, head)
        cues[view] = whole.cue[0]
        if patterns is None:
            continue
        done = 0
        bags = ((maps, whole) for maps in live_maps(reader, view, standardizer))
        for part in reduced(bags, head):
            vectors = part.vectors[0]
            patterns[view, done : (done := done + len(vectors))] = vectors
    return VideoBag(tuple(reader.shape), cues, patterns)
