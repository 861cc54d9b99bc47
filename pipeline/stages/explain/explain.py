"""Why a score is high: for its highest peaks, where in the picture spatial reasoning looked, and the score over time.

Nothing here is learnt or decided, and ground truth is read only on request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache import FeatureStore
from pipeline.config import Experiment
from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.data.decoding.opening import limit_pixels
from pipeline.data.manifest import Manifest
from pipeline.errors import PipelineError
from pipeline.progress import Progress, Say, silent
from pipeline.remote import AnyPath
from pipeline.stages.common.feature_recipe import recipe_of
from pipeline.stages.common.picture import fit_of
from pipeline.stages.explain.peaks import choose_windows, middle_frames
from pipeline.stages.explain.plots import Curve, Overlay, WindowView, draw_curve, draw_window
from pipeline.stages.explain.relations import cell_boxes, check_choice, relation_maps, why_no_overlay
from pipeline.stages.scoring.score import score_video
from pipeline.stages.scoring.video_scores import VideoScores
from pipeline.stages.training.saved_heads import TrainedHead, check_features, load_head

__all__ = ["Request", "explain_cached", "explain_file", "scratch_features"]

Intervals = list[tuple[str, int, int]]
"""Annotated intervals: label, first frame, frame after the last."""


@dataclass(frozen=True)
class Request:
    """What is to be explained.

    Attributes:
        experiment: settings.
        run: name of one of its runs.
        head_folder: the run's trained head.
        windows: how many windows to show, at most.
    """

    experiment: Experiment
    run: str
    head_folder: Path
    windows: int

    @property
    def head_file(self) -> Path:
        """The weights of the head."""
        return self.head_folder / "head.safetensors"


@dataclass(frozen=True)
class _Explained:
    """What there is to show of a video.

    Attributes:
        head: the head that scored it.
        scores: its scores.
        windows: the n windows to show, highest peak first.
        rows, columns: of a feature map.
        relations: (n, H, W) relation maps of the windows; None where there are none.
        missing: why there are none.
    """

    head: TrainedHead
    scores: VideoScores
    windows: list[int]
    rows: int
    columns: int
    relations: np.ndarray | None
    missing: str | None

    @property
    def shown_frames(self) -> list[int]:
        """The middle frame of each window."""
        return [int(frame) for frame in middle_frames(self.scores)[self.windows]]


def explain_cached(
    request: Request,
    manifest: Manifest,
    namespace: str,
    video_id: str,
    folder: Path,
    warn: Say = silent,
) -> list[Path]:
    """Explain a test video whose features are in the cache.

    Args:
        request: what is to be explained.
        manifest: the data set; when it was read with its ground truth, the annotated intervals are drawn too.
        namespace: the part of the cache with the features.
        video_id: which video.
        folder: where the pictures and index.json go.
        warn: told what the user should know.

    Returns:
        The files that were written.
    """
    store = FeatureStore.open(request.experiment.paths.cache)
    intervals = None
    if manifest.intervals is not None:
        count = len(store.reader(namespace, video_id).times())
        intervals = _runs(manifest.frame_labels(video_id, count), manifest.classes)
    explained = _explain(request, store, namespace, video_id, warn)
    return _write(request, explained, video_id, manifest.video_path(video_id), intervals, folder)


def explain_file(
    request: Request,
    file: Path,
    folder: Path,
    progress: Progress | None = None,
    warn: Say = silent,
) -> list[Path]:
    """Explain any video file; its features are extracted and not kept.

    Args:
        request: what is to be explained.
        file: a video file or folder of images.
        folder: where the pictures and index.json go.
        progress: told what goes on.
        warn: told what the user should know, such as damage.

    Returns:
        The files that were written.

    Raises:
        DecodeError: the file cannot be read.
        FeatureMismatch: the head was trained on features that were made in another way.
    """
    with scratch_features(request.experiment, request.head_file, file, progress, warn) as (store, namespace):
        explained = _explain(request, store, namespace, file.name, warn)
    return _write(request, explained, file.name, file, None, folder)


@contextmanager
def scratch_features(
    experiment: Experiment, head_file: Path, file: AnyPath, progress: Progress | None, warn: Say
) -> Iterator[tuple[FeatureStore, str]]:
    """The features of any video file, under its name: a store and a namespace of it, gone when the block ends.

    Raises:
        DecodeError: the file cannot be read.
        FeatureMismatch: the head was trained on features that were made in another way.
    """
    from pipeline.stages.extraction.scratch import ScratchExtraction, scratch_store

    def tell(message: str) -> None:
        if progress:
            progress(0, 1, message)

    extraction = ScratchExtraction(experiment, tell, warn)
    check_features(load_head(head_file), head_file, extraction.recipe, experiment)  # before the video is decoded
    with scratch_store(warn) as store:
        for outcome in extraction.extract([(file.name, file)], store):
            if outcome.error:
                raise outcome.error
        yield store, extraction.namespace


def _explain(request: Request, store: FeatureStore, namespace: str, video_id: str, warn: Say) -> _Explained:
    """Score a video whose features are in the store, and find its peaks and what they rest on."""
    experiment, head = request.experiment, load_head(request.head_file)
    for warning in check_features(head, request.head_file, recipe_of(store.record(namespace, video_id)), experiment):
        warn(f"warning: {warning}")
    scoring = experiment.run(request.run).scoring
    scores = score_video(store, namespace, video_id, head, scoring)
    windows = choose_windows(scores, scoring, experiment.test_sampling, request.windows)
    rows, columns = store.reader(namespace, video_id).shape[2:4]
    missing = why_no_overlay(experiment, head, scores, rows, columns)
    relations = None
    if missing is None:
        relations = relation_maps(store, namespace, video_id, head, windows, scoring.cue)
        check_choice(relations, scores.positions[windows], video_id)
    return _Explained(head, scores, windows, rows, columns, relations, missing)


def _write(
    request: Request, explained: _Explained, video_id: str, path: AnyPath, intervals: Intervals | None, folder: Path
) -> list[Path]:
    """Draw a picture per window and the curve, and write index.json."""
    limit_pixels(request.experiment.decoding.max_pixels)
    images = _pictures(path, explained.shown_frames)
    folder.mkdir(parents=True, exist_ok=True)
    files, entries = [], []
    for rank in range(1, len(explained.windows) + 1):
        view = _view(request.experiment, explained, video_id, rank, images)
        files.append(folder / f"window-{rank}.png")
        draw_window(view, files[-1])
        entries.append(_entry(view, explained.scores.positions[explained.windows[rank - 1]], files[-1].name))
    files.append(folder / "curve.png")
    scores, marks = explained.scores, tuple(explained.shown_frames)
    draw_curve(Curve(video_id, explained.head.classes, scores.times_s, scores.frames, marks, intervals), files[-1])
    files.append(folder / "index.json")
    document = {
        "video": video_id,
        "path": str(path),
        "run": request.run,
        "head": explained.head.settings.name,
        "frames": len(scores.frames),
        "curve": "curve.png",
        "windows": entries,
        "not_available": {"relation_map": explained.missing} if explained.missing else {},
        "truth": None
        if intervals is None
        else [{"label": label, "start_frame": start, "end_frame": end} for label, start, end in intervals],
    }
    files[-1].write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    return files


def _view(
    experiment: Experiment, explained: _Explained, video_id: str, rank: int, images: dict[int, np.ndarray]
) -> WindowView:
    """What is drawn of the window at the peak of this rank, from 1."""
    scores, window = explained.scores, explained.windows[rank - 1]
    frame = explained.shown_frames[rank - 1]
    image, overlay = images[frame], None
    if explained.relations is not None:
        height, width = image.shape[:2]
        fit, rows, columns = fit_of(experiment), explained.rows, explained.columns
        empty = fit.empty_cells(width, height, rows, columns).ravel()
        overlay = Overlay(
            explained.relations[rank - 1],
            cell_boxes(width, height, fit, rows, columns),
            tuple(position for position in scores.positions[window].tolist() if not empty[position]),
            fit.seen_cells(width, height, rows, columns),
        )
    classes: dict[str, float] = dict(zip(explained.head.classes, scores.frames[frame].tolist(), strict=True))
    first, last = scores.spans[window].tolist()
    return WindowView(
        video_id=video_id,
        rank=rank,
        first_frame=first,
        last_frame=last,
        frame=frame,
        time_s=float(scores.times_s[frame]),
        label=max(classes, key=lambda label: classes[label]),
        classes=classes,
        image=image,
        overlay=overlay,
        missing=explained.missing,
    )


def _entry(view: WindowView, positions: np.ndarray, file: str) -> dict[str, object]:
    """A window in index.json."""
    overlay = view.overlay
    return {
        "file": file,
        "first_frame": view.first_frame,
        "last_frame": view.last_frame,
        "shown_frame": view.frame,
        "time_s": view.time_s,
        "label": view.label,
        "score": view.classes[view.label],
        "class_scores": view.classes,
        "positions": positions.tolist(),
        "cells": [overlay.boxes[position].round(2).tolist() for position in overlay.chosen] if overlay else [],
        "relation": overlay.relation.round(5).tolist() if overlay else None,
    }


def _runs(labels: np.ndarray, classes: Sequence[str]) -> Intervals:
    """The intervals of frame labels (N, C), by time."""
    edges = np.diff(labels.astype(np.int8), axis=0, prepend=0, append=0)
    found: Intervals = []
    for number, name in enumerate(classes):
        starts, ends = (np.flatnonzero(edges[:, number] == sign).tolist() for sign in (1, -1))
        found += [(name, start, end) for start, end in zip(starts, ends, strict=True)]
    return sorted(found, key=lambda run: run[1:])


def _pictures(path: AnyPath, wanted: Sequence[int]) -> dict[int, np.ndarray]:
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
