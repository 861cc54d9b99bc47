"""Draws the pictures of `gig explain`: a window with its relation map, and the score over time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.stages.common.outputs import whole_file

if TYPE_CHECKING:  # matplotlib takes long to import, and only this needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

__all__ = ["Curve", "Overlay", "WindowView", "curve_figure", "draw_curve", "draw_window", "window_figure"]

DOTS_PER_INCH = 110
CHOSEN = "#00e5ff"
LEADING = 4
"""How many classes are drawn with bold lines: those with the highest scores."""


@dataclass(frozen=True)
class Overlay:
    """Where spatial reasoning looked.

    Attributes:
        relation: (H, W) float32, eq. 5.
        boxes: (H x W, 4) float64, the cells x0, y0, x1, y1 in pixels of the picture.
        chosen: the k cells of eq. 6, without those that lie in a letterbox's padding.
        seen: rows and columns of the cells that do not lie there; the others are not drawn.
    """

    relation: np.ndarray
    boxes: np.ndarray
    chosen: tuple[int, ...]
    seen: tuple[slice, slice] = (slice(None), slice(None))

    @property
    def hull(self) -> np.ndarray:
        """The box around the cells that are drawn: x0, y0, x1, y1."""
        boxes = self.boxes.reshape(*self.relation.shape, 4)[self.seen].reshape(-1, 4)
        return np.array([*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)])


@dataclass(frozen=True)
class WindowView:
    """One window of a video.

    Attributes:
        video_id: which video.
        rank: of its peak, from 1.
        first_frame, last_frame: of the window.
        frame: the one that is shown, in the middle.
        time_s: its presentation time, seconds.
        label: the class with the highest score.
        classes: class -> score of the frame.
        image: the frame, (height, width, 3) uint8.
        overlay: where spatial reasoning looked; None where that is not known.
        missing: why there is no overlay.
    """

    video_id: str
    rank: int
    first_frame: int
    last_frame: int
    frame: int
    time_s: float
    label: str
    classes: dict[str, float]
    image: np.ndarray
    overlay: Overlay | None
    missing: str | None


@dataclass(frozen=True)
class Curve:
    """Scores over time.

    Attributes:
        video_id: which video.
        classes: C names.
        times_s: (N,) float64.
        scores: (N, C) float32 in [0, 1].
        marks: frames of the windows shown, by rank.
        intervals: annotated (label, first frame, frame after the last); None when ground truth is not to be shown.
    """

    video_id: str
    classes: tuple[str, ...]
    times_s: np.ndarray
    scores: np.ndarray
    marks: tuple[int, ...]
    intervals: list[tuple[str, int, int]] | None


def draw_window(view: WindowView, path: Path) -> None:
    """Write `window_figure` as a PNG."""
    _save(window_figure(view), path)


def draw_curve(curve: Curve, path: Path) -> None:
    """Write `curve_figure` as a PNG."""
    _save(curve_figure(curve), path)


def window_figure(view: WindowView) -> Figure:
    """The frame as it is, the frame with the relation map and the chosen cells, and the class scores."""
    from matplotlib.figure import Figure

    height, width = view.image.shape[:2]
    panel = 4.3 * min(max(width / height, 0.6), 2.0)  # inches
    figure = Figure(figsize=(2 * panel + 4.6, 5.2), layout="constrained")
    plain, laid, bars = figure.subplots(1, 3, width_ratios=(panel, panel, 3.2))
    score = view.classes[view.label]
    figure.suptitle(
        f"{view.video_id}   peak {view.rank}: {view.label} {score:.2f}   "
        f"frames {view.first_frame} to {view.last_frame} ({view.time_s:.1f} s)",
        fontsize=13,
    )
    for axes in (plain, laid):
        axes.imshow(view.image)
        axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    plain.set_title(f"frame {view.frame}", fontsize=11)
    if view.overlay:
        _draw_overlay(figure, laid, view.overlay)
        plain.add_patch(_box(view.overlay.hull.clip(0, (width, height) * 2), "white", 1.2, linestyle="--"))
        plain.set_xlabel("dashed: what the backbone sees", fontsize=9)
        laid.set_title(f"relation to the cue (eq. 5), the {len(view.overlay.chosen)} chosen cells", fontsize=11)
    else:
        laid.set_title("no relation map", fontsize=11)
        laid.images[0].set_alpha(0.25)
        message = laid.text(0.5, 0.5, f"not available:\n{view.missing}", transform=laid.transAxes, fontsize=11)
        message.set(ha="center", va="center", wrap=True)
    _bars(bars, view.classes)
    return figure


def _draw_overlay(figure: Figure, axes: Axes, overlay: Overlay) -> None:
    x0, y0, x1, y1 = overlay.hull - 0.5  # a pixel's centre is its number, its edges half a pixel off
    shown = axes.imshow(
        overlay.relation[overlay.seen],
        extent=(x0, x1, y1, y0),
        cmap="inferno",
        alpha=0.5,
        interpolation="bilinear",
        zorder=2,
    )
    for position in overlay.chosen:
        axes.add_patch(_box(overlay.boxes[position], CHOSEN, 1.8))
    bar = figure.colorbar(shown, cax=axes.inset_axes((1.02, 0.0, 0.04, 1.0)))
    bar.ax.tick_params(labelsize=8)


def _box(box: np.ndarray, colour: str, linewidth: float, linestyle: str = "-") -> Rectangle:
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box.tolist()
    return Rectangle(
        (x0 - 0.5, y0 - 0.5),
        x1 - x0,
        y1 - y0,
        fill=False,
        zorder=3,
        edgecolor=colour,
        linewidth=linewidth,
        linestyle=linestyle,
    )


def _bars(axes: Axes, classes: dict[str, float]) -> None:
    names = sorted(classes, key=lambda name: classes[name])
    axes.barh(names, [classes[name] for name in names], color=["#b0b6bd"] * (len(names) - 1) + ["#d1495b"])
    for row, name in enumerate(names):
        value = classes[name]
        inside = value > 0.8
        axes.text(
            value + (-0.02 if inside else 0.02),
            row,
            f"{value:.2f}",
            va="center",
            ha="right" if inside else "left",
            fontsize=8,
        )
    axes.set(xlim=(0, 1), xlabel="class score of the frame")
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def curve_figure(curve: Curve) -> Figure:
    """All class scores over time, the windows shown marked by rank, and the annotated intervals if there are any."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.8), layout="constrained")
    axes = figure.subplots()
    palette = matplotlib.colormaps["tab20"]
    colours = {name: palette(((2 * i) % 20 + (2 * i) // 20) % 20) for i, name in enumerate(curve.classes)}
    order = np.argsort(-curve.scores.max(axis=0), kind="stable")
    for place, number in enumerate(order):
        name = curve.classes[number]
        (line,) = axes.plot(curve.times_s, curve.scores[:, number], color=colours[name], label=name, linewidth=2.0)
        line.set_zorder(3)
        if place >= LEADING:
            line.set(linewidth=0.9, alpha=0.7, zorder=2)
    for label, start, end in curve.intervals or ():
        _mark_interval(axes, curve, label, start, end, colours.get(label, "grey"))
    for rank, frame in enumerate(curve.marks, start=1):
        _mark_peak(axes, rank, float(curve.times_s[frame]), float(curve.scores[frame].max()))
    without_anomaly = curve.intervals is not None and not curve.intervals
    axes.set_title(f"{curve.video_id}{'   (annotated: no anomaly)' if without_anomaly else ''}", fontsize=13)
    last = max(float(curve.times_s[-1]), 1e-3)
    top = float(np.clip(1.3 * curve.scores.max(), 0.2, 1))  # low curves are enlarged; the axis says how far
    axes.set(xlim=(0, last), ylim=(0, top), xlabel="time, s", ylabel="class score")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, title="by highest score", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _mark_interval(
    axes: Axes, curve: Curve, label: str, start: int, end: int, colour: str | tuple[float, float, float, float]
) -> None:
    """Shade the frames [start, end) of an annotated interval."""
    first, last = (float(curve.times_s[frame]) for frame in (start, min(end, len(curve.times_s)) - 1))
    axes.axvspan(first, last, color=colour, alpha=0.18, linewidth=0, zorder=1)
    name = axes.text((first + last) / 2, 0.985, f"{label}\n(annotated)", transform=axes.get_xaxis_transform())
    name.set(fontsize=8, color="#333333", ha="center", va="top")


def _mark_peak(axes: Axes, rank: int, time_s: float, score: float) -> None:
    """A vertical line at a peak, and its rank in a circle."""
    axes.axvline(time_s, color="black", linestyle=":", linewidth=0.9, zorder=1)
    circle = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": "black"}
    number = axes.annotate(str(rank), (time_s, score), (0, 12), textcoords="offset points", bbox=circle)
    number.set(ha="center", fontsize=10, fontweight="bold", zorder=5)


def _save(figure: Figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=DOTS_PER_INCH)
