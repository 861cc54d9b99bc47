"""How much labelled training videos bring: the AUC of settings against the number of videos they are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.ablation import Plan

__all__ = ["Point", "curves", "draw_curves"]


@dataclass(frozen=True)
class Point:
    """A setting on the curve.

    Attributes:
        videos: number of labelled training videos, those of the validation split included.
        mean: AUC on the test videos, mean over seeds: of frames, or of videos where only whole videos are judged.
        low, high: the bootstrap's 95 % interval over test videos; None where it is not defined.
        whole_videos: whether it is the AUC of whole videos.
    """

    videos: int
    mean: float
    low: float | None
    high: float | None
    whole_videos: bool


def curves(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """The settings that differ only in `selection.train_videos`, by number of videos.

    Args:
        plan: the ablation.
        rows: what `pipeline.ablation.judging.write_setting` wrote, in the order of its settings.

    Returns:
        Name of the setting without the number -> its points; only names with two points or more.
    """
    found: dict[str, list[Point]] = {}
    for setting, row in zip(plan.settings, rows, strict=True):
        videos = setting.experiment.run(setting.runs[0]).selection.train_videos
        whole = "whole_videos" in row
        value = row["whole_videos"]["video_auc"] if whole else row["test"]["auc"]
        if videos is None or value is None:
            continue
        name = setting.name.replace(f", train_videos={videos}", "")
        point = Point(videos, value["mean"], value["low"], value["high"], whole)
        found.setdefault(name, []).append(point)
    several = {name: points for name, points in found.items() if len({point.videos for point in points}) > 1}
    return {name: sorted(points, key=lambda point: point.videos) for name, points in several.items()}


def draw_curves(lines: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Draw the curves as PNG, with intervals as bars, set a little apart so that all are seen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    counts = sorted({point.videos for points in lines.values() for point in points})
    axes.set_xscale("log")
    for number, (name, points) in enumerate(lines.items()):
        apart = 1 + 0.015 * (number - (len(lines) - 1) / 2)
        places, colour = [point.videos * apart for point in points], f"C{number % 10}"
        axes.plot(places, [point.mean for point in points], "o-", color=colour, markersize=4, linewidth=1.2, label=name)
        for place, point in zip(places, points, strict=True):
            if point.low is not None and point.high is not None:
                axes.plot([place, place], [point.low, point.high], color=colour, linewidth=1, alpha=0.5)
    axes.axhline(0.5, color="0.8", linewidth=1, zorder=0)
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(count) for count in counts])
    axes.set_xlabel("labelled training videos")
    kind = "video" if any(point.whole_videos for points in lines.values() for point in points) else "frame"
    axes.set_ylabel(f"{kind} AUC on test videos, 95 % interval over videos", fontsize=8)
    axes.legend(fontsize=8)
    FigureCanvasAgg(figure).print_png(str(path))
