"""From cached maps to what heads see: bags of training videos and windows of test videos.

With frozen features the cue and the pattern vectors are constants (docs/method.md), so they are computed once. Heads
that change the maps before they reduce them (`channel_attention`) get the maps themselves in every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from cache import FeatureReader, FeatureStore
from pipeline.config import Head
from pipeline.config.runs import Cue
from pipeline.errors import LengthMismatch
from pipeline.models.cues import Overview, OverviewSoFar
from pipeline.models.reduction import ChannelMoments, SpatialPatterns, Standardizer, pattern_vectors
from pipeline.progress import Progress
from pipeline.stages.training.bags import Bags, CachedBags

__all__ = [
    "ReducedWindows",
    "Reduction",
    "Sums",
    "VideoBag",
    "fit_standardizer",
    "in_parts",
    "reduce_bags",
    "reduce_maps",
    "reduce_windows",
    "video_bag",
    "video_overview",
    "video_sums",
    "windows_with_overviews",
]

WINDOWS_AT_ONCE = 32


class ReducedWindows(NamedTuple):
    """What a head sees of successive windows of a test video: one bag of n, or B bags of one window each.

    Attributes:
        cue: (1, D), of the whole video; (B, D) where it is that of the video up to each window.
        vectors: (1, n, D) or (B, 1, D); maps, (1, n, H, W, D) or (B, 1, H, W, D), for a head that takes maps.
        positions: (1, n, k) or (B, 1, k) int64, the cells chosen; k is 0 for pooled maps and for a head that takes
            maps.
        relations: (1, n, H x W) or (B, 1, H x W), of every cell to the cue, by which they were chosen; no cells where
            k is 0.
    """

    cue: torch.Tensor
    vectors: torch.Tensor
    positions: torch.Tensor
    relations: torch.Tensor


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
        bags = ((maps, whole) for maps in _live(reader, view, standardizer))
        for part in _reduce(bags, head):
            vectors = part.vectors[0]
            patterns[view, done : (done := done + len(vectors))] = vectors
    return VideoBag(tuple(reader.shape), cues, patterns)


def reduce_windows(
    store: FeatureStore,
    namespace: str,
    video_id: str,
    head: Head,
    standardizer: Standardizer | None,
    cue: Cue = "video",
    view: int = 0,
) -> Iterator[ReducedWindows]:
    """Stream a view of a test video, some windows at a time; `windows_with_overviews` says what the cue is."""
    return _reduce(windows_with_overviews(store.reader(namespace, video_id), standardizer, cue, head, view), head)


def windows_with_overviews(
    reader: FeatureReader, standardizer: Standardizer | None, cue: Cue, head: Head, view: int = 0
) -> Iterator[tuple[torch.Tensor, Overview]]:
    """The windows of a test video as bags, some at a time, in one pass; in two where `video_overview` needs one.

    Args:
        reader: of the video.
        standardizer: of the maps, or None.
        cue: `video`: n windows are one bag, whose cue is the maximum over all windows of the video, which was stored
            when the features were written (docs/method.md). `running`: every window is a bag of its own, whose cue is
            the maximum over it and all windows before it. The same goes for a background.
        head: says what it relates windows to.
        view: whose windows.

    Yields:
        Maps as a head sees them, (1, n, H, W, D) or (n, 1, H, W, D), and the overview of one bag or of n.
    """
    if cue == "video":
        whole = video_overview(reader, view, standardizer, head)
        for maps in _live(reader, view, standardizer):
            yield maps, whole
        return
    so_far = OverviewSoFar(**head.overview())
    for maps in _live(reader, view, standardizer):
        yield maps.transpose(0, 1), so_far.add(maps)


def in_parts(stream: Iterable[ReducedWindows], windows: int, context: int | None) -> Iterator[ReducedWindows]:
    """The stream of a video in parts of about equal length, as a head with a context needs it.

    Args:
        stream: of `reduce_windows`.
        windows: W of the video.
        context: about how many windows a part may hold; None leaves the stream as it is.
    """
    if context is None:
        yield from stream
        return
    size = -(-windows // -(-windows // context))
    waiting: list[ReducedWindows] = []
    for piece in stream:
        waiting.append(piece)
        if sum(each.vectors.shape[1] for each in waiting) >= size:
            yield _join(waiting)
            waiting = []
    if waiting:
        yield _join(waiting)


def _join(pieces: Sequence[ReducedWindows]) -> ReducedWindows:
    return ReducedWindows(
        pieces[0].cue,
        torch.cat([piece.vectors for piece in pieces], dim=1),
        torch.cat([piece.positions for piece in pieces], dim=1),
        torch.cat([piece.relations for piece in pieces], dim=1),
    )


def video_overview(reader: FeatureReader, view: int, standardizer: Standardizer | None, head: Head) -> Overview:
    """What a head relates the segments of a view to, of the maps that it sees: cue (1, D), background (1, H, W, D).

    The cue of the whole video is in the cache. For the cue of its top segments and for its background the maps are read
    once.
    """
    if not head.reads_maps_first:
        cue = torch.from_numpy(np.asarray(reader.cue()[view], dtype=np.float32))[None]
        return Overview(standardizer.cue(cue) if standardizer else cue)
    so_far = OverviewSoFar(**head.overview())
    for maps in _live(reader, view, standardizer):
        last = so_far.add(maps).of(slice(-1, None))
    return last


def reduce_maps(maps: torch.Tensor, whole: Overview, head: Head) -> SpatialPatterns:
    """What a head with these settings sees of maps (B, T, H, W, D) of B videos."""
    if (kept := head.kept()) is None:
        none = torch.empty(*maps.shape[:2], 0)
        return SpatialPatterns(maps, none.long(), none)
    return pattern_vectors(maps, whole.cue, background=whole.background, **kept)


def _live(reader: FeatureReader, view: int, standardizer: Standardizer | None) -> Iterator[torch.Tensor]:
    """The maps of a view as a head sees them, (1, n, H, W, D), some at a time."""
    for _, maps in reader.iter_clips(view, WINDOWS_AT_ONCE):
        live = torch.from_numpy(maps).float()[None]
        yield standardizer.maps(live) if standardizer else live


def _reduce(bags: Iterable[tuple[torch.Tensor, Overview]], head: Head) -> Iterator[ReducedWindows]:
    with torch.inference_mode():
        for maps, whole in bags:
            patterns = reduce_maps(maps, whole, head)
            yield ReducedWindows(whole.cue, patterns.vectors, patterns.positions, patterns.relations)
