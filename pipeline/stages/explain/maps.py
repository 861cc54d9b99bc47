"""Relation maps: where in the picture spatial reasoning looked, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cache import FeatureStore
from pipeline.config import Experiment
from pipeline.errors import PipelineError
from pipeline.models.reduction import relation_map
from pipeline.progress import Progress, Say
from pipeline.stages.common.feature_recipe import recipe_of
from pipeline.stages.scoring.score import VideoScores, score_video
from pipeline.stages.training.reduce import video_cue
from pipeline.stages.training.saved_heads import TrainedHead, check_features, load_head

__all__ = ["VideoMaps", "relation_maps", "scratch_features", "video_maps", "why_no_map"]


@dataclass(frozen=True, eq=False)
class VideoMaps:
    """The relation maps of all windows of a video.

    Attributes:
        maps: (W, rows, columns) float32.
        middles: (W,) int64, the frame in the middle of each window.
    """

    maps: np.ndarray
    middles: np.ndarray


def relation_maps(
    store: FeatureStore, namespace: str, video_id: str, head: TrainedHead, windows: Sequence[int]
) -> np.ndarray:
    """Eq. 5 of some windows of a cached video, (n, H, W) float32, as the head's spatial reasoning saw it."""
    reader = store.reader(namespace, video_id)
    cue = video_cue(reader.cue()[0], head.standardizer)
    with torch.inference_mode():
        scale = head.module.scale(cue)
    seen = cue if scale is None else scale * cue
    found = np.empty((len(windows), *reader.shape[2:4]), dtype=np.float32)
    for number, window in enumerate(windows):
        maps = torch.from_numpy(reader.read("features", (0, slice(window, window + 1)))).float()[None]
        if head.standardizer:
            maps = head.standardizer.maps(maps)
        found[number] = relation_map(
            maps, seen, scale=scale, relation=head.settings.relation, enhancement=head.settings.enhancement
        )[0, 0].numpy()
    return found


def video_maps(
    store: FeatureStore, namespace: str, video_id: str, experiment: Experiment, run: str, head_file: Path
) -> VideoMaps:
    """Eq. 5 of all windows of a cached video.

    Raises:
        FeatureMismatch: the head was trained on other features.
        PipelineError: the head, or the features, have no maps; the message says why.
    """
    head = load_head(head_file)
    check_features(head, head_file, recipe_of(store.record(namespace, video_id)), experiment)
    scores = score_video(store, namespace, video_id, head, experiment.run(run).scoring)
    if missing := why_no_map(experiment, head, scores, store.reader(namespace, video_id).shape[2:4]):
        raise PipelineError(f"{video_id}: there are no relation maps: {missing}")
    maps = relation_maps(store, namespace, video_id, head, range(len(scores.spans)))
    return VideoMaps(maps, scores.spans.sum(axis=1) // 2)


@contextmanager
def scratch_features(
    experiment: Experiment, head_file: Path, file: Path, progress: Progress | None, warn: Say
) -> Iterator[tuple[FeatureStore, str]]:
    """A store that holds the features of any video file under its name, and is then gone, and their namespace.

    Raises:
        DecodeError: it cannot be read.
        FeatureMismatch: the head was trained on other features than these.
    """
    from pipeline.stages.extraction.scratch import ScratchExtraction, scratch_store

    def tell(message: str) -> None:
        if progress:
            progress(0, 1, message)

    extraction = ScratchExtraction(experiment, tell, warn)
    check_features(load_head(head_file), head_file, extraction.recipe, experiment)  # before the video is decoded
    with scratch_store(warn) as store:
        for outcome in extraction.extract({file.name: file}, store):
            if outcome.error:
                raise outcome.error
        yield store, extraction.namespace


def why_no_map(experiment: Experiment, head: TrainedHead, scores: VideoScores, shape: tuple[int, ...]) -> str | None:
    """Why there is no relation map to lay over the picture; None where there is one."""
    if scores.positions.shape[1] == 0:
        return f"the head of this run ({head.settings.name}) has no spatial reasoning: it chooses no cells"
    if shape == (1, 1):
        return "the features have one position: they say nothing of where"
    if experiment.features.test:
        return "the features were imported: where their cells lie in the picture is not known"
    return None
