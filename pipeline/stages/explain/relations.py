"""Where spatial reasoning looked: the relation of every cell to the cue, and the place of a cell in the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cache import FeatureReader, FeatureStore
from pipeline.config import Experiment
from pipeline.config.runs import Cue
from pipeline.data.decoding.geometry import Fit
from pipeline.errors import PipelineError
from pipeline.models.cues import Overview
from pipeline.models.reduction import relation_map
from pipeline.stages.common.feature_recipe import recipe_of
from pipeline.stages.scoring.score import score_video
from pipeline.stages.scoring.video_scores import VideoScores
from pipeline.stages.training.saved_heads import TrainedHead, check_features, load_head
from pipeline.stages.training.windows import video_overview, windows_with_overviews

__all__ = ["VideoMaps", "cell_boxes", "check_choice", "relation_maps", "video_maps", "why_no_overlay"]


@dataclass(frozen=True, eq=False)
class VideoMaps:
    """The relation maps of all W windows of a video.

    Attributes:
        maps: (W, rows, columns) float32.
        middles: (W,) int64, the frame in the middle of each window.
    """

    maps: np.ndarray
    middles: np.ndarray


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
    scoring = experiment.run(run).scoring
    scores = score_video(store, namespace, video_id, head, scoring)
    rows, columns = store.reader(namespace, video_id).shape[2:4]
    if missing := why_no_overlay(experiment, head, scores, rows, columns):
        raise PipelineError(f"{video_id}: there are no relation maps: {missing}")
    maps = relation_maps(store, namespace, video_id, head, range(len(scores.spans)), scoring.cue)
    return VideoMaps(maps, scores.spans.sum(axis=1) // 2)


def relation_maps(
    store: FeatureStore, namespace: str, video_id: str, head: TrainedHead, windows: Sequence[int], cue: Cue
) -> np.ndarray:
    """Eq. 5 of n windows of a cached video, (n, H, W) float32, as the head's spatial reasoning computed it."""
    reader = store.reader(namespace, video_id)
    found = np.empty((len(windows), *reader.shape[2:4]), dtype=np.float32)
    for number, maps, own in _chosen(reader, head, windows, cue):
        with torch.inference_mode():
            scale = head.module.scale(own.cue)
        relation = relation_map(
            maps,
            own.cue if scale is None else scale * own.cue,
            relation=head.settings.relation,
            enhancement=head.settings.enhancement,
            scale=scale,
            cue_of=head.settings.cue_of,
            background=own.background,
        )
        found[number] = relation[0, 0].numpy()
    return found


def _chosen(
    reader: FeatureReader, head: TrainedHead, windows: Sequence[int], cue: Cue
) -> Iterator[tuple[int, torch.Tensor, Overview]]:
    """Of every window its place in `windows`, its maps (1, 1, H, W, D) and its overview, in any order."""
    standardizer = head.standardizer
    if cue == "video":
        whole = video_overview(reader, 0, standardizer, head.settings)
        for number, window in enumerate(windows):
            maps = torch.from_numpy(reader.read("features", (0, slice(window, window + 1)))).float()[None]
            yield number, standardizer.maps(maps) if standardizer else maps, whole
        return
    places, first = {window: number for number, window in enumerate(windows)}, 0
    for maps, overviews in windows_with_overviews(reader, standardizer, cue, head.settings):
        for index in range(len(maps)):
            if first + index in places:
                yield places[first + index], maps[index : index + 1], overviews.of(slice(index, index + 1))
        first += len(maps)


def cell_boxes(width: int, height: int, fit: Fit, rows: int, columns: int) -> np.ndarray:
    """Where the cells of a feature map lie in the source picture.

    Args:
        width, height: of the picture, pixels.
        fit: what the backbone saw of it.
        rows, columns: of the feature map.

    Returns:
        (rows x columns, 4) float64: x0, y0, x1, y1 in pixels of the picture.
    """
    geometry = fit.geometry(width, height)
    down, across = fit.height / rows, fit.width / columns
    boxes = []
    for row in range(rows):
        for column in range(columns):
            x0, y0 = geometry.from_picture(column * across, row * down)
            x1, y1 = geometry.from_picture((column + 1) * across, (row + 1) * down)
            boxes.append((x0, y0, x1, y1))
    return np.array(boxes)


def why_no_overlay(
    experiment: Experiment, head: TrainedHead, scores: VideoScores, rows: int, columns: int
) -> str | None:
    """Why no relation map can be laid over the picture; None where it can."""
    if scores.positions.shape[1] == 0:
        return f"the head of this run ({head.settings.name}) has no spatial reasoning: it chooses no cells"
    if (rows, columns) == (1, 1):
        return "the features have a single position: they do not say where"
    if experiment.features.test:
        return "the features were imported: where their cells lie in the picture is not known"
    return None


def check_choice(relations: np.ndarray, positions: np.ndarray, video_id: str) -> None:
    """Raise PipelineError unless the cells that scoring chose are the most related ones.

    If they are not, the map shown is not the one that scoring chose by.

    Args:
        relations: (n, H, W).
        positions: (n, k), the chosen cells of each map.
        video_id: for the message.
    """
    for relation, chosen in zip(relations.reshape(len(relations), -1), positions, strict=True):
        others, size = np.delete(relation, chosen), max(1.0, float(np.abs(relation).max()))
        if len(others) and others.max() > relation[chosen].min() + 1e-4 * size:  # a product is no cosine
            raise PipelineError(
                f"{video_id}: expected the chosen cells to have the largest relations, got another choice"
            )
