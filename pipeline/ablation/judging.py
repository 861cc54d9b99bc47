"""The metrics of one setting: on the validation split, on the test videos, and beside the first setting."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.ablation.features import feature_cost
from pipeline.config import Evaluation, Experiment
from pipeline.config.ablation import Plan, Setting
from pipeline.metrics import Estimate, LocalisationMetrics, difference, estimate
from pipeline.metrics.bootstrap import MetricFunction
from pipeline.metrics.exact import Edge
from pipeline.stages.common.digests import places_known
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.outputs import whole_file
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.evaluation.judged import judge
from pipeline.stages.evaluation.localisation import NoLocalisation, judge_localisation
from pipeline.stages.scoring.tables import end_with_videos, read_tables

__all__ = ["METRICS", "write_setting"]

METRICS = {"auc": "frame_auc", "ap": "frame_ap", "mf1": "mf1"}
"""Columns of the table, and the metrics that they show."""
WHOLE_VIDEOS = {"video_auc": "video_auc"}
"""The same of whole videos, for data sets of which the truth is known of whole videos only."""
PLACES = {name: f"anomaly/{name}" for name in LocalisationMetrics.METRICS}
"""The same of where spatial reasoning looks, for data sets that say where anomalies are."""


def write_setting(plan: Plan, number: int, left_out: Sequence[str], path: Path) -> None:
    """Write the metrics of a setting as JSON, on the validation split and on the test videos, unless they are there.

    Where settings differ in how maps are made, what is written has the setting's backbone and pictures too, and the
    cost of its features; where the data set says where anomalies are, also where spatial reasoning looks; and where
    test videos without intervals are anomalous as a whole, the AUC of whole videos.

    Args:
        plan: the ablation.
        number: which of its settings.
        left_out: ids of test videos on which no setting is judged.
        path: the file.
    """
    if path.exists():
        return
    setting = plan.settings[number]
    row: dict[str, Any] = {"setting": setting.name, "seeds": len(setting.runs)}
    evaluation = _evaluation(setting)
    judged = _judged(setting, evaluation, left_out)
    if plan.varied:
        cost = feature_cost(setting.experiment)
        row |= {
            "features": plan.made_with(setting),
            "map_shape": list(cost.map_shape),
            "bytes_per_hour": cost.bytes_per_hour,
        }
    row |= {"validation_auc": _validation_auc(setting), "test": _metrics(judged, METRICS, evaluation)}
    if judges_whole_videos(setting.experiment):
        row["whole_videos"] = _metrics(judged, WHOLE_VIDEOS, evaluation)
    if places_known(setting.experiment):
        row["localisation"] = _metrics(judged, PLACES, evaluation)
    first = _judged(plan.settings[0], evaluation, left_out) if number else judged
    row["minus_first"] = _differences(judged, first, evaluation) if number else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")


def judges_whole_videos(experiment: Experiment) -> bool:
    """Whether anomalous test videos without intervals count as anomalous from end to end."""
    return bool(getattr(experiment.dataset, "whole_video_anomalous", False))


def _evaluation(setting: Setting) -> Evaluation:
    return setting.experiment.run(setting.runs[0]).evaluation


@dataclass(frozen=True)
class _Seed:
    """One seed of a setting on the test videos.

    Attributes:
        videos: number of videos.
        groups: of metrics, by name.
        needs: metric -> the data without which it is not defined.
        edges: metric -> what it counts, of those that have an exact interval where all resamples are alike. Without
            event metrics this depends on the truth alone, and is the same for all seeds.
    """

    videos: int
    groups: dict[str, MetricFunction]
    needs: dict[str, str]
    edges: dict[str, Edge]


def _judged(setting: Setting, evaluation: Evaluation, left_out: Sequence[str]) -> list[_Seed]:
    """The score tables of the setting's seeds beside the ground truth, without the videos that are left out."""
    recipes = Recipes(setting.experiment)
    manifest = load_manifest(setting.experiment, recipes.manifest_folder, truth=True)
    manifest = manifest.without(recipes.quarantine.ids())
    lengths = {entry.video_id: entry.packets for entry in manifest.split("test")}
    judged = []
    for run in setting.runs:
        folder = recipes.scores_folder(run)
        tables = read_tables(folder, manifest.classes, lengths)
        tables = end_with_videos(tables, lengths) if setting.experiment.features.test else tables
        found = judge(folder, tables.without(left_out), manifest, evaluation)
        groups, needs, edges = dict(found.groups), dict(found.needs), found.edges
        try:
            places = judge_localisation(setting.experiment, manifest, folder, left_out)
            groups, needs, edges = groups | {"localisation": places}, needs | places.needs, edges | places.edges
        except NoLocalisation:
            pass  # then there is no such group; metrics.json of an evaluation says why
        judged.append(_Seed(len(found.truth), groups, needs, edges))
    return judged


