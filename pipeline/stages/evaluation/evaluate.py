"""Stage 4: metrics of score tables. The only stage that reads the ground truth of test videos.

It needs the tables and the manifest, and neither videos, features, weights nor torch.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import Evaluation, Experiment, GeneratedDataset, Run, digest, to_yaml
from pipeline.data.manifest import Manifest
from pipeline.data.tables import safe_rows
from pipeline.metrics import ClassScore, Estimate, LocalisationMetrics, difference, frame_auc
from pipeline.metrics.events import GENERAL
from pipeline.metrics.frame import FALSE_ALARM_THRESHOLD
from pipeline.metrics.ranking import Ranking
from pipeline.progress import WARNING, Say, silent
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.evaluation.document import as_json, localisation_document, metrics_document
from pipeline.stages.evaluation.judged import Judged, judge, judge_folder
from pipeline.stages.evaluation.judged_events import EVENT_COLUMNS, TRUE_EVENT_COLUMNS, EventOptions
from pipeline.stages.evaluation.localisation import NoLocalisation, judge_localisation
from pipeline.stages.events.events import sources_of
from pipeline.stages.events.rules import make_rules
from pipeline.stages.scoring.tables import ScoreForm, end_with_videos, quarantine_note, read_quarantined, read_tables

__all__ = ["Judged", "compare_tables", "evaluate_run", "evaluate_tables"]

CLASS_COLUMNS = ("precision", "recall", "f1", "ap", "true_frames", "predicted_frames", "correct_frames")
CURVE_COLUMNS = ("threshold", "true_positive_rate", "false_positive_rate", "precision")
SAID = 10  # warnings; all are in metrics.json
VIDEO_COLUMNS = ("video_id", "frames", "anomalous_frames", "alarm_frames", "max_score", "mean_score", "auc")


def evaluate_run(
    experiment: Experiment,
    run_name: str,
    manifest_folder: Path,
    scores_folder: Path,
    folder: Path,
    quarantined: Sequence[str] = (),
    say: Say | None = None,
    stage: str = "frozen",
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Write the metrics of one run: metrics.json, the curves, the tables of classes, videos and events, and
    config.yaml.

    Args:
        experiment: the experiment.
        run_name: one of its runs.
        manifest_folder: the manifest; its ground truth is read here.
        scores_folder: the run's score tables.
        folder: where the metrics go.
        quarantined: ids of videos that could not be read; they are in no metric.
        say: told every warning; they are in metrics.json too.
        stage: frozen or finetuned, as metrics.json states it.
        thresholds: upper thresholds of events, by class and anomaly in general, as far as they were chosen on
            validation videos; default: those of the configuration.

    Raises:
        LengthMismatch: scores and ground truth of a video differ in length.
        PipelineError: a test video has no scores, or there are scores of a video that is not in the test split.
    """
    run = experiment.run(run_name)
    whole = load_manifest(experiment, manifest_folder, truth=True)
    manifest = whole.without(quarantined)
    lengths = {entry.video_id: entry.packets for entry in manifest.split("test")}
    tables = read_tables(scores_folder, manifest.classes, lengths)
    tables = end_with_videos(tables, lengths) if experiment.features.test else tables
    rules = make_rules(experiment.events, manifest.classes, thresholds) if thresholds else None
    judged = judge(scores_folder, tables, manifest, run.evaluation, EventOptions(experiment.events, rules))
    facts = {
        "run": run_name,
        "head": run.head.name,
        "backbone": experiment.features.test or experiment.backbone.name,
        "stage": stage,
    }
    identity = config_digest(experiment, run, stage)
    document = metrics_document(
        facts,
        judged,
        manifest,
        run.evaluation,
        config_digest=identity,
        code_version=_code_version(),
        quarantined=[entry.video_id for entry in whole.split("test") if entry.video_id in quarantined],
    )
    found: LocalisationMetrics | str
    try:
        found = judge_localisation(experiment, manifest, scores_folder)
    except NoLocalisation as error:
        found = str(error)
    places = isinstance(experiment.dataset, GeneratedDataset)
    document |= localisation_document(found, len(judged.truth), run.evaluation, places)
    _write(folder, document, judged, manifest, to_yaml(run))
    if say:
        for warning in judged.warnings[:SAID]:
            say(f"warning: {warning}")
        if (more := len(judged.warnings) - SAID) > 0:
            say(f"warning: {more} more warnings on scores and ground truth are in metrics.json")


