"""Reduction of training maps by the workers of a dask cluster: they read the cache, and what is left comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cache import FeatureStore
from pipeline.config import Experiment, Head
from pipeline.models.reduction import Standardizer
from pipeline.progress import Say
from pipeline.stages.common.cluster import Work, each_video, on_cluster
from pipeline.stages.training.reduce import Reduction, Sums, VideoBag, video_bag, video_sums

__all__ = ["ClusterReduction", "reduction_of"]


@dataclass(frozen=True)
class _Summing:
    """Makes what adds up the maps of a video on a worker."""

    namespace: str

    def __call__(self, experiment: Experiment, store: FeatureStore) -> Work:
        return lambda video_id: video_sums(store, self.namespace, video_id)


@dataclass(frozen=True, eq=False)
class _Reducing:
    """Makes what reduces a video on a worker."""

    namespace: str
    head: Head
    standardizer: Standardizer | None

    def __call__(self, experiment: Experiment, store: FeatureStore) -> Work:
        return lambda video_id: video_bag(store, self.namespace, video_id, self.head, self.standardizer)


@dataclass(frozen=True)
class ClusterReduction(Reduction):
    """Training videos that are reduced by workers.

    Attributes:
        experiment: settings.
        say: told what the user should know.
    """

    experiment: Experiment
    say: Say

    def sums(self, video_ids: Sequence[str]) -> Iterator[list[Sums]]:
        """As for `Reduction`: what comes too early waits for its turn, since sums depend on the order."""
        early: dict[str, list[Sums]] = {}
        work = each_video(self.experiment, self.namespace, _Summing(self.namespace), _named(video_ids), self.say)
        due = iter(video_ids)
        expected = next(due, None)
        for video_id, sums in work:
            early[video_id] = sums
            while expected in early:
                yield early.pop(expected)
                expected = next(due, None)

    def bags(
        self, video_ids: Sequence[str], head: Head, standardizer: Standardizer | None
    ) -> Iterator[tuple[str, VideoBag]]:
        """As for `Reduction`."""
        make = _Reducing(self.namespace, head, standardizer)
        yield from each_video(self.experiment, self.namespace, make, _named(video_ids), self.say)


def reduction_of(experiment: Experiment, store: FeatureStore, namespace: str, say: Say) -> Reduction:
    """Where the training videos of an experiment are reduced."""
    if on_cluster(experiment):
        return ClusterReduction(store, namespace, experiment, say)
    return Reduction(store, namespace)


def _named(video_ids: Sequence[str]) -> list[tuple[str, str]]:
    return [(video_id, video_id) for video_id in video_ids]
