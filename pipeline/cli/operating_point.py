"""`gig operating-point`: how many false alarms the thresholds of events cost, and what they find."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from pipeline.cli.shared import aligned, check_quarantine, ensure, with_config, with_run, with_stage
from pipeline.errors import PipelineError
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import OperatingPoint

__all__ = ["operating_point"]

SHOWN = 12


@click.command("operating-point")
@with_config
@with_stage
@with_run
@click.option("--class", "name", default="anomaly", show_default=True, help="Whose trade-off is shown.")
@click.option("--json", "as_json", is_flag=True, help="For machines: operating_point.json as it is.")
def operating_point(recipes: Recipes, run: str, name: str, as_json: bool) -> None:
    """Show the thresholds of a run's events and their trade-off on its validation videos, doing what is missing before.

    For each threshold: false alarms per hour of normal footage, and the share of anomalous videos with at least one
    event. Test videos have no part in it. What it rests on: docs/events.md.
    """
    from pipeline.stages.events.operating_point import read_thresholds

    folder = ensure(OperatingPoint(recipes, run))
    _, document = read_thresholds(folder)
    if name not in document["classes"]:
        raise PipelineError(f"--class: expected one of {', '.join(document['classes'])}, got {name}")
    if as_json:
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        notes = [f"note: {note}" for note in document["notes"]]
        click.echo("\n".join([*_choices(document), *_curve(name, document["classes"][name]), "", *notes]))
        click.echo(f"operating point: {folder}")
    check_quarantine(recipes)


def _choices(document: Mapping[str, Any]) -> list[str]:
    """The threshold of every class."""
    rows = [("class", "threshold", "chosen on", "accepted/h", "false/h", "95 %", "videos hit")]
    for name, choice in document["classes"].items():
        point, accepted = choice["point"], choice["accepted_per_hour"]
        between = f"{choice['low']:,.4g} to {choice['high']:,.4g}" if point else "-"
        rows.append(
            (
                name,
                f"{choice['threshold']:.4f}",
                choice["chosen_on"],
                "-" if accepted is None else f"{accepted:g}",
                f"{point['false_alarms_per_hour']:,.4g}" if point else "-",
                between,
                _hits(point, choice["anomalous_videos"]),
            )
        )
    normal, hours, anomalous = (document[key] for key in ("normal_videos", "normal_hours", "anomalous_videos"))
    footage = f"validation videos: {normal} normal of {hours:.3f} h, {anomalous} anomalous"
    return [footage if normal else "no thresholds were chosen", "", *aligned(rows)]


def _curve(name: str, choice: Mapping[str, Any]) -> list[str]:
    """The trade-off of one class, its chosen threshold marked."""
    curve = choice["curve"]
    if not curve:
        return []
    # Of the thresholds that come to the same, the highest alone.
    told = [p for i, p in enumerate(curve) if not i or _cost(p) != _cost(curve[i - 1]) or p == choice["point"]]
    step = max(1, -(-len(told) // SHOWN))
    some = [p for i, p in enumerate(told) if i % step == 0 or p == choice["point"] or i == len(told) - 1]
    rows = [("threshold", "false alarms", "per hour", "% of time", "videos hit", "")]
    for point in some:
        rows.append(
            (
                f"{point['threshold']:.4f}",
                str(point["events"]),
                f"{point['false_alarms_per_hour']:,.4g}",
                f"{100 * point['alarm_share']:.2f}",
                _hits(point, choice["anomalous_videos"]),
                "<- in use" if point == choice["point"] else "",
            )
        )
    return ["", f"trade-off of {name}:", *aligned(rows)]


def _cost(point: Mapping[str, Any]) -> tuple[int, float | None]:
    return point["events"], point["hit_share"]


def _hits(point: Mapping[str, Any] | None, videos: int) -> str:
    if point is None or point["hit_share"] is None:
        return "-"
    return f"{round(point['hit_share'] * videos)} of {videos}"
