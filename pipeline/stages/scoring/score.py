"""Stage 3: per-frame score tables, one Parquet file per video."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from cache import FeatureStore
from pipeline.config import Experiment, Scoring, to_yaml
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.data.windows import windows_to_frames
from pipeline.errors import PipelineError
from pipeline.hashing import file_sha256
from pipeline.models.reduction import kept_cells
from pipeline.progress import Progress, Say, silent
from pipeline.stages.common.cluster import on_cluster
from pipeline.stages.common.digests import places_known
from pipeline.stages.common.feature_recipe import recipe_of
from pipeline.stages.common.outputs import keep_if_made_from
from pipeline.stages.extraction.provenance import lost_frames
from pipeline.stages.scoring.causal import check_causal, smooth_back
from pipeline.stages.scoring.on_cluster import scores_on_cluster
from pipeline.stages.scoring.video_scores import VideoScores, table_path, write_scores
from pipeline.stages.training.saved_heads import TrainedHead, check_features, load_head
from pipeline.stages.training.validation import read_thresholds
from pipeline.stages.training.windows import ReducedWindows, in_parts, reduce_windows

__all__ = [
    "score_split",
    "score_video",
    "score_videos",
    "smooth",
]


def smooth(scores: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian filter along axis 0 with the edges repeated, (n, C) -> (n, C); a sigma of 0 changes nothing.

    Examples:
        >>> import numpy as np
        >>> smooth(np.array([[0.0], [0.0], [1.0], [0.0], [0.0]]), sigma=1.0).ravel().round(2)
        array([0.05, 0.24, 0.4 , 0.24, 0.05])
    """
    return gaussian_filter1d(scores, sigma, axis=0, order=0, mode="nearest") if sigma > 0 else scores


def score_video(
    store: FeatureStore,
    namespace: str,
    video_id: str,
    head: TrainedHead,
    scoring: Scoring,
    reduced: Iterator[ReducedWindows] | None = None,
) -> VideoScores:
    """Score one cached video in bounded memory: one streaming pass, then smoothing and the mean over covering windows.

    With `scoring.cue: running` the scores are causal; `pipeline.stages.scoring.causal` says in which sense. With
    `scoring.views: mean` there is a pass for each view, and a window's scores are the mean over them; the positions
    are those of the first.

    Args:
        store: the cache.
        namespace: its part with the features.
        video_id: which video.
        head: the trained head.
        scoring: settings.
        reduced: the windows of the first view, where they have been reduced before, with the cue that `scoring` names.

    Raises:
        PipelineError: scores are to be causal, and the head sees other windows; or to be a mean over views that are not
            of the same frames.
    """
    if causal := scoring.cue == "running":
        check_causal(head.settings)
    reader = store.reader(namespace, video_id)
    frames_of_views, times = reader.frames(), reader.times()
    indices = frames_of_views[0]
    views = len(frames_of_views) if scoring.views == "mean" else 1
    if different := [view for view in range(1, views) if not np.array_equal(frames_of_views[view], indices)]:
        raise PipelineError(
            f"{namespace}/{video_id}: scoring.views: mean: expected views of the same frames, such as crops; view "
            f"{different[0]} is of others"
        )
    rows, columns = reader.shape[2:4]
    shape = len(indices), rows * columns
    found = _window_scores(reduced or _reduced(store, namespace, video_id, head, scoring), *shape, head)
    window_scores, own = found.classes, found.own
    for view in range(1, views):
        other = _window_scores(_reduced(store, namespace, video_id, head, scoring, view), *shape, head)
        window_scores += other.classes
        own += other.own
    if views > 1:
        window_scores /= views
        own /= views
    scores = np.column_stack([own, window_scores[:, 1:]])
    smoothing = smooth_back if causal else smooth
    if scoring.smooth_on == "windows":
        scores = smoothing(scores, scoring.smooth_sigma)
    scores = windows_to_frames(scores, indices, len(times))
    if scoring.smooth_on == "frames":
        scores = smoothing(scores, scoring.smooth_sigma)
    frames = scores[:, 1:].astype(np.float32)
    anomaly = scores[:, 0].astype(np.float32) if found.binary else frames.max(axis=1)
    return VideoScores(frames, anomaly, times, window_scores, indices[:, [0, -1]], found.positions, found.relations)


@dataclass(frozen=True)
class _WindowScores:
    """What a head says of the windows of a view.

    Attributes:
        classes: (W, 1 + C) float32, the scores of Normal and of the classes.
        own: (W,) float64, those of any anomaly.
        positions: (W, k) int64, the cells chosen.
        relations: (W, rows x columns) float32, by which they were chosen.
        binary: whether `own` is an output of the head.
    """

    classes: np.ndarray
    own: np.ndarray
    positions: np.ndarray
    relations: np.ndarray
    binary: bool


def _reduced(
    store: FeatureStore, namespace: str, video_id: str, head: TrainedHead, scoring: Scoring, view: int = 0
) -> Iterator[ReducedWindows]:
    return reduce_windows(store, namespace, video_id, head.settings, head.standardizer, scoring.cue, view)


