"""The table of an ablation as JSON, CSV, markdown and plots. The test columns come last; nothing is chosen on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.ablation.curve import curves, draw_curves
from pipeline.ablation.features import LeftOut
from pipeline.ablation.judging import METRICS
from pipeline.config import to_yaml
from pipeline.config.ablation import Plan
from pipeline.data.tables import safe_row

__all__ = ["write_table"]

PARTS = ("mean", "std", "low", "high")
ALL_READ = LeftOut((), {})
COSTS = ("map_shape", "bytes_per_hour")
PLACES_SHOWN = {"hit_rate": "hit rate", "relation_energy_ratio": "energy : chance"}
FIRST = "auc"
"""The metric of which the table has the differences from the first setting; results.json has those of all."""


def write_table(plan: Plan, settings: Sequence[Path], folder: Path, without: LeftOut = ALL_READ) -> None:
    """Write results.json, results.csv, results.md, results.png and ablation.yaml.

    Where settings differ in the number of training videos, curve.png too: the AUC against that number.
    Where settings differ in how maps are made, there are columns for what differs, and for the cost of the features;
    where the data set says where anomalies are, for where spatial reasoning looks.

    Args:
        plan: the ablation.
        settings: for each of its settings, what `write_setting` wrote.
        folder: where to write.
        without: the videos that some settings cannot read.
    """
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in settings]
    judged = [row for row in rows if row["validation_auc"]]
    best = max(judged, key=lambda row: row["validation_auc"]["mean"])["setting"] if judged else None
    document = {"ablation": plan.ablation.name, "chosen_on_validation": best, "settings": rows}
    if without.sentences():
        document["left_out"] = without.to_json()
    (folder / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    lines = [_line(row, best) for row in rows]
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=list(lines[0]))
        table.writeheader()
        table.writerows(dict(zip(line, safe_row(line.values()), strict=True)) for line in lines)
    (folder / "results.md").write_text(_markdown(rows, best, without), encoding="utf-8")
    (folder / "ablation.yaml").write_text(to_yaml(plan.ablation), encoding="utf-8")
    _draw(rows, best, folder / "results.png")
    if lines_drawn := curves(plan, rows):
        draw_curves(lines_drawn, folder / "curve.png")


def _line(row: dict[str, Any], best: str | None) -> dict[str, Any]:
    line = {"setting": row["setting"], "seeds": row["seeds"], "chosen": row["setting"] == best}
    if "features" in row:
        line |= row["features"] | {name: row[name] for name in COSTS} | {"map_shape": _shape(row)}
    line |= {f"validation_auc_{part}": (row["validation_auc"] or {}).get(part) for part in PARTS[:2]}
    for short in METRICS:
        line |= {f"test_{short}_{part}": (row["test"][short] or {}).get(part) for part in PARTS}
    for name, value in (row.get("whole_videos", {}) | row.get("localisation", {})).items():
        line |= {f"test_{name}_{part}": (value or {}).get(part) for part in PARTS}
    if "minus_first" in row:
        value = _minus_first(row) or {}
        line |= {f"test_{FIRST}_minus_first_{part}": value.get(part) for part in ("mean", "low", "high")}
    return line


def _markdown(rows: Sequence[dict[str, Any]], best: str | None, without: LeftOut) -> str:
    table = [_cells(row, best) for row in rows]
    header = [name for name, _ in table[0]]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(cell for _, cell in cells)} |" for cells in table]
    chosen = (
        f"In bold: the best on the validation split, {best}."
        if best
        else "Without a validation split nothing is chosen."
    )
    text = (
        "Mean over seeds, with their standard deviation; "
        "intervals are the bootstrap's over test videos, of the mean over seeds; not defined where no video differs."
    )
    sentences = [chosen, text]
    if "minus_first" in rows[0]:
        sentences.append(f"Differences are from {rows[0]['setting']}, with paired intervals over the same test videos.")
    chances = [row["localisation"]["hit_rate_chance"] for row in rows if row.get("localisation")]
    if means := sorted({f"{chance['mean']:.3f}" for chance in chances if chance}):
        sentences.append(f"Hit rates by chance: {' to '.join(dict.fromkeys((means[0], means[-1])))}; energy: 1.")
    return "\n".join([*lines, "", " ".join([*sentences, *without.sentences()]), ""])


def _cells(row: dict[str, Any], best: str | None) -> list[tuple[str, str]]:
    """A line of the markdown table: (header, cell) of each column."""
    interval = "95 % interval"
    cells = [("setting", f"**{row['setting']}**" if row["setting"] == best else row["setting"])]
    cells.append(("seeds", str(row["seeds"])))
    if "features" in row:
        cells += [(name, "-" if value is None else str(value)) for name, value in row["features"].items()]
        size = row["bytes_per_hour"]
        cells += [("map", _shape(row)), ("GB per hour", "-" if size is None else f"{size / 1e9:.3g}")]
    cells.append(("validation AUC", _cell(row["validation_auc"])))
    for short in METRICS:
        value = row["test"][short]
        cells += [(f"test {short.upper()}", _cell(value)), (interval, _interval(value))]
    if "whole_videos" in row:
        value = row["whole_videos"]["video_auc"]
        cells += [("video AUC", _cell(value)), (interval, _interval(value))]
    if "localisation" in row:
        for name, title in PLACES_SHOWN.items():
            value = row["localisation"][name]
            cells += [(title, _cell(value)), (interval, _interval(value))]
    if "minus_first" in row:
        value = _minus_first(row)
        cells.append((f"{FIRST.upper()} minus the first", f"{value['mean']:+.3f}" if value else "-"))
        cells.append((interval, _interval(value)))
    return cells


def _minus_first(row: dict[str, Any]) -> dict[str, Any] | None:
    value: dict[str, Any] | None = (row["minus_first"] or {}).get(FIRST)
    return value


def _shape(row: dict[str, Any]) -> str:
    return " x ".join(map(str, row["map_shape"]))


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
