"""Score tables beside the ground truth, and the metrics that they allow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.config import Evaluation
from pipeline.data.manifest import Manifest, load
from pipeline.metrics import ClassMetrics, ClasswiseReport, DetectionMetrics, FrameMetrics
from pipeline.metrics.bootstrap import MetricFunction
from pipeline.metrics.exact import Edge
from pipeline.stages.evaluation.judged_events import EventOptions, JudgedEvents, NoEventMetrics, judge_events
from pipeline.stages.scoring.tables import ScoreForm, ScoreTables, end_with_videos, read_tables, resolve_thresholds

__all__ = ["Judged", "judge", "judge_folder"]

ALIKE = 1e-6
"""Scores that differ by no more are the same."""


@dataclass(frozen=True)
class Judged:
    """Score tables beside the ground truth, with one attribute for every group of metrics.

    Attributes:
        tables: the scores.
        truth: video id -> (N, C) bool, the classes that each frame shows.
        frame: metrics of the anomaly score.
        classwise: metrics of the class scores; None where the tables hold none.
        detection: metrics of class scores as intervals; None unless there are class scores, all from 0 to 1.
        events: the events beside the true intervals; None unless they were asked for and the tables allow it.
        left_out: metrics that these tables do not allow -> why; `events` stands for all event metrics.
        warnings: what was done to scores and ground truth, one sentence each.
    """

    tables: ScoreTables
    truth: dict[str, np.ndarray]
    frame: FrameMetrics
    classwise: ClassMetrics | None
    detection: DetectionMetrics | None
    events: JudgedEvents | None
    left_out: dict[str, str]
    warnings: list[str]

    @property
    def groups(self) -> dict[str, MetricFunction]:
        """The groups that are there, by name, in the order in which they are reported."""
        groups: dict[str, MetricFunction | None] = {
            "frame": self.frame,
            "classwise": self.classwise,
            "detection": self.detection,
        }
        if self.events is not None:
            groups |= {"events": self.events.metrics, "det": self.events.det}
        return {name: group for name, group in groups.items() if group is not None}

    @property
    def needs(self) -> dict[str, str]:
        """Metric -> the data without which it is not defined."""
        needs = dict(FrameMetrics.NEEDS)
        for group in (self.classwise, self.detection):
            if group is not None:
                needs |= group.needs
        if self.events is not None:
            needs |= self.events.metrics.needs | self.events.det.needs
        return needs

    @property
    def edges(self) -> dict[str, Edge]:
        """Metric -> what it counts, of those that have an exact interval where all resamples are alike."""
        own = self.events
        return self.frame.edges | (own.metrics.edges | own.det.edges if own is not None else {})

    @cached_property
    def anomalous(self) -> dict[str, np.ndarray]:
        """Video id -> (N,) bool, the frames that show any class."""
        return _anomalous(self.truth)

    @cached_property
    def class_report(self) -> ClasswiseReport | None:
        """All classes one by one; None where the tables hold no class scores."""
        return self.classwise.report() if self.classwise is not None else None


def judge_folder(
    scores_folder: Path,
    manifest_folder: Path,
    evaluation: Evaluation,
    form: ScoreForm | None = None,
    lengths: Mapping[str, int] | None = None,
    imported: bool = False,
    events: EventOptions | None = None,
    left_out: Collection[str] = (),
) -> tuple[Manifest, Judged]:
    """The manifest of a folder with its ground truth, and a folder's scores beside it.

    Args:
        scores_folder: the score tables.
        manifest_folder: the manifest; its ground truth is read here.
        evaluation: settings.
        form: how files of other systems are read; see `pipeline.stages.scoring.tables.read_tables`.
        lengths: video id -> decoded frames, where they are known better than by the manifest's planned numbers.
        imported: the scores come from features of whole clips, which need not end where the video ends.
        events: by which rules events are found; None for no event metrics.
        left_out: ids of test videos that are not judged, whether they have scores or not, as those that another system
            could not read.

    Raises:
        LengthMismatch: scores and ground truth of a video differ in length.
        PipelineError: a test video has no scores and is not named as quarantined beside them, or there are scores of a
            video that is not in the test split.
    """
    manifest = load(manifest_folder, truth=True)
    frames = {entry.video_id: (lengths or {}).get(entry.video_id, entry.packets) for entry in manifest.split("test")}
    tables = read_tables(scores_folder, manifest.classes, frames, form)
    tables = end_with_videos(tables, frames) if imported else tables
    return manifest, judge(scores_folder, tables, manifest, evaluation, events, form, left_out)


def judge(
    source: Path,
    tables: ScoreTables,
    manifest: Manifest,
    evaluation: Evaluation,
    events: EventOptions | None = None,
    form: ScoreForm | None = None,
    without: Collection[str] = (),
) -> Judged:
    """Put the ground truth of `manifest` beside the scores and set up every group of metrics that they allow.

    Args:
        source: where the tables were read from.
        tables: the scores.
        manifest: with its ground truth.
        evaluation: settings.
        events: by which rules events are found; None for no event metrics.
        form: how the tables were read.
        without: ids of videos that are not judged.

    Raises:
        LengthMismatch, PipelineError: as `judge_folder`.
    """
    held = {video_id: len(scores) for video_id, scores in tables.general.items()}
    tables = tables.without(without)
    counts = {video_id: held[video_id] for video_id in tables.general}
    frames = counts | dict(tables.video_frames or {})
    truth = {video_id: manifest.frame_labels(video_id, frames[video_id])[:count] for video_id, count in counts.items()}
    warnings = list(tables.notes)
    warnings += [line for video_id, count in sorted(counts.items()) for line in manifest.clipped(video_id, count)]
    warnings += [_lost(video_id, tables.lost[video_id], counts[video_id]) for video_id in sorted(tables.lost)]
    warnings += _all_alike(tables.general)
    classwise, detection = None, None
    left_out: dict[str, str] = {}
    scores = tables.classwise
    if scores is None:
        left_out |= dict.fromkeys(("mf1", "mean_class_ap", "detection_map"), "the tables hold no class scores")
    else:
        theta = resolve_thresholds(tables.thresholds, evaluation.threshold, len(manifest.classes))
        classwise = ClassMetrics(scores, truth, manifest.classes, threshold=theta, mode=evaluation.mode)
        if all(table.min(initial=0) >= 0 and table.max(initial=0) <= 1 for table in scores.values()):
            detection = DetectionMetrics(scores, truth, manifest.classes)
        else:
            left_out["detection_map"] = "the protocol is for scores from 0 to 1"
    frame = FrameMetrics(tables.general, _anomalous(truth))
    found = None
    if events is not None:
        try:
            found = judge_events(source, tables, truth, manifest, events, form, held)
        except NoEventMetrics as error:
            left_out["events"] = str(error)
            warnings.append(f"no event metrics: {error}")
    return Judged(tables, truth, frame, classwise, detection, found, left_out, warnings)


def _anomalous(truth: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {video_id: np.asarray(labels.any(axis=1)) for video_id, labels in truth.items()}


def _all_alike(scores: Mapping[str, np.ndarray]) -> list[str]:
    """A warning where all frames of all videos have one score."""
    held = [table for table in scores.values() if len(table)]
    low, high = (min(float(t.min()) for t in held), max(float(t.max()) for t in held)) if held else (0.0, 1.0)
    if high - low > ALIKE or sum(len(table) for table in held) < 2:
        return []
    return [
        f"every frame of every video has the score {high:.6g}: these scores tell nothing apart. The head may not "
        "have been trained, or its features may be too large or too small for its training to move"
    ]


def _lost(video_id: str, spans: Sequence[Sequence[int]], frames: int) -> str:
    count = sum(stop - start for start, stop in spans)
    places = ", ".join(f"{start} to {stop - 1}" if stop - start > 1 else str(start) for start, stop in spans)
    return (
        f"{video_id}: {count} of {frames} frames could not be decoded ({places}); "
        "each has the score of the frame before it"
    )