def _window_scores(stream: Iterator[ReducedWindows], count: int, cells: int, head: TrainedHead) -> _WindowScores:
    # Filled in place: small results that stay between the large arrays of every step would fragment the heap, whose
    # memory is then never given back.
    classes = np.empty((count, 1 + len(head.classes)), dtype=np.float32)
    spatial = head.settings.reduction == "spatial"
    positions = np.empty((count, kept_cells(head.settings.k, cells) if spatial else 0), dtype=np.int64)
    relations = np.empty((count, cells if spatial else 0), dtype=np.float32)
    own = np.empty(count, dtype=np.float64)
    done, binary = 0, False
    with torch.inference_mode():
        for cue, vectors, chosen, related in in_parts(stream, count, head.module.context):
            step = slice(done, done := done + vectors.shape[0] * vectors.shape[1])
            output = head.module(cue, vectors)
            classes[step] = output.segment_scores.flatten(0, 1).numpy()
            positions[step] = (chosen if output.positions is None else output.positions).flatten(0, 1).numpy()
            relations[step] = (related if output.relations is None else output.relations).flatten(0, 1).numpy()
            own[step] = output.anomaly_scores.flatten().numpy()
            binary = output.anomaly_logits is not None
    return _WindowScores(classes, own, positions, relations, binary)


def score_split(
    experiment: Experiment,
    run_name: str,
    manifest: Manifest,
    namespace: str,
    head_folder: Path,
    folder: Path,
    progress: Progress | None = None,
    reduced: Callable[[str], Iterator[ReducedWindows]] | None = None,
    say: Say = silent,
    quarantined: Mapping[str, str] | None = None,
) -> None:
    """As `score_videos`, of every test video of the manifest."""
    videos = manifest.split("test")
    score_videos(
        experiment, run_name, videos, namespace, head_folder, folder, progress, reduced, say, quarantined=quarantined
    )


def score_videos(
    experiment: Experiment,
    run_name: str,
    videos: Sequence[VideoEntry],
    namespace: str,
    head_folder: Path,
    folder: Path,
    progress: Progress | None = None,
    reduced: Callable[[str], Iterator[ReducedWindows]] | None = None,
    say: Say = silent,
    quarantined: Mapping[str, str] | None = None,
) -> None:
    """Score videos whose windows are cached with a trained head.

    Writes one table per video, and index.json with tables, frame counts, lost frames, the class thresholds if a
    validation split chose them, and the videos in quarantine if there are any. Tables that an interrupted run with this
    head left in `folder` are kept.

    Args:
        experiment: settings.
        run_name: one of its runs.
        videos: which.
        namespace: the part of the cache that has their windows.
        head_folder: the trained head.
        folder: where the tables go.
        progress: told how far it is.
        reduced: gives the windows of a video, where they have been reduced before.
        say: told what the user should know.
        quarantined: video id -> why it could not be read, of the videos that have no scores for that reason.

    Raises:
        FeatureMismatch: the features of a video were made in another way than those that the head was trained on.
    """
    run = experiment.run(run_name)
    store = FeatureStore.open(experiment.paths.cache)
    file = head_folder / "head.safetensors"
    head = load_head(file)
    keep_if_made_from(folder, file_sha256(file))
    if on_cluster(experiment) and reduced is None:
        _score_on_cluster(experiment, run_name, videos, namespace, file, folder, progress, say)
    index: dict[str, dict[str, object]] = {}
    for number, entry in enumerate(videos):
        if progress:
            progress(number, len(videos), f"scoring {entry.video_id}")
        check_features(head, file, recipe_of(store.record(namespace, entry.video_id)), experiment)
        path = table_path(folder, entry.video_id)
        if not path.exists():
            windows = reduced(entry.video_id) if reduced else None
            scores = score_video(store, namespace, entry.video_id, head, run.scoring, windows)
            write_scores(folder, entry.video_id, scores, head.classes, relations=places_known(experiment))
        reader = store.reader(namespace, entry.video_id)
        index[entry.video_id] = {"file": path.name, "decoded_frames": len(reader.times()), "sha256": file_sha256(path)}
        if lost := lost_frames(reader.record.provenance):
            index[entry.video_id]["lost_frames"] = lost
    document: dict[str, object] = {"classes": list(head.classes), "videos": index}
    if thresholds := read_thresholds(head_folder, head.classes):
        document["thresholds"] = thresholds
    if quarantined:
        document["quarantined"] = dict(quarantined)
    (folder / "index.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / "config.yaml").write_text(to_yaml(run), encoding="utf-8")


def _score_on_cluster(
    experiment: Experiment,
    run_name: str,
    videos: Sequence[VideoEntry],
    namespace: str,
    file: Path,
    folder: Path,
    progress: Progress | None,
    say: Say,
) -> None:
    """Write the tables that are missing with the scores that workers of the cluster find."""
    store, head, scoring = FeatureStore.open(experiment.paths.cache), load_head(file), experiment.run(run_name).scoring
    missing = [entry for entry in videos if not table_path(folder, entry.video_id).exists()]
    for entry in missing:
        check_features(head, file, recipe_of(store.record(namespace, entry.video_id)), experiment)
    if not missing:
        return
    found = scores_on_cluster(experiment, scoring, missing, namespace, file, say)
    for number, (video_id, scores) in enumerate(found, 1):
        write_scores(folder, video_id, scores, head.classes, relations=places_known(experiment))
        if progress:
            progress(number, len(missing), f"scored {video_id}")
