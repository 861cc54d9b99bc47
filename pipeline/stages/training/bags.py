"""Training bags: what a head sees of every training video, reduced once or read from the cache in every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cache import FeatureStore
from pipeline.models.reduction import Standardizer

__all__ = ["Bags", "CachedBags"]


@dataclass(frozen=True)
class Bags:
    """Reduced training bags of N videos, in memory.

    Attributes:
        video_ids: N ids, sorted, so that a result does not depend on the order of the manifest.
        cues: (N, V, D) float32, eq. 1.
        patterns: (N, V, T, D) float32, eq. 6 or pooled maps, as the head's settings say.
    """

    video_ids: tuple[str, ...]
    cues: torch.Tensor
    patterns: torch.Tensor

    def subset(self, chosen: torch.Tensor) -> Bags:
        """The videos where `chosen`, (N,) bool, is True."""
        return Bags(_where(self.video_ids, chosen), self.cues[chosen], self.patterns[chosen])

    def take(self, videos: torch.Tensor, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What a head sees of B bags.

        Args:
            videos: (B,) numbers of videos.
            views: (B,) numbers of views.

        Returns:
            Cues (B, D) and patterns (B, T, D).
        """
        rows = videos * self.cues.shape[1] + views
        return self.cues.flatten(0, 1).index_select(0, rows), self.patterns.flatten(0, 1).index_select(0, rows)

    def parts(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All bags as cues and patterns, in one part: the views of the first video, then those of the next."""
        yield self.cues.flatten(0, 1), self.patterns.flatten(0, 1)


@dataclass(frozen=True)
class CachedBags:
    """Training bags for heads that take maps. The maps stay in the cache until they are asked for.

    Attributes:
        store: the cache.
        namespace: of the maps.
        video_ids: N ids, sorted.
        cues: (N, V, D) float32, eq. 1.
        standardizer: of the maps, or None.
    """

    store: FeatureStore
    namespace: str
    video_ids: tuple[str, ...]
    cues: torch.Tensor
    standardizer: Standardizer | None

    def subset(self, chosen: torch.Tensor) -> CachedBags:
        """The videos where `chosen`, (N,) bool, is True."""
        return replace(self, video_ids=_where(self.video_ids, chosen), cues=self.cues[chosen])

    def take(self, videos: torch.Tensor, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What a head sees of B bags.

        Args:
            videos: (B,) numbers of videos.
            views: (B,) numbers of views.

        Returns:
            Cues (B, D) and maps (B, T, H, W, D).
        """
        names = [self.video_ids[i] for i in videos.tolist()]
        maps = [
            self.store.reader(self.namespace, v).features(view) for v, view in zip(names, views.tolist(), strict=True)
        ]
        live = torch.from_numpy(np.stack(maps)).float()
        return self.cues[videos, views], self.standardizer.maps(live) if self.standardizer else live

    def parts(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All bags as cues and maps, one video at a time, so that memory is bounded."""
        videos, views = self.cues.shape[:2]
        for number in range(videos):
            yield self.take(torch.full((views,), number), torch.arange(views))


def _where(names: Sequence[str], chosen: torch.Tensor) -> tuple[str, ...]:
    return tuple(name for name, keep in zip(names, chosen.tolist(), strict=True) if keep)