def config_digest(experiment: Experiment, run: Run, stage: str) -> str:
    """What `config_digest` in metrics.json is: of all settings that decide a result, of one run and stage."""
    settings = experiment.model_dump(mode="json", exclude={"expected", "machine", "paths", "runs"})
    if stage == "finetuned":
        del settings["backbone"]["weights"]  # a path among the outputs; what made the file is in the settings
    return digest(settings, run, stage)


def evaluate_tables(
    scores_folder: Path,
    manifest_folder: Path,
    folder: Path,
    evaluation: Evaluation,
    *,
    form: ScoreForm | None = None,
    lengths: Mapping[str, int] | None = None,
    events: EventOptions | None = None,
) -> list[str]:
    """Write the metrics of score tables of any system; the same files as `evaluate_run`.

    Test videos that our own tables name as quarantined are left out, with a warning.

    Args:
        scores_folder: the score tables.
        manifest_folder: the manifest; its ground truth is read here.
        folder: where the metrics go.
        evaluation: settings.
        form: how files of other systems are read; see `pipeline.stages.scoring.tables.read_tables`.
        lengths: video id -> decoded frames, where they are known better than by the manifest's planned numbers.
        events: by which rules events are found; default: those of the default configuration.

    Returns:
        Warnings.

    Raises:
        LengthMismatch: scores and ground truth of a video differ in length.
        PipelineError: a test video has no scores, or there are scores of a video that is not in the test split.
    """
    events = events or EventOptions()
    manifest, judged = judge_folder(scores_folder, manifest_folder, evaluation, form, lengths, events=events)
    form_facts = (form or ScoreForm()).facts()
    facts = {"run": scores_folder.name, **form_facts}
    document = metrics_document(
        facts,
        judged,
        manifest,
        evaluation,
        config_digest=digest(evaluation, form_facts, events.settings, *_thresholds(events)),
        code_version=_code_version(),
        quarantined=judged.tables.quarantined,
    )
    reason = "score tables alone do not say where in the picture an anomaly is, or where a head looks"
    document |= localisation_document(reason, len(judged.truth), evaluation, places=False)
    _write(folder, document, judged, manifest, to_yaml(evaluation))
    return judged.warnings


def _thresholds(events: EventOptions) -> list[dict[str, float]]:
    """Upper thresholds by class, where they are not those of the settings."""
    return [{name: rule.upper for name, rule in events.rules.items()}] if events.rules else []


def compare_tables(
    first: Path,
    second: Path,
    manifest_folder: Path,
    evaluation: Evaluation,
    *,
    form: ScoreForm | None = None,
    lengths: Mapping[str, int] | None = None,
    events: EventOptions | None = None,
    say: Say = silent,
) -> dict[str, dict[str, object]]:
    """First minus second of every metric that both have, with its paired interval.

    Test videos that one of them names as quarantined are left out of both.

    Args:
        first: score tables.
        second: score tables of the same videos.
        manifest_folder: the manifest; its ground truth is read here.
        evaluation: settings.
        form: how the tables without an index are read.
        lengths: as of `evaluate_tables`.
        events: as of `evaluate_tables`.
        say: told, as a warning, which videos are left out.

    Returns:
        Metric -> its value and interval, or why they are not defined.

    Raises:
        LengthMismatch, PipelineError: as `evaluate_tables`.
    """
    left_out = read_quarantined(first).keys() | read_quarantined(second).keys()

    def judged(folder: Path) -> Judged:
        own = ScoreForm(clip_frames=form.clip_frames) if form and (folder / "index.json").is_file() else form
        options = events or EventOptions()
        found = judge_folder(folder, manifest_folder, evaluation, own, lengths, events=options, left_out=left_out)[1]
        if found.tables.quarantined:
            say(f"{WARNING}{folder}: {quarantine_note(found.tables.quarantined)}")
        return found

    one, other = judged(first), judged(second)
    shared = [name for name in one.groups if name in other.groups]
    found = difference(
        [one.groups[name] for name in shared],
        [other.groups[name] for name in shared],
        len(one.truth),
        resamples=evaluation.resamples,
        seed=evaluation.bootstrap_seed,
        needs=one.needs,
    )
    for side in (other, one):
        if "events" in side.left_out:
            found["events"] = Estimate(None, reason=side.left_out["events"])
    return {name: as_json(value) for name, value in found.items()}


