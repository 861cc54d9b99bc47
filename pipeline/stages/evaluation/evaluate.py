"""Stage 4: figures from score tables. The only stage that looks at the truth of test videos.

It needs the tables and the manifest, and neither videos, features, weights nor torch.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import Evaluation, Experiment, SyntheticDataset, digest, to_yaml
from pipeline.data.manifest import Manifest, load
from pipeline.data.tables import safe_rows
from pipeline.metrics import (
    DEFINITIONS,
    ClassMetrics,
    DetectionMetrics,
    Estimate,
    FrameMetrics,
    difference,
    estimate,
    frame_auc,
)
from pipeline.metrics.bootstrap import LEVEL, MetricFunction
from pipeline.metrics.frame import FALSE_ALARM_THRESHOLD
from pipeline.progress import Say
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.evaluation.localisation import localisation
from pipeline.stages.scoring.tables import (
    ScoreForm,
    ScoreTables,
    end_with_videos,
    read_scores,
    read_tables,
    resolve_thresholds,
)

__all__ = ["compare_tables", "evaluate_run", "evaluate_tables", "judge_folder", "read_scores"]

CURVE_COLUMNS = ("threshold", "true_positive_rate", "false_positive_rate", "precision")


@dataclass(frozen=True)
class Judged:
    """Score tables beside the truth.

    Attributes:
        tables: the scores.
        truth: video id -> (N, C) bool.
        groups: the figures that are defined, as functions of the videos' weights.
        needs: what each of them is not defined without.
        left_out: figures that these tables do not allow, and why.
        warnings: what was done to the truth.
    """

    tables: ScoreTables
    truth: dict[str, np.ndarray]
    groups: list[MetricFunction]
    needs: dict[str, str]
    left_out: dict[str, str]
    warnings: list[str]

    @property
    def frame(self) -> FrameMetrics:
        return self.groups[0]

    @property
    def classwise(self) -> ClassMetrics | None:
        return next((group for group in self.groups if isinstance(group, ClassMetrics)), None)


def evaluate_run(
    experiment: Experiment,
    run_name: str,
    manifest_folder: Path,
    scores_folder: Path,
    folder: Path,
    quarantined: Sequence[str] = (),
    say: Say | None = None,
    stage: str = "frozen",
) -> None:
    """Write the figures of one run: metrics.json, curves.parquet, per_class.csv, per_video.csv and config.yaml.

    Args:
        experiment: the experiment.
        run_name: one of its runs.
        manifest_folder: of the manifest; its truth is read here.
        scores_folder: of the run's score tables.
        folder: where the figures go.
        quarantined: ids of videos that could not be read and have no part in the figures.
        say: told every warning; they are in metrics.json too.
        stage: frozen or finetuned, as which the figures are reported.

    Raises:
        LengthMismatch: scores and truth of a video differ in length.
        PipelineError: a test video has no scores, or there are scores of a video that is not in the test split.
    """
    run = experiment.run(run_name)
    manifest = load_manifest(experiment, manifest_folder, truth=True).without(quarantined)
    lengths = {entry.video_id: entry.packets for entry in manifest.split("test")}
    tables = read_tables(scores_folder, manifest.classes, lengths)
    judged = _judge(end_with_videos(tables, lengths) if experiment.features.test else tables, manifest, run.evaluation)
    facts = {
        "run": run_name,
        "head": run.head.name,
        "backbone": experiment.features.test or experiment.backbone.name,
        "stage": stage,
    }
    extra = {}
    if isinstance(experiment.dataset, SyntheticDataset):
        extra = localisation(experiment, manifest, scores_folder)
    settings = experiment.model_dump(mode="json", exclude={"machine", "paths", "runs", "events"})
    if stage == "finetuned":
        del settings["backbone"]["weights"]  # a path among the outputs; what made the file is in the settings
    identity = digest(settings, run, stage)
    _write(folder, facts, judged, manifest, run.evaluation, identity, extra)
    (folder / "config.yaml").write_text(to_yaml(run), encoding="utf-8")
    for warning in judged.warnings if say else ():
        say(f"warning: {warning}")


def evaluate_tables(
    scores_folder: Path,
    manifest_folder: Path,
    folder: Path,
    evaluation: Evaluation,
    *,
    form: ScoreForm | None = None,
    lengths: dict[str, int] | None = None,
) -> list[str]:
    """Write the figures of score tables of any system; the same files as `evaluate_run`.

    Args:
        scores_folder: of the tables.
        form: how their files are read, see `pipeline.stages.scoring.tables.read_tables`.
        manifest_folder: of the manifest; its truth is read here.
        folder: where the figures go.
        evaluation: settings.
        lengths: video id -> decoded frames, where they are known better than by the manifest's planned numbers.

    Returns:
        Warnings.

    Raises:
        LengthMismatch, PipelineError: as `evaluate_run`.
    """
    manifest, judged = judge_folder(scores_folder, manifest_folder, evaluation, form, lengths)
    facts = (form or ScoreForm()).facts()
    identity = digest(evaluation, facts)
    _write(folder, {"run": scores_folder.name, **facts}, judged, manifest, evaluation, identity, {})
    (folder / "config.yaml").write_text(to_yaml(evaluation), encoding="utf-8")
    return judged.warnings


def compare_tables(
    first: Path,
    second: Path,
    manifest_folder: Path,
    evaluation: Evaluation,
    *,
    form: ScoreForm | None = None,
    lengths: dict[str, int] | None = None,
) -> dict[str, dict]:
    """First minus second of every figure that both have, with its paired interval.

    Arguments and errors as `evaluate_tables`; `form` is of the scores without an index.
    """
    judged = []
    for folder in (first, second):
        own = ScoreForm(clip_frames=form.clip_frames) if form and (folder / "index.json").is_file() else form
        judged.append(judge_folder(folder, manifest_folder, evaluation, own, lengths)[1])
    one, other = judged
    kinds = [type(group) for group in other.groups]
    pairs = [(group, other.groups[kinds.index(type(group))]) for group in one.groups if type(group) in kinds]
    options = {"resamples": evaluation.resamples, "seed": evaluation.bootstrap_seed, "needs": one.needs}
    found = difference(*zip(*pairs, strict=True), len(one.truth), **options)
    return {name: _plain(value) for name, value in found.items()}


def judge_folder(
    scores_folder: Path,
    manifest_folder: Path,
    evaluation: Evaluation,
    form: ScoreForm | None = None,
    lengths: dict[str, int] | None = None,
    imported: bool = False,
) -> tuple[Manifest, Judged]:
    """Scores beside the truth; arguments and errors as `evaluate_tables`. `imported`: of clips that need not end with
    the video."""
    manifest = load(manifest_folder, truth=True)
    frames = {entry.video_id: (lengths or {}).get(entry.video_id, entry.packets) for entry in manifest.split("test")}
    tables = read_tables(scores_folder, manifest.classes, frames, form)
    return manifest, _judge(end_with_videos(tables, frames) if imported else tables, manifest, evaluation)


def _judge(tables: ScoreTables, manifest: Manifest, evaluation: Evaluation) -> Judged:
    """Put the truth beside the scores and set up every figure that they allow."""
    counts = {video_id: len(scores) for video_id, scores in tables.general.items()}
    frames = counts | (tables.video_frames or {})
    truth = {video_id: manifest.frame_labels(video_id, frames[video_id])[:count] for video_id, count in counts.items()}
    warnings = list(tables.notes)
    warnings += [line for video_id, count in sorted(counts.items()) for line in manifest.clipped(video_id, count)]
    warnings += [_lost(video_id, tables.lost[video_id], counts[video_id]) for video_id in sorted(tables.lost)]
    groups: list[MetricFunction] = [
        FrameMetrics(tables.general, {v: labels.any(axis=1) for v, labels in truth.items()})
    ]
    needs, left_out = dict(FrameMetrics.NEEDS), {}
    scores = tables.classwise
    values = (scores or tables.general).values()
    if scores is None:
        left_out |= dict.fromkeys(("mf1", "mean_class_ap", "detection_map"), "the tables hold no class scores")
    else:
        theta = _theta(tables, evaluation, manifest)
        classwise = ClassMetrics(scores, truth, manifest.classes, threshold=theta, mode=evaluation.mode)
        groups.append(classwise)
        needs |= classwise.needs
        if all(table.min(initial=0) >= 0 and table.max(initial=0) <= 1 for table in values):
            groups.append(DetectionMetrics(scores, truth, manifest.classes))
            needs |= groups[-1].needs
        else:
            left_out["detection_map"] = "the protocol is for scores from 0 to 1"
    return Judged(tables, truth, groups, needs, left_out, warnings)


def _lost(video_id: str, spans: Sequence[Sequence[int]], frames: int) -> str:
    count = sum(stop - start for start, stop in spans)
    places = ", ".join(f"{start} to {stop - 1}" if stop - start > 1 else str(start) for start, stop in spans)
    return f"{video_id}: {count} of {frames} frames could not be decoded ({places}); each has the score of the frame before it"


def _theta(tables: ScoreTables, evaluation: Evaluation, manifest: Manifest) -> list[float]:
    return resolve_thresholds(tables.thresholds, evaluation.threshold, len(manifest.classes))


def _write(
    folder: Path, facts: dict, judged: Judged, manifest: Manifest, evaluation: Evaluation, identity: str, extra: dict
) -> None:
    """Write everything but the configuration."""
    seed = evaluation.bootstrap_seed
    found = estimate(judged.groups, len(judged.truth), resamples=evaluation.resamples, seed=seed, needs=judged.needs)
    found |= {name: Estimate(None, reason=reason) for name, reason in judged.left_out.items()}
    report = judged.classwise.report() if judged.classwise else None
    anomalous = {video_id: labels.any(axis=1) for video_id, labels in judged.truth.items()}
    thresholds = judged.tables.thresholds
    metrics = facts | {
        "auc": found["frame_auc"].value,
        "ap": found["frame_ap"].value,
        "mf1": found["mf1"].value,
        "videos": len(judged.truth),
        "anomalous_videos": sum(bool(labels.any()) for labels in anomalous.values()),
        "frames": sum(map(len, anomalous.values())),
        "anomalous_frames": int(sum(labels.sum() for labels in anomalous.values())),
        "mf1_left_out": list(report.left_out) if report else [],
        "threshold": evaluation.threshold if thresholds is None else _theta(judged.tables, evaluation, manifest),
        "threshold_from": "configuration" if thresholds is None else "validation",
        "mode": evaluation.mode,
        "false_alarm_threshold": FALSE_ALARM_THRESHOLD,
        "figures": {name: _plain(value) for name, value in found.items()},
        "bootstrap": {"unit": "video", "level": LEVEL, "resamples": evaluation.resamples, "seed": seed},
        "definitions": DEFINITIONS,
        "config_digest": identity,
        "code_version": _version(),
        "truth": {key: value for key, value in asdict(manifest.origin).items() if key != "warnings"},
        "lost_frames": dict(sorted(judged.tables.lost.items())),
        "warnings": [*manifest.origin.warnings, *judged.warnings],
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metrics | extra, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    _write_curves(folder / "curves.parquet", judged)
    columns = ("label", "precision", "recall", "f1", "ap", "true_frames", "predicted_frames", "correct_frames")
    rows = ([getattr(score, name) for name in columns] for score in (report.classes if report else ()))
    _write_csv(folder / "per_class.csv", ("class", *columns[1:]), rows)
    columns = ("video_id", "frames", "anomalous_frames", "alarm_frames", "max_score", "mean_score", "auc")
    rows = (
        _video_row(video_id, judged.tables.general[video_id], anomalous[video_id]) for video_id in sorted(anomalous)
    )
    _write_csv(folder / "per_video.csv", columns, rows)


def _video_row(video_id: str, scores: np.ndarray, anomalous: np.ndarray) -> tuple:
    one_kind = anomalous.all() or not anomalous.any()
    auc = None if one_kind else frame_auc({video_id: scores}, {video_id: anomalous})
    alarms = int((scores >= FALSE_ALARM_THRESHOLD).sum())
    return video_id, len(scores), int(anomalous.sum()), alarms, float(scores.max()), float(scores.mean()), auc


def _write_curves(path: Path, judged: Judged) -> None:
    """Every point of the ROC and precision-recall curves, of anomaly in general and of each class that occurs."""
    rankings = {"anomaly": judged.frame.frames}
    if judged.classwise:
        rankings |= dict(zip(judged.classwise.classes, judged.classwise.rankings, strict=True))
    parts = []
    for label, ranking in rankings.items():
        curve = ranking.curve()
        true, false, positives, negatives = (
            curve[k] for k in ("true_positives", "false_positives", "positives", "negatives")
        )
        if not positives.any() or not negatives.any():
            continue
        columns = curve["threshold"], true / positives, false / negatives, true / (true + false)
        parts.append(
            pa.table({"label": pa.array([label] * len(true))} | dict(zip(CURVE_COLUMNS, columns, strict=True)))
        )
    empty = pa.schema([("label", pa.string()), *((name, pa.float64()) for name in CURVE_COLUMNS)]).empty_table()
    pq.write_table(pa.concat_tables(parts) if parts else empty, path)


def _plain(value: Estimate) -> dict:
    """For JSON: a value with its interval, or the reason why there is none of them."""
    if value.value is None:
        return {"value": None, "reason": value.reason}
    plain = {"value": value.value, "low": value.low, "high": value.high, "resamples": value.resamples}
    return plain | ({"reason": value.reason} if value.reason else {})


def _version() -> str:
    try:
        return importlib.metadata.version("gig-vad")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows(safe_rows(rows))
