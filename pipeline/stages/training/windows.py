"""From cached maps to what heads see of them, some windows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from cache import FeatureReader, FeatureStore
from pipeline.config import Head
from pipeline.config.runs import Cue
from pipeline.models.cues import Overview, OverviewSoFar
from pipeline.models.reduction import SpatialPatterns, Standardizer, pattern_vectors

__all__ = [
    "WINDOWS_AT_ONCE",
    "ReducedWindows",
    "in_parts",
    "live_maps",
    "reduce_maps",
    "reduce_windows",
    "reduced",
    "video_overview",
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
    return reduced(windows_with_overviews(store.reader(namespace, video_id), standardizer, cue, head, view), head)


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
        for maps in live_maps(reader, view, standardizer):
            yield maps, whole
        return
    so_far = OverviewSoFar(**head.overview())
    for maps in live_maps(reader, view, standardizer):
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
    for maps in live_maps(reader, view, standardizer):
        last = so_far.add(maps).of(slice(-1, None))
    return last


def reduce_maps(maps: torch.Tensor, whole: Overview, head: Head) -> SpatialPatterns:
    """What a head with these settings sees of maps (B, T, H, W, D) of B videos."""
    if (kept := head.kept()) is None:
        none = torch.empty(*maps.shape[:2], 0)
        return SpatialPatterns(maps, none.long(), none)
    return pattern_vectors(maps, whole.cue, background=whole.background, **kept)


def live_maps(reader: FeatureReader, view: int, standardizer: Standardizer | None) -> Iterator[torch.Tensor]:
    """The maps of a view as a head sees them, (1, n, H, W, D), some at a time."""
    for _, maps in reader.iter_clips(view, WINDOWS_AT_ONCE):
        live = torch.from_numpy(maps).float()[None]
        yield standardizer.maps(live) if standardizer else live


def reduced(bags: Iterable[tuple[torch.Tensor, Overview]], head: Head) -> Iterator[ReducedWindows]:
    """What a head sees of bags, each given as its maps as a head sees them and the overview of its video."""
    with torch.inference_mode():
        for maps, whole in bags:
            patterns = reduce_maps(maps, whole, head)
            yield ReducedWindows(whole.cue, patterns.vectors, patterns.positions, patterns.relations)
