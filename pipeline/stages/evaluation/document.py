"""The content of metrics.json."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict

import numpy as np

from pipeline.config import Evaluation
from pipeline.data.manifest import Manifest
from pipeline.metrics import DEFINITIONS, Estimate, LocalisationMetrics, estimate
from pipeline.metrics.bootstrap import LEVEL
from pipeline.metrics.events import GENERAL, VideoEvents
from pipeline.metrics.frame import FALSE_ALARM_THRESHOLD
from pipeline.metrics.spatial import SeenWindows
from pipeline.stages.evaluation.judged import Judged
from pipeline.stages.scoring.tables import resolve_thresholds

__all__ = ["LOCALISATION", "as_json", "localisation_document", "metrics_document"]

EVENTS = "events/"
LOCALISATION = ("hit_rate", "hit_rate_chance", "relation_energy", "relation_energy_chance")
"""Metrics of localisation that stand on their own in metrics.json, and in the summary."""


def metrics_document(
    facts: Mapping[str, object],
    judged: Judged,
    manifest: Manifest,
    evaluation: Evaluation,
    *,
    config_digest: str,
    code_version: str,
    quarantined: Collection[str] = (),
) -> dict[str, object]:
    """Every metric with its interval, and what was evaluated how.

    Args:
        facts: what was evaluated, such as the run's name; they come first.
        judged: scores beside the ground truth.
        manifest: where the ground truth is from.
        evaluation: settings.
        config_digest: identity of the settings.
        code_version: of this program.
        quarantined: ids of test videos that could not be read; they are in no metric.

    Returns:
        Plain data for JSON.
    """
    seed, videos = evaluation.bootstrap_seed, len(judged.truth)
    found = estimate(
        judged.groups.values(),
        videos,
        resamples=evaluation.resamples,
        seed=seed,
        needs=judged.needs,
        edges=judged.edges,
    )
    found |= {name: Estimate(None, reason=reason) for name, reason in judged.left_out.items() if name != "events"}
    thresholds = judged.tables.thresholds
    return {
        **facts,
        "auc": found["frame_auc"].value,
        "ap": found["frame_ap"].value,
        "mf1": found["mf1"].value,
        "videos": videos,
        "anomalous_videos": sum(bool(frames.any()) for frames in judged.anomalous.values()),
        "frames": sum(len(frames) for frames in judged.anomalous.values()),
        "anomalous_frames": sum(int(frames.sum()) for frames in judged.anomalous.values()),
        "mf1_left_out": list(judged.class_report.left_out) if judged.class_report else [],
        "threshold": evaluation.threshold
        if thresholds is None
        else resolve_thresholds(thresholds, evaluation.threshold, len(manifest.classes)),
        "threshold_from": "configuration" if thresholds is None else "validation",
        "mode": evaluation.mode,
        "false_alarm_threshold": FALSE_ALARM_THRESHOLD,
        "figures": {name: as_json(value) for name, value in found.items() if not name.startswith(EVENTS)},
        "events": _events(judged, found),
        "bootstrap": {"unit": "video", "level": LEVEL, "resamples": evaluation.resamples, "seed": seed},
        "definitions": DEFINITIONS,
        "config_digest": config_digest,
        "code_version": code_version,
        "truth": {key: value for key, value in asdict(manifest.origin).items() if key != "warnings"},
        "lost_frames": dict(sorted(judged.tables.lost.items())),
        **({"quarantined": sorted(quarantined)} if quarantined else {}),
        "warnings": [*manifest.origin.warnings, *judged.warnings],
    }


def _events(judged: Judged, found: Mapping[str, Estimate]) -> dict[str, object]:
    """The event metrics: of anomaly in general, the mean over classes, and of every class; or why there are none."""
    if judged.events is None:
        return {"reason": judged.left_out.get("events", "not asked for")}

    def metrics(prefix: str) -> dict[str, object]:
        start = f"{EVENTS}{prefix}/"
        own = {name.removeprefix(start): value for name, value in found.items() if name.startswith(start)}
        # No metric has a slash in its name: what has one here is of a class that is called so, such as A/B beside A.
        return {name: as_json(value) for name, value in own.items() if "/" not in name}

    def target(prefix: str, videos: Mapping[str, VideoEvents]) -> dict[str, object]:
        true, hit = (sum(len(video.true) for video in videos.values()), sum(int(v.hit.sum()) for v in videos.values()))
        events = sum(len(video.found) for video in videos.values())
        counts = {"found_events": events, "true_intervals": true, "hit": hit, "missed": true - hit}
        return {**counts, "metrics": metrics(prefix)}

    own = judged.events.metrics
    return {
        **judged.events.facts(),
        GENERAL: target(GENERAL, own.general),
        "class_mean": {"metrics": metrics("class_mean")} if own.by_class else None,
        "classes": {name: target(f"class/{name}", videos) for name, videos in own.by_class.items()},
    }


def localisation_document(
    found: LocalisationMetrics | str, videos: int, evaluation: Evaluation, places: bool
) -> dict[str, object]:
    """The metrics of localisation with their intervals, or why there are none.

    Args:
        found: the metrics, or the reason.
        videos: number of videos that are drawn for the intervals.
        evaluation: settings.
        places: whether the data set says where its anomalies are; then those of anomaly in general stand on their own
            too, None where they are not defined.

    Returns:
        Plain data for JSON.
    """
    if isinstance(found, str):
        nothing: dict[str, object] = dict.fromkeys(LOCALISATION)
        return (nothing | {"hit_rate_windows": 0} if places else {}) | {"localisation": {"reason": found}}
    seed = evaluation.bootstrap_seed
    values = estimate([found], videos, resamples=evaluation.resamples, seed=seed, needs=found.needs, edges=found.edges)

    def target(prefix: str, seen: Mapping[str, SeenWindows]) -> dict[str, object]:
        energies = np.concatenate([windows.energies for windows in seen.values()])
        return {
            "hit_rate_windows": sum(len(windows.hits) for windows in seen.values()),
            "relation_energy_windows": int(np.isfinite(energies).sum()),
            "windows_without_energy": int(np.isnan(energies).sum()),
            "metrics": {name: as_json(values[f"{prefix}{name}"]) for name in found.METRICS},
        }

    own = target("anomaly/", found.general)
    classes = {label: target(f"class/{label}/", seen) for label, seen in found.by_class.items()}
    alone = {name: values[f"anomaly/{name}"].value for name in LOCALISATION}
    return {**alone, "hit_rate_windows": own["hit_rate_windows"], "localisation": {**own, "classes": classes}}


def as_json(value: Estimate) -> dict[str, object]:
    """A value with its interval, and the reason where either is not defined."""
    if value.value is None:
        return {"value": None, "reason": value.reason}
    plain = {"value": value.value, "low": value.low, "high": value.high, "resamples": value.resamples}
    return plain | ({"reason": value.reason} if value.reason else {})
