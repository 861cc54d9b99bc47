"""Scoring by the workers of a dask cluster: they read the cached windows, and the scores come back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache import FeatureStore
from pipeline.config import Experiment, Scoring
from pipeline.data.manifest import VideoEntry
from pipeline.progress import Say
from pipeline.stages.common.cluster import Work, each_video
from pipeline.stages.training.saved_heads import load_head

if TYPE_CHECKING:
    from pipeline.stages.scoring.video_scores import VideoScores

__all__ = ["scores_on_cluster"]


@dataclass(frozen=True)
class _Scorer:
    """Makes what scores a video on a worker.

    Attributes:
        head: content of the file of the trained head, which lies in a folder that workers need not reach.
        scoring: settings.
        namespace: of the windows.
    """

    head: bytes
    scoring: Scoring
    namespace: str

    def __call__(self, experiment: Experiment, store: FeatureStore) -> Work:
        from pipeline.stages.scoring.score import score_video

        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(self.head)
            file.flush()
            head = load_head(Path(file.name))
        return lambda video_id: score_video(store, self.namespace, video_id, head, self.scoring)


def scores_on_cluster(
    experiment: Experiment, scoring: Scoring, videos: Sequence[VideoEntry], namespace: str, head: Path, say: Say
) -> Iterator[tuple[str, VideoScores]]:
    """Score cached videos.

    Args:
        experiment: settings.
        scoring: those of the run.
        videos: which.
        namespace: the part of the cache that has their windows.
        head: the file of the trained head.
        say: told what the user should know.

    Yields:
        A video's id and its scores, when they are there.
    """
    longest_first = sorted(videos, key=lambda video: -video.packets)
    arguments = [(video.video_id, video.video_id) for video in longest_first]
    yield from each_video(experiment, namespace, _Scorer(head.read_bytes(), scoring, namespace), arguments, say)
