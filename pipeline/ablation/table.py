"""The table of an ablation as JSON, CSV, markdown and a plot. The test columns come last; nothing is chosen on them."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import to_yaml
from pipeline.config.ablation import Plan, Setting
from pipeline.data.tables import safe_row
from pipeline.metrics import estimate
from pipeline.metrics.bootstrap import MetricFunction
from pipeline.stages.common.outputs import whole_file
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.evaluation.judged import judge_folder

__all__ = ["write_setting", "write_table"]

METRICS = {"auc": "frame_auc", "ap": "frame_ap", "mf1": "mf1"}
PARTS = ("mean", "std", "low", "high")


def write_setting(setting: Setting, path: Path) -> None:
    """Write the metrics of a setting as JSON, on the validation split and on the test videos, unless they are there."""
    if path.exists():
        return
    row = {
        "setting": setting.name,
        "seeds": len(setting.runs),
        "validation_auc": _validation_auc(setting),
        "test": _test_metrics(setting),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")


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


def _test_metrics(setting: Setting) -> dict[str, dict[str, Any] | None]:
    """The metric of each column on the test videos, for every seed and as their mean; None if it is not defined.

    The interval is the bootstrap's over videos, of the mean over seeds: all seeds have the same draws. The standard
    deviation is that over seeds.
    """
    recipes = Recipes(setting.experiment)
    evaluation = setting.experiment.run(setting.runs[0]).evaluation
    manifest, imported = recipes.manifest_folder, bool(setting.experiment.features.test)
    judged = [
        judge_folder(recipes.scores_folder(run), manifest, evaluation, imported=imported)[1] for run in setting.runs
    ]
    videos = len(judged[0].truth)
    estimates = estimate(
        [_mean([one.groups[name] for one in judged]) for name in judged[0].groups],
        videos,
        resamples=evaluation.resamples,
        seed=evaluation.bootstrap_seed,
        needs=judged[0].needs,
    )
    once = np.ones((videos, 1))
    seeds = [{name: float(v[0]) for group in one.groups.values() for name, v in group(once).items()} for one in judged]
    columns: dict[str, dict[str, Any] | None] = {}
    for column, name in METRICS.items():
        mean = estimates.get(name)
        if mean is None or mean.value is None:
            columns[column] = None
            continue
        interval = {"low": mean.low, "high": mean.high, "reason": mean.reason}
        columns[column] = _spread([seed[name] for seed in seeds]) | interval
    return columns


def write_table(plan: Plan, settings: Sequence[Path], folder: Path) -> None:
    """Write results.json, results.csv, results.md, results.png and ablation.yaml.

    Args:
        plan: the ablation.
        settings: for each of its settings, what `write_setting` wrote.
        folder: where to write.
    """
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in settings]
    judged = [row for row in rows if row["validation_auc"]]
    best = max(judged, key=lambda row: row["validation_auc"]["mean"])["setting"] if judged else None
    document = {"ablation": plan.ablation.name, "chosen_on_validation": best, "settings": rows}
    (folder / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    lines = [_line(row, best) for row in rows]
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=list(lines[0]))
        table.writeheader()
        table.writerows(dict(zip(line, safe_row(line.values()), strict=True)) for line in lines)
    (folder / "results.md").write_text(_markdown(rows, best), encoding="utf-8")
    (folder / "ablation.yaml").write_text(to_yaml(plan.ablation), encoding="utf-8")
    _draw(rows, best, folder / "results.png")


def _mean(groups: Sequence[MetricFunction]) -> MetricFunction:
    """The mean of each metric over several systems."""

    def means(weights: np.ndarray) -> Mapping[str, np.ndarray]:
        each = [group(weights) for group in groups]
        return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}

    return means


def _spread(values: Sequence[float]) -> dict[str, Any]:
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "values": list(values)}


def _line(row: dict[str, Any], best: str | None) -> dict[str, Any]:
    line = {"setting": row["setting"], "seeds": row["seeds"], "chosen": row["setting"] == best}
    line |= {f"validation_auc_{part}": (row["validation_auc"] or {}).get(part) for part in PARTS[:2]}
    for short in METRICS:
        line |= {f"test_{short}_{part}": (row["test"][short] or {}).get(part) for part in PARTS}
    return line


def _markdown(rows: Sequence[dict[str, Any]], best: str | None) -> str:
    header = (
        "| setting | seeds | validation AUC | "
        + " | ".join(f"test {short.upper()} | 95 % interval" for short in METRICS)
        + " |"
    )
    lines = [header, "|" + "---|" * (3 + 2 * len(METRICS))]
    for row in rows:
        name = f"**{row['setting']}**" if row["setting"] == best else row["setting"]
        cells = [name, str(row["seeds"]), _cell(row["validation_auc"])]
        for short in METRICS:
            value = row["test"][short]
            cells += [_cell(value), _interval(value)]
        lines.append("| " + " | ".join(cells) + " |")
    chosen = (
        f"In bold: the best on the validation split, {best}."
        if best
        else "Without a validation split nothing is chosen."
    )
    text = (
        "Mean over seeds, with their standard deviation; "
        "intervals are the bootstrap's over test videos, of the mean over seeds."
    )
    return "\n".join([*lines, "", f"{chosen} {text}", ""])


def _cell(value: dict[str, Any] | None) -> str:
    if value is None:
        return "-"
    return f"{value['mean']:.3f}" + ("" if value["std"] is None else f" ± {value['std']:.3f}")


def _interval(value: dict[str, Any] | None) -> str:
    if value is None or value["low"] is None:
        return "not defined" if value and value["reason"] else "-"
    return f"{value['low']:.3f} to {value['high']:.3f}"


def _draw(rows: Sequence[dict[str, Any]], best: str | None, path: Path) -> None:
    """The test AUC of every setting with its interval, the seeds as dots."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.28 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        value, colour = row["test"]["auc"], "tab:red" if row["setting"] == best else "tab:blue"
        if value is None:
            continue
        if value["low"] is not None:
            axes.plot([value["low"], value["high"]], [place, place], color=colour, linewidth=1.5)
        axes.plot(value["values"], [place] * len(value["values"]), ".", color="0.6", markersize=4)
        axes.plot(value["mean"], place, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), [row["setting"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0.5, color="0.8", linewidth=1, zorder=0)
    axes.set_xlabel(
        "frame AUC on test videos: mean over seeds, 95 % interval over videos; dots: seeds; red: best on validation"
    )
    axes.xaxis.label.set_fontsize(8)
    FigureCanvasAgg(figure).print_png(str(path))