def _write(folder: Path, document: Mapping[str, object], judged: Judged, manifest: Manifest, config: str) -> None:
    """Write all files of an evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    pq.write_table(_curves(judged), folder / "curves.parquet")
    classes = judged.class_report.classes if judged.class_report else ()
    _write_csv(folder / "per_class.csv", ("class", *CLASS_COLUMNS), map(_class_row, classes))
    rows = (_video_row(v, judged.tables.general[v], judged.anomalous[v]) for v in sorted(judged.truth))
    _write_csv(folder / "per_video.csv", VIDEO_COLUMNS, rows)
    if judged.events is not None:
        found = judged.events.found(judged.tables, manifest.classes, sources_of(manifest))
        _write_csv(folder / "per_event.csv", EVENT_COLUMNS, found)
        _write_csv(folder / "per_true_event.csv", TRUE_EVENT_COLUMNS, judged.events.true())
        curve = judged.events.det.curve()
        label = pa.array([GENERAL] * len(curve["threshold"]), pa.string())
        pq.write_table(pa.table({"label": label, **curve}), folder / "det.parquet")
    (folder / "config.yaml").write_text(config, encoding="utf-8")


def _class_row(score: ClassScore) -> list[object]:
    return [score.label, *(getattr(score, name) for name in CLASS_COLUMNS)]


def _video_row(video_id: str, scores: np.ndarray, anomalous: np.ndarray) -> list[object]:
    one_kind = anomalous.all() or not anomalous.any()
    auc = None if one_kind else frame_auc({video_id: scores}, {video_id: anomalous})
    alarms = int((scores >= FALSE_ALARM_THRESHOLD).sum())
    highest, mean = (float(scores.max()), float(scores.mean())) if len(scores) else (None, None)
    return [video_id, len(scores), int(anomalous.sum()), alarms, highest, mean, auc]


def _curves(judged: Judged) -> pa.Table:
    """Every point of the ROC and precision-recall curves, of anomaly in general and of each class that occurs."""
    rankings = {"anomaly": judged.frame.frames}
    if judged.classwise:
        rankings |= dict(zip(judged.classwise.classes, judged.classwise.rankings, strict=True))
    empty = pa.schema([("label", pa.string()), *((name, pa.float64()) for name in CURVE_COLUMNS)]).empty_table()
    parts = [_curve(label, ranking) for label, ranking in rankings.items()]
    return pa.concat_tables([empty, *(part for part in parts if part is not None)])


def _curve(label: str, ranking: Ranking) -> pa.Table | None:
    """The points of one curve; None where all frames are of one kind."""
    curve = ranking.curve()
    true, false = curve["true_positives"], curve["false_positives"]
    positives, negatives = curve["positives"], curve["negatives"]
    if not positives.any() or not negatives.any():
        return None
    columns = curve["threshold"], true / positives, false / negatives, true / (true + false)
    return pa.table({"label": pa.array([label] * len(true))} | dict(zip(CURVE_COLUMNS, columns, strict=True)))


def _code_version() -> str:
    try:
        return importlib.metadata.version("gig-vad")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows(safe_rows(rows))