def _validation_auc(setting: Setting) -> dict[str, Any] | None:
    """The validation AUC of the setting's seeds; None if a head has none."""
    recipes = Recipes(setting.experiment)
    found = [_best_auc(recipes.head_folder(run)) for run in setting.runs]
    values = [value for value in found if value is not None]
    return _spread(values) if len(values) == len(found) else None


def _best_auc(head: Path) -> float | None:
    """The video AUC of the epoch that was kept; None without a validation split, or for a head that learns nothing."""
    path = head / "selection.json"
    if not path.is_file():
        return None
    selection = json.loads(path.read_text(encoding="utf-8"))
    if not selection["best_epoch"]:
        return None
    auc: float = selection["video_auc"][selection["best_epoch"] - 1]
    return auc


def _metrics(
    judged: Sequence[_Seed], shown: Mapping[str, str], evaluation: Evaluation
) -> dict[str, dict[str, Any] | None]:
    """The metric of each column on the test videos, for every seed and as their mean; None if it is not defined.

    The interval is the bootstrap's over videos, of the mean over seeds: all seeds have the same draws. The standard
    deviation is that over seeds.
    """
    videos = judged[0].videos
    estimates = estimate(
        _means(judged),
        videos,
        resamples=evaluation.resamples,
        seed=evaluation.bootstrap_seed,
        needs=judged[0].needs,
        edges=judged[0].edges,
    )
    once = np.ones((videos, 1))
    seeds = [{name: float(v[0]) for group in one.groups.values() for name, v in group(once).items()} for one in judged]
    columns: dict[str, dict[str, Any] | None] = {}
    for column, name in shown.items():
        mean = estimates.get(name)
        if mean is None or mean.value is None:
            columns[column] = None
            continue
        columns[column] = _spread([seed[name] for seed in seeds]) | _interval(mean)
    return columns


def _differences(
    judged: Sequence[_Seed], first: Sequence[_Seed], evaluation: Evaluation
) -> dict[str, dict[str, Any] | None]:
    """The metric of each column, mean over seeds, minus that of the first setting, with its paired interval."""
    shared = [name for name in judged[0].groups if name in first[0].groups]
    found = difference(
        _means(judged, shared),
        _means(first, shared),
        judged[0].videos,
        resamples=evaluation.resamples,
        seed=evaluation.bootstrap_seed,
        needs=judged[0].needs,
    )
    columns: dict[str, dict[str, Any] | None] = {}
    for column, name in (METRICS | WHOLE_VIDEOS | PLACES).items():
        value = found.get(name)
        defined = value is not None and value.value is not None
        columns[column] = {"mean": value.value, **_interval(value)} if value is not None and defined else None
    return columns


def _interval(value: Estimate) -> dict[str, Any]:
    return {"low": value.low, "high": value.high, "reason": value.reason}


def _means(judged: Sequence[_Seed], names: Sequence[str] | None = None) -> list[MetricFunction]:
    """The groups of metrics, or some of them, each as its mean over the seeds."""
    return [_mean([one.groups[name] for one in judged]) for name in (names or judged[0].groups)]


def _mean(groups: Sequence[MetricFunction]) -> MetricFunction:
    """The mean of each metric over several systems."""

    def means(weights: np.ndarray) -> Mapping[str, np.ndarray]:
        each = [group(weights) for group in groups]
        return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}

    return means


def _spread(values: Sequence[float]) -> dict[str, Any]:
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "values": list(values)}
