"""What the workers of a cluster are, whether they could extract an experiment's videos, and how fast each does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.cluster import Surroundings, Surveyed, survey
from pipeline.config import Experiment
from pipeline.data.manifest import Manifest
from pipeline.progress import Say
from pipeline.remote import path_of
from pipeline.stages.common.cluster import REACHED, agreed, cluster_of, portable, reach_of
from pipeline.stages.common.manifest import reached
from pipeline.stages.extraction.on_cluster import longest_first, some_videos
from pipeline.stages.extraction.on_worker import DECODER, BackbonePlace, Order
from pipeline.stages.extraction.plan import Rate, probe

__all__ = ["check_cluster"]

PROBED = 4
"""Videos of a probe; the longest ones, so that none ends too soon."""
LOADING_S = 120.0


@dataclass(frozen=True)
class _CheckOrder(Order):
    """As `Order`, for places that only look and time."""

    def __call__(self, around: Surroundings) -> _CheckPlace:
        return _CheckPlace(self, around)


class _CheckPlace(BackbonePlace):
    """A place that extracts into a temporary folder."""

    def do(self, argument: tuple[float, tuple[tuple[str, str], ...]]) -> Rate | None:
        """Extract videos for some seconds; None if none of them can be read."""
        seconds, videos = argument
        if not videos:
            return None
        paths = [(name, reached(path_of(path), self.experiment)) for name, path in videos]
        return probe(self.extractor, paths, self.order.split, seconds)


def check_cluster(
    experiment: Experiment, manifest: Manifest, split: str, namespace: str, seconds: float, say: Say
) -> Iterator[Surveyed]:
    """Look at every worker of the experiment's cluster.

    Args:
        experiment: settings.
        manifest: the data set.
        split: whose videos are tried.
        namespace: of the split's features.
        seconds: for how long each worker extracts, into a temporary folder, to time it; 0: not at all.
        say: told the address of the cluster.

    Yields:
        One worker after the other; the result is a `Rate`, or None.

    Raises:
        ConfigError: dask.distributed is not installed.
        ClusterError: the scheduler does not answer.
    """
    sent, videos = portable(experiment), manifest.split(split)
    probed = [(video.video_id, str(manifest.video_path(video.video_id).absolute())) for video in longest_first(videos)]
    argument = seconds, tuple(probed[:PROBED] if seconds else ())
    with reach_of(sent, namespace, some_videos(manifest, videos)) as reach, cluster_of(experiment, say) as connection:
        order = _CheckOrder(sent.model_dump(mode="json"), split, namespace, DECODER, reach)
        yield from survey(
            connection, order, agreed(sent) | {"cache": REACHED, "videos": REACHED}, argument, seconds + LOADING_S
        )
