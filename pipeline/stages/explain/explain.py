"""Seeing why: for the highest peaks of a video's score, where in the picture spatial reasoning looked, and the score
over time.

Nothing here is learnt or decided, and the truth is read only where it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import find_peaks

from cache import FeatureStore
from pipeline.config import Experiment, Preprocess
from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.data.decoding.geometry import crop_geometry
from pipeline.data.decoding.opening import limit_pixels
from pipeline.data.manifest import Manifest
from pipeline.errors import PipelineError
from pipeline.progress import Progress, Say
from pipeline.stages.common.feature_recipe import recipe_of
from pipeline.stages.explain.maps import relation_maps, scratch_features, why_no_map
from pipeline.stages.explain.plots import Curve, Overlay, WindowView, draw_curve, draw_window
from pipeline.stages.scoring.score import score_video
from pipeline.stages.training.saved_heads import check_features, load_head

__all__ = ["Request", "cell_boxes", "explain_cached", "explain_file", "pick_peaks", "relation_maps"]

PEAK_WIDTH_SIGMAS = 4
"""Peaks lie at least so many sigmas of the smoothing apart: nearer ones are one peak that it has split."""


@dataclass(frozen=True)
class Request:
    """What is to be explained.

    Attributes:
        experiment: settings.
        run: name of a run.
        head_folder: of its trained head.
        windows: how many at most.
    """

    experiment: Experiment
    run: str
    head_folder: Path
    windows: int

    @property
    def head_file(self) -> Path:
        return self.head_folder / "head.safetensors"


def explain_cached(
    request: Request,
    manifest: Manifest,
    namespace: str,
    video_id: str,
    folder: Path,
    warn: Say = lambda message: None,
) -> list[Path]:
    """Explain a cached test video; returns the pictures and index.json. A manifest read with its truth adds the
    intervals.

    `warn` is told what the user should know.
    """
    store = FeatureStore.open(request.experiment.paths.cache)
    intervals = None
    if manifest.intervals is not None:
        count = len(store.reader(namespace, video_id).times())
        intervals = _runs(manifest.frame_labels(video_id, count), manifest.classes)
    return _explain(request, store, namespace, video_id, manifest.video_path(video_id), intervals, folder, warn)


def explain_file(
    request: Request,
    file: Path,
    folder: Path,
    progress: Progress | None = None,
    warn: Say = lambda message: None,
) -> list[Path]:
    """Explain any video file; its features are extracted and not kept. `warn` is told what the user should know, such
    as damage.

    Raises:
        DecodeError: it cannot be read.
        FeatureMismatch: the head was trained on other features than these.
    """
    with scratch_features(request.experiment, request.head_file, file, progress, warn) as (store, namespace):
        return _explain(request, store, namespace, file.name, file, None, folder, warn)


def pick_peaks(scores: np.ndarray, starts: np.ndarray, apart_frames: float, count: int) -> list[int]:
    """The highest local maxima of a score over windows, highest first, none nearer than `apart_frames` to a higher one.

    Args:
        scores: (W,) float, higher is more anomalous.
        starts: (W,) int, the windows' first frames, ascending.
        apart_frames: least distance of two peaks, frames.
        count: how many at most; there are fewer where the curve has fewer peaks, and always one.
    """
    # A maximum at either end counts: the curve is taken to fall beyond it.
    padded = np.concatenate([[-np.inf], scores, [-np.inf]])
    candidates = find_peaks(padded)[0] - 1
    chosen: list[int] = []
    for window in sorted(candidates.tolist(), key=lambda window: -scores[window]):
        if len(chosen) < count and all(abs(starts[window] - starts[other]) >= apart_frames for other in chosen):
            chosen.append(window)
    return chosen


def cell_boxes(width: int, height: int, preprocess: Preprocess, rows: int, columns: int) -> np.ndarray:
    """Where the cells of a feature map lie in the source picture: (rows x columns, 4) float64, x0, y0, x1, y1 in its
    pixels."""
    geometry = crop_geometry(width, height, preprocess.short_side, preprocess.crop)
    down, across = preprocess.crop / rows, preprocess.crop / columns
    return np.array(
        [
            (
                *geometry.from_crop(column * across, row * down),
                *geometry.from_crop((column + 1) * across, (row + 1) * down),
            )
            for row in range(rows)
            for column in range(columns)
        ]
    )


def _explain(
    request: Request,
    store: FeatureStore,
    namespace: str,
    video_id: str,
    path: Path,
    intervals: list[tuple[str, int, int]] | None,
    folder: Path,
    warn: Say,
) -> list[Path]:
    experiment, head = request.experiment, load_head(request.head_file)
    for warning in check_features(head, request.head_file, recipe_of(store.record(namespace, video_id)), experiment):
        warn(f"warning: {warning}")
    scoring = experiment.run(request.run).scoring
    scores = score_video(store, namespace, video_id, head, scoring)
    middles = (scores.spans[:, 0] + scores.spans[:, 1]) // 2
    ranking = scores.anomaly
    unit = {"windows": experiment.test_sampling.stride_frames, "frames": 1, "none": 0}[scoring.smooth_on]
    span = int((scores.spans[:, 1] - scores.spans[:, 0]).max()) + 1
    apart = max(span, PEAK_WIDTH_SIGMAS * scoring.smooth_sigma * unit)
    chosen = pick_peaks(ranking[middles], scores.spans[:, 0], apart, request.windows)
    shape = store.reader(namespace, video_id).shape[2:4]
    missing = why_no_map(experiment, head, scores, shape)
    relations = None if missing else relation_maps(store, namespace, video_id, head, chosen)
    if relations is not None:
        _check_choice(relations, scores.positions[chosen], video_id)
    limit_pixels(experiment.decoding.max_pixels)
    images = _pictures(path, [int(middles[window]) for window in chosen])
    folder.mkdir(parents=True, exist_ok=True)
    files, entries = [], []
    for rank, window in enumerate(chosen, start=1):
        middle = int(middles[window])
        classes = dict(zip(head.classes, scores.frames[middle].tolist(), strict=True))
        label = max(classes, key=classes.get)
        image, overlay, cells = images[middle], None, []
        if relations is not None:
            boxes = cell_boxes(image.shape[1], image.shape[0], experiment.preprocess, *shape)
            cells = [boxes[position].round(2).tolist() for position in scores.positions[window]]
            overlay = Overlay(relations[rank - 1], boxes, tuple(scores.positions[window].tolist()))
        first, last = scores.spans[window].tolist()
        view = WindowView(
            video_id, rank, first, last, middle, float(scores.times_s[middle]), label, classes, image, overlay, missing
        )
        files.append(folder / f"window-{rank}.png")
        draw_window(view, files[-1])
        entries.append(
            {
                "file": files[-1].name,
                "first_frame": first,
                "last_frame": last,
                "shown_frame": middle,
                "time_s": view.time_s,
                "label": label,
                "score": classes[label],
                "class_scores": classes,
                "positions": scores.positions[window].tolist(),
                "cells": cells,
                "relation": None if relations is None else relations[rank - 1].round(5).tolist(),
            }
        )
    files.append(folder / "curve.png")
    marks = tuple(int(middles[window]) for window in chosen)
    draw_curve(Curve(video_id, head.classes, scores.times_s, scores.frames, marks, intervals), files[-1])
    files.append(folder / "index.json")
    document = {
        "video": video_id,
        "path": str(path),
        "run": request.run,
        "head": head.settings.name,
        "frames": len(scores.frames),
        "curve": "curve.png",
        "windows": entries,
        "not_available": {"relation_map": missing} if missing else {},
        "truth": None
        if intervals is None
        else [{"label": label, "start_frame": start, "end_frame": end} for label, start, end in intervals],
    }
    files[-1].write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    return files


def _runs(labels: np.ndarray, classes: Sequence[str]) -> list[tuple[str, int, int]]:
    """The intervals (label, first frame, frame after the last) of frame labels (N, C), in time."""
    edges = np.diff(labels.astype(np.int8), axis=0, prepend=0, append=0)
    found = []
    for number, name in enumerate(classes):
        starts, ends = (np.flatnonzero(edges[:, number] == sign).tolist() for sign in (1, -1))
        found += [(name, start, end) for start, end in zip(starts, ends, strict=True)]
    return sorted(found, key=lambda run: run[1:])


def _check_choice(relations: np.ndarray, positions: np.ndarray, video_id: str) -> None:
    """The cells that scoring chose must be the most related ones, or else the map shown is not the one it chose by."""
    for relation, chosen in zip(relations.reshape(len(relations), -1), positions, strict=True):
        others = np.delete(relation, chosen)
        if len(others) and others.max() > relation[chosen].min() + 1e-4:
            raise PipelineError(
                f"{video_id}: expected the chosen cells to have the largest relations, got another choice"
            )


def _pictures(path: Path, wanted: Sequence[int]) -> dict[int, np.ndarray]:
    """Frames by number, at the video's own size."""
    found: dict[int, np.ndarray] = {}
    for index, frame in enumerate(iter_raw_frames(path, wanted=frozenset(wanted), damage=Damage())):
        if frame.image is not None:
            found[index] = frame.image
        if len(found) == len(set(wanted)):
            break
    if missing := sorted(set(wanted) - set(found)):
        raise PipelineError(
            f"{path}: expected frame {missing[0]}, which was there when the features were made; has the file changed?"
        )
    return found
