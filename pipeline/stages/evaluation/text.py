"""Metrics as tables for people, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.metrics.temporal import IOUS

__all__ = ["LOCALISED", "WIDTH", "aligned", "differences_text", "interval", "metrics_text", "number", "said"]

WIDTH = 100
LOCALISED = (
    "Of spatial reasoning, over windows with a visible anomaly. Hit rate: how often the cell of the picture that holds "
    "its middle is among the cells chosen; by chance: of a random choice. Energy in the anomaly: the share of the "
    "relation map that lies in its box; by chance: the share of the picture that the box takes."
)
INTERVALS = (
    "Intervals are over videos. Where no video differs, they are exact, by the hours of footage or the number of "
    "videos, or not defined."
)
TOTALS = ("run", "head", "backbone", "stage", "stride", "tail", "clip_frames", "equal_parts", "crops")


def metrics_text(document: Mapping[str, Any]) -> str:
    """metrics.json for people: everything but its counts, and of single classes the most telling metrics."""
    lines = said(", ".join(f"{name} {document[name]}" for name in TOTALS if name in document))
    lines += said(
        f"{document['videos']} video(s), {document['anomalous_videos']} anomalous; {document['frames']} frames, "
        f"{document['anomalous_frames']} anomalous"
    )
    if left_out := document.get("quarantined"):
        lines += said(f"without {len(left_out)} unreadable video(s): {', '.join(left_out)}")
    figures = {name: value for name, value in document["figures"].items() if not name.startswith("class_ap/")}
    rows = [(name, number(value), interval(value)) for name, value in figures.items()]
    lines += ["", *aligned([("metric", "value", "95 % interval"), *rows])]
    events = document["events"]
    if "reason" in events:
        lines += ["", *said(f"no event metrics: {events['reason']}")]
    else:
        lines += ["", *_events(events)]
        figures |= {f"event {name}": value for name, value in events["anomaly"]["metrics"].items()}
    lines += _classes(document)
    if "localisation" in document:
        lines += _localisation(document["localisation"])
    return "\n".join([*lines, "", *said(INTERVALS), *_reasons(figures)])


def differences_text(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The differences of two systems for people; of single classes only the AP."""
    shown = {name: value for name, value in found.items() if not name.startswith("events/class/")}
    rows = []
    for name, value in shown.items():
        low, high = value.get("low"), value.get("high")
        apart = "not 0" if low is not None and high is not None and (low > 0 or high < 0) else ""
        rows.append((name, number(value, signed=True), interval(value, signed=True), apart))
    table = aligned([("metric", "first - second", "95 % interval", ""), *rows])
    legend = said(
        "Intervals are paired, over videos; `not 0`: 0 is not in it. Names that begin with events/ are of the events "
        "found, see docs/evaluation.md; --json has them of every class."
    )
    return "\n".join([*table, "", *legend, *_reasons(shown)])


def _events(events: Mapping[str, Any]) -> list[str]:
    general, mean = events["anomaly"], events["class_mean"]
    rule = events["rules"]["anomaly"]
    lines = said(
        f"Events of anomaly in general: a frame reaches {rule['upper']:g}, all reach {rule['lower']:g}, gaps up to "
        f"{rule['merge_gap_s']:g} s are merged, at least {rule['min_length_s']:g} s long ({events['rules_from']}). "
        f"{general['found_events']} found; of {general['true_intervals']} true intervals {general['hit']} hit, "
        f"{general['missed']} missed; {events['normal_hours']:.3f} h of normal footage."
    )
    header = ["event metric", "anomaly", "95 % interval"]
    names = list(general["metrics"])
    rows = [[name, number(general["metrics"][name]), interval(general["metrics"][name])] for name in names]
    if mean:
        header += ["mean of classes", "95 % interval"]
        for row, value in zip(rows, (mean["metrics"].get(name) for name in names), strict=True):
            row += [number(value), interval(value)] if value else ["", ""]
    return [*lines, "", *aligned([header, *rows])]


def _classes(document: Mapping[str, Any]) -> list[str]:
    """Lines of a table of classes; none where there are no class scores."""
    prefix = "class_ap/"
    aps = {n.removeprefix(prefix): value for n, value in document["figures"].items() if n.startswith(prefix)}
    if not aps:
        return []
    least = f"f1_{IOUS[-1]}"
    rows = [["class", "AP", "true", "found", "hit", f"event {least}", "false alarms/h"]]
    for name, ap in aps.items():
        row = [name, number(ap)]
        if target := document["events"].get("classes", {}).get(name):
            counts = (str(target[key]) for key in ("true_intervals", "found_events", "hit"))
            row += [*counts, *(number(target["metrics"][key]) for key in (least, "false_alarms_per_hour"))]
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    return ["", *aligned(rows)]


def _localisation(found: Mapping[str, Any]) -> list[str]:
    """Lines of where spatial reasoning looks: of anomaly in general and of every class."""
    if "reason" in found:
        return ["", *said(f"no metrics of localisation: {found['reason']}")]
    rows = [["localisation", "windows", "hit rate", "by chance", "energy", "by chance", "ratio", "95 % interval"]]
    for name, target in {"anomaly": found, **found["classes"]}.items():
        values = target["metrics"]
        rates = (number(values[key]) for key in ("hit_rate", "hit_rate_chance", "relation_energy"))
        chance, ratio = values["relation_energy_chance"], values["relation_energy_ratio"]
        rows.append([name, str(target["hit_rate_windows"]), *rates, number(chance), number(ratio), interval(ratio)])
    return ["", *aligned(rows), "", *said(LOCALISED)]


def _reasons(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines that say why values or intervals are not there, one for each reason."""
    names: dict[str, list[str]] = {}
    for name, value in figures.items():
        if "reason" in value:
            names.setdefault(value["reason"], []).append(name)
    lines = [line for reason, those in names.items() for line in said(f"{', '.join(those)}: {reason}")]
    return ["", *lines] if lines else []


def number(value: Mapping[str, Any], signed: bool = False) -> str:
    """The value with four digits; - where it is not defined."""
    found = value.get("value")
    return "-" if found is None else f"{found:{'+' if signed else ''}.4f}"


def interval(value: Mapping[str, Any], signed: bool = False) -> str:
    """The interval with three digits; empty where it is not defined."""
    low, high = value.get("low"), value.get("high")
    sign = "+" if signed else ""
    return "" if low is None or high is None else f"{low:{sign}.3f} to {high:{sign}.3f}"


def said(text: str) -> list[str]:
    """A sentence as lines."""
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def aligned(rows: Iterable[Sequence[str]], headers: int = 1) -> list[str]:
    """Rows of cells as lines, with a rule below the first `headers`; the first column to the left, others to the
    right."""
    table = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in table
    ]
    lines.insert(headers, "  ".join("-" * width for width in widths))
    return [line.rstrip() for line in lines]
