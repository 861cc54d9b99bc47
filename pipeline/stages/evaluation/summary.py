"""Stage 5: one summary of all runs of an experiment."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from pipeline.config import Experiment, to_yaml
from pipeline.data.tables import read_cell, safe_row
from pipeline.errors import PipelineError

__all__ = ["Summary", "read_summary", "summary_table", "write_summary"]

COLUMNS = ("run", "head", "backbone", "stage", "auc", "ap", "mf1", "videos", "frames")
EXTRA = ("hit_rate", "hit_rate_chance")


class Summary(TypedDict):
    """The content of summary.json.

    Attributes:
        experiment: its name.
        runs: one line per run, by column; a column of `EXTRA` is missing where the metric was not computed.
        quarantined: ids of the videos that could not be read, sorted.
    """

    experiment: str
    runs: list[dict[str, str | float | None]]
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
        rows.append({key: metrics[key] for key in COLUMNS} | {key: metrics[key] for key in EXTRA if key in metrics})
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


def summary_table(folder: Path) -> str:
    """summary.json as aligned text, and where the results lie."""
    summary = read_summary(folder)
    rows = summary["runs"]
    header = [key for key in (*COLUMNS, *EXTRA) if key in rows[0]]
    cells = [header] + [[_cell(row[key]) for key in header] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    if left_out := summary["quarantined"]:
        lines += ["", f"without {len(left_out)} unreadable video(s): {', '.join(left_out)}"]
    return "\n".join([*lines, "", f"results: {folder}"])


def _cell(value: object) -> str:
    if value is None:
        return "-"  # not defined on this ground truth; metrics.json says why
    return f"{value:.4f}" if isinstance(value, float) else str(value)
