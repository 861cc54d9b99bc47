"""The operating point of a run: its validation videos are scored as test videos are, and the thresholds chosen on that.

What is cached of training videos is a few sampled clips of each, from which no score of every frame can be made. So the
validation videos are extracted once more, as sliding windows like those of test videos, in a cache namespace of their
own.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from pipeline.config import Experiment, to_yaml
from pipeline.data.manifest import Manifest
from pipeline.hashing import file_sha256
from pipeline.progress import Progress, Say
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.events.choosing import choose
from pipeline.stages.events.operating_point import OperatingPoint, configured, write_operating_point
from pipeline.stages.events.videos import open_scores
from pipeline.stages.extraction.extract import extract_split
from pipeline.stages.scoring.score import score_videos
from pipeline.stages.training.validation import read_validation_videos

__all__ = ["choose_for_run"]


def choose_for_run(
    experiment: Experiment,
    run_name: str,
    manifest: Manifest,
    namespace: str,
    head_folder: Path,
    folder: Path,
    progress: Progress,
    say: Say,
    stage: str = "frozen",
) -> None:
    """Write operating_point.json and config.yaml to `folder`, and to `scores` in it the score tables of the validation
    videos.

    Without validation videos, or without a way to score their frames, the thresholds are those of the configuration,
    and the file says why.

    Args:
        experiment: the experiment.
        run_name: one of its runs.
        manifest: without videos in quarantine and without the truth of test videos.
        namespace: of the cache, for the windows of the validation videos.
        head_folder: of the trained head.
        folder: where the operating point goes.
        progress: told how far it is.
        say: told what a person should know.
        stage: frozen or finetuned.

    Raises:
        ConfigError, WeightsError, CacheError: the validation videos cannot be extracted.
        FeatureMismatch: their features were made in another way than those that the head was trained on.
        PipelineError: no event can be found in their scores, see `choose`.
    """
    video_ids = read_validation_videos(head_folder)
    settings, classes = experiment.events, manifest.classes
    if reason := _not_chosen(experiment, video_ids):
        found = configured(settings, classes, reason)
    else:
        found = _chosen(experiment, run_name, manifest, video_ids, namespace, head_folder, folder, progress, say)
    for note in found.notes:
        say(f"operating point of {run_name}: {note}")
    head_sha256 = file_sha256(head_folder / "head.safetensors")
    facts = {"run": run_name, "stage": stage, "head": head_folder.name, "head_sha256": head_sha256}
    write_operating_point(folder, found, facts)
    (folder / "config.yaml").write_text(to_yaml(settings), encoding="utf-8")


def _not_chosen(experiment: Experiment, video_ids: tuple[str, ...]) -> str:
    """Why nothing can be chosen; "" where it can."""
    if not video_ids:
        return "the head was trained without validation videos (selection.validation_share is 0)"
    if experiment.features.train or experiment.features.test:
        return "the features are imported, and those of training videos give no score for every frame"
    return ""


def _chosen(
    experiment: Experiment,
    run_name: str,
    manifest: Manifest,
    video_ids: tuple[str, ...],
    namespace: str,
    head_folder: Path,
    folder: Path,
    progress: Progress,
    say: Say,
) -> OperatingPoint:
    folder.mkdir(parents=True, exist_ok=True)
    videos = [manifest.video(video_id) for video_id in video_ids]
    # A quarantine of its own: a video that could be read for training stays a training video, whatever happens here.
    unreadable = Quarantine(folder / "unreadable")
    extract_split(experiment, manifest, "test", videos, namespace, unreadable, progress, say=say)
    left_out = {record.video_id: record.reason for record in unreadable.records()}
    shutil.rmtree(unreadable.folder, ignore_errors=True)
    readable = [video for video in videos if video.video_id not in left_out]
    if not readable:
        return configured(experiment.events, manifest.classes, "none of the validation videos can be read")
    scores = folder / "scores"
    score_videos(experiment, run_name, readable, namespace, head_folder, scores, progress, say=say)
    labels = {video.video_id: video.labels or () for video in readable}
    found = choose(
        lambda: open_scores(scores, manifest.classes).videos, labels, manifest.classes, experiment.events, progress
    )
    return replace(found, left_out=left_out, notes=(*found.notes, *_unread(left_out)))


def _unread(left_out: dict[str, str]) -> list[str]:
    return [f"{video_id} cannot be read whole and is left out: {reason}" for video_id, reason in left_out.items()]
