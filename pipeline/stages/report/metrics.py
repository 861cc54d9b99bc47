"""metrics.json in words: every figure that has a value and an interval, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["HEADLINES", "Cell", "Row", "metric_rows"]

EVENTS = "events/anomaly/metrics/"
FRAMES = {
    "frame_auc": ("Frame AUC", "area under the ROC curve of all frames; 0.5 is chance"),
    "frame_ap": ("Frame AP", "average precision of all frames; chance is the share of anomalous frames"),
    "frame_ap_trapezoid": ("Frame AP, trapezoidal", "the same by the trapezoidal rule, as some papers report it"),
    "anomalous_videos_auc": ("AUC within anomalous videos", "frame AUC of the frames of anomalous videos alone"),
    "video_auc": ("Video AUC", "are anomalous videos told from normal ones by their highest score; 0.5 is chance"),
    "false_alarm_rate": (
        "False-alarm rate",
        "share of the frames of normal videos that score 0.5 or more; lower is better",
    ),
    "mf1": ("Mean F1", "mean over the classes of the F1 of their frames"),
    "mean_class_ap": ("Mean class AP", "mean over the classes of the average precision of their frames"),
    "detection_map": (
        "Detection mAP",
        "are anomalies found as intervals of their class; mean over overlaps of 0.1 to 0.5",
    ),
}
OF_EVENTS = {
    "hit_at_least_once": ("Anomalies found", "share of the annotated intervals that some event overlaps"),
    "false_alarms_per_hour": (
        "False alarms per hour",
        "events per hour of normal footage that overlap nothing annotated; lower is better",
    ),
    "false_alarm_time_rate": (
        "Normal footage in events",
        "share of the time in which nothing is annotated that lies in an event; lower is better",
    ),
    "f1_0.5": ("Event F1 at overlap 0.5", "events matched one to one with annotated intervals"),
    "delay_median_s": (
        "Delay, median",
        "seconds from the start of an annotated interval to the first alarm in it",
    ),
    "delay_mean_s": ("Delay, mean", "the same, on average"),
}
OF_LOCALISATION = {
    "hit_rate": (
        "Hit rate of spatial reasoning",
        "share of the windows that show an anomaly in which the cell with its middle is among the cells chosen",
    ),
    "hit_rate_chance": ("Hit rate by chance", "the same of cells chosen at random"),
    "relation_energy": (
        "Energy in the anomaly",
        "share of the relation map that lies in the anomaly's box, of the windows that show one",
    ),
    "relation_energy_chance": ("Energy in the anomaly by chance", "share of the picture that the box takes"),
    "relation_energy_ratio": (
        "Energy in the anomaly to chance",
        "the one divided by the other; 1 is a map that is the same everywhere",
    ),
}
"""Metrics of where spatial reasoning looks, which generated data sets have."""
AT = (
    ("precision_", "Event precision at overlap {}"),
    ("recall_", "Event recall at overlap {}"),
    ("f1_", "Event F1 at overlap {}"),
    ("detection_map_", "Detection mAP at overlap {}"),
    ("miss_rate_at_", "Miss rate at {} false alarms per hour"),
)
"""Titles of metrics whose names end with a number; all are those that docs/evaluation.md defines."""

HEADLINES = (
    "frame_auc",
    "frame_ap",
    "mf1",
    f"{EVENTS}hit_at_least_once",
    f"{EVENTS}false_alarms_per_hour",
    "video_auc",
)
"""The metrics that come first, largest, where a run has them."""
GROUPS = ("figures", "events", "localisation")
OF_CLASS = ("class_ap/", "events/classes/", "localisation/classes/")


@dataclass(frozen=True)
class Cell:
    """A metric of one run.

    Attributes:
        value: None where the metric is not defined.
        low, high: its 95 % interval over videos; None where that is not defined.
        reason: why one of them is not defined.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Row:
    """One metric of all runs.

    Attributes:
        key: its name in metrics.json.
        title, meaning: in words; the meaning may be "".
        cells: one per run, in their order.
        of_class: whether it is of one class.
        anchor: by which the page's headlines lead to it; "" for others.
    """

    key: str
    title: str
    meaning: str
    cells: tuple[Cell, ...]
    of_class: bool = False
    anchor: str = ""


def metric_rows(metrics: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Every metric that any run has, in the order in which they occur.

    Args:
        metrics: the content of metrics.json of each run.
    """
    found = [dict(_named(document)) for document in metrics]
    keys = dict.fromkeys(key for one in found for key in one)
    anchors = {key: f"metric-{number}" for number, key in enumerate(HEADLINES)}
    return [
        Row(
            key,
            *_words(key),
            tuple(one.get(key) or _missing(key, document) for one, document in zip(found, metrics, strict=True)),
            key.startswith(OF_CLASS),
            anchors.get(key, ""),
        )
        for key in keys
    ]


def _missing(key: str, document: Mapping[str, Any]) -> Cell:
    """The cell of a metric that a run does not have; metrics.json says why it has none of events or localisation."""
    group, _, name = key.partition("/")
    reason = (document.get(group) or {}).get("reason") if name and group in GROUPS else None
    return Cell(reason=reason or "this run has no such metric")


def _named(document: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    for group in GROUPS:
        found = document.get(group)
        if isinstance(found, dict):
            yield from _leaves("" if group == "figures" else group, found)


def _leaves(prefix: str, group: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    for name, value in group.items():
        key = f"{prefix}/{name}" if prefix else name
        if not isinstance(value, dict):
            continue
        if "value" in value and not isinstance(value["value"], dict):  # a class may be called so
            yield key, Cell(value["value"], value.get("low"), value.get("high"), value.get("reason"))
        else:
            yield from _leaves(key, value)


def _words(key: str) -> tuple[str, str]:
    """Title and meaning of a metric; one that is not known has its own name."""
    if key in FRAMES:
        return FRAMES[key]
    group, _, name = key.partition("/")
    if group == "class_ap":
        return f"AP of {name}", ""
    if group == "localisation":
        target, _, name = name.rpartition("metrics/")
        title, meaning = OF_LOCALISATION.get(name, (_title(name), ""))
        label = target.removeprefix("classes/").removesuffix("/")
        return (f"{label}: {title}", "") if label else (title, meaning)
    if group != "events":
        return _title(key), ""
    target, _, name = key.removeprefix("events/").rpartition("/metrics/")
    title, meaning = OF_EVENTS.get(name, (_title(name), ""))
    if target == "anomaly":
        return title, meaning
    return f"{target.removeprefix('classes/').replace('class_mean', 'Mean over the classes')}: {title}", ""


def _title(name: str) -> str:
    for start, title in AT:
        if name.startswith(start):
            return title.format(name.removeprefix(start).removesuffix("_per_hour"))
    return name.replace("_", " ").capitalize()
