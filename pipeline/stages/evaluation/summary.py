"""Stage 5: one summary of all runs of an experiment."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from pipeline.config import Experiment, to_yaml
from pipeline.config.expected import Expected
from pipeline.data.tables import read_cell, safe_row
from pipeline.errors import PipelineError
from pipeline.stages.common.mirror import place_of
from pipeline.stages.evaluation.document import LOCALISATION
from pipeline.stages.evaluation.expected import compare_metrics, comparisons_text
from pipeline.stages.evaluation.text import LOCALISED, WIDTH, aligned, said

__all__ = ["Summary", "read_summary", "summary_table", "write_summary"]

COLUMNS = ("run", "head", "backbone", "stage", "auc", "ap", "mf1", "videos", "frames")
ESTIMATES = {
    "auc": ("figures", "frame_auc"),
    "ap": ("figures", "frame_ap"),
    "video_auc": ("figures", "video_auc"),
    "event_f1_0.5": ("events", "f1_0.5"),
    "false_alarms_per_hour": ("events", "false_alarms_per_hour"),
    "hit_at_least_once": ("events", "hit_at_least_once"),
}
"""Columns with an interval, each with the group and name of its metric; events are of anomaly in general."""

Row = dict[str, str | float | None]


class Summary(TypedDict):
    """The content of summary.json.

    Attributes:
        experiment: its name.
        runs: one line per run, by column. Those of `ESTIMATES` have `_low` and `_high` beside them, the 95 % interval
            over videos; None is what is not defined. A column of `LOCALISATION` is missing where
            the data set does not say where anomalies are.
        quarantined: ids of the videos that could not be read, sorted.
    """

    experiment: str
    runs: list[Row]
    quarantined: list[str]


def write_summary(
    experiment: Experiment, evaluations: Sequence[Path], folder: Path, quarantined: Sequence[str] = ()
) -> None:
    """Write summary.json, summary.csv, per_class.csv and config.yaml.

    Args:
        experiment: the experiment.
        evaluations: folders of the evaluations, one per line of the summary.
        folder: where the summary goes.
        quarantined: ids of the videos that could not be read; they are in no metric.
    """
    rows, classes = [], []
    for evaluation in evaluations:
        metrics = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
        rows.append(_row(metrics))
        with (evaluation / "per_class.csv").open(newline="", encoding="utf-8") as stream:
            found = [{name: read_cell(cell) for name, cell in row.items()} for row in csv.DictReader(stream)]
        classes += [{"run": metrics["run"], "stage": metrics["stage"]} | row for row in found]
    folder.mkdir(parents=True, exist_ok=True)
    document = Summary(experiment=experiment.experiment, runs=rows, quarantined=sorted(quarantined))
    (folder / "summary.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    for name, table in (("summary.csv", rows), ("per_class.csv", classes)):
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(table[0]))
            writer.writeheader()
            writer.writerows(dict(zip(row, safe_row(row.values()), strict=True)) for row in table)
    (folder / "config.yaml").write_text(to_yaml(experiment), encoding="utf-8")


def read_summary(folder: Path) -> Summary:
    """The content of summary.json. Raises PipelineError when the experiment has not been run."""
    path = folder / "summary.json"
    try:
        summary: Summary = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PipelineError(
            f"{path}: no summary of this configuration yet; run luigi --module tasks EvaluateAll --config <file>"
        ) from error
    return summary


def summary_table(folder: Path, expected: Expected | None = None, stand_in: Sequence[str] = ()) -> str:
    """summary.json for people, at most 100 columns wide, and where the results lie.

    Args:
        folder: of the summary.
        expected: with which its metrics are compared.
        stand_in: why the model has learnt nothing about real videos, a sentence each.

    Raises:
        PipelineError: there is no summary.
    """
    summary = read_summary(folder)
    runs = summary["runs"]
    table = _rows(runs, inline=True)
    if max(map(len, table)) > WIDTH:
        table = _rows(runs, inline=False)
    lines = [*_shared(runs), "", *table, "", *said(LEGEND)]
    rates = [
        f"hit rate of {_name(run)}: {_cell(run['hit_rate'])}, by chance {_cell(run['hit_rate_chance'])}; "
        f"energy in the anomaly {_cell(run['relation_energy'])}, by chance {_cell(run['relation_energy_chance'])}"
        for run in runs
        if run.get("hit_rate") is not None
    ]
    if rates:
        lines += ["", *(line for rate in rates for line in said(rate)), *said(LOCALISED)]
    if left_out := summary["quarantined"]:
        lines += ["", f"without {len(left_out)} unreadable video(s): {', '.join(left_out)}"]
    if expected and (compared := comparisons_text(compare_metrics(expected, runs))):
        lines += ["", *compared]
    if stand_in:
        lines += ["", *(line for reason in stand_in for line in said(f"stand-in model: {reason}"))]
    return "\n".join([*lines, "", f"results: {place_of(folder)}"])


LEGEND = (
    "In brackets: 95 % intervals over videos, where they are defined. Of the events found of anomaly in general: F1 at "
    "a temporal IoU of 0.5, false alarms per hour of normal footage, and the share of true intervals that are hit at "
    "least once. Of few hours or videos 0 and 1 are far from sure: metrics.json has all intervals, and says why "
    "something is not defined (-)."
)
HEADER = (
    ("", "", "", "", "", "", "false", "hit at"),
    ("", "", "", "video", "", "event", "alarms", "least"),
    ("run", "AUC", "AP", "AUC", "MF1", "F1", "per h", "once"),
)


def _row(metrics: Mapping[str, Any]) -> Row:
    """One line of summary.json from a metrics.json."""
    row: Row = {key: metrics[key] for key in COLUMNS} | {key: metrics[key] for key in LOCALISATION if key in metrics}
    groups = {"figures": metrics["figures"], "events": metrics["events"].get("anomaly", {}).get("metrics", {})}
    for column, (group, name) in ESTIMATES.items():
        found = groups[group].get(name, {})
        row |= {column: found.get("value"), f"{column}_low": found.get("low"), f"{column}_high": found.get("high")}
    return row


def _shared(runs: Sequence[Row]) -> list[str]:
    """What was evaluated, once where it is the same of all runs."""
    lines = dict.fromkeys(f"{run['videos']} videos, {run['frames']} frames, backbone {run['backbone']}" for run in runs)
    if len(lines) == 1:
        return list(lines)
    return [f"{_name(run)}: {run['videos']} videos, {run['frames']} frames, backbone {run['backbone']}" for run in runs]


def _rows(runs: Sequence[Row], inline: bool) -> list[str]:
    """The table; with names of runs in lines of their own unless `inline`."""
    cells = [list(line) for line in HEADER]
    for run in runs:
        name = _name(run) if inline else ""
        places = [_cell(run[key]) for key in ("video_auc", "mf1", "event_f1_0.5")]
        alarms, hit = run["false_alarms_per_hour"], run["hit_at_least_once"]
        hourly = f"{alarms:.1f}" if isinstance(alarms, float) else "-"
        cells.append([name, _with_interval(run, "auc"), _with_interval(run, "ap"), *places, hourly, _cell(hit)])
    lines = aligned(cells, headers=len(HEADER))
    if inline:
        return lines
    head = len(HEADER) + 1
    return lines[:head] + [line for run, row in zip(runs, lines[head:], strict=True) for line in (_name(run), row)]


def _name(run: Row) -> str:
    return str(run["run"]) if run["stage"] == "frozen" else f"{run['run']} ({run['stage']})"


def _with_interval(run: Row, key: str) -> str:
    low, high = run[f"{key}_low"], run[f"{key}_high"]
    spread = f" [{low:.3f}, {high:.3f}]" if isinstance(low, float) and isinstance(high, float) else ""
    return f"{_cell(run[key])}{spread}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
