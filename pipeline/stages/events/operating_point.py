"""The operating point: upper thresholds of events, what they cost and find on validation videos, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config.events import Events
from pipeline.errors import PipelineError
from pipeline.stages.events.rules import event_names

__all__ = [
    "Choice",
    "OperatingPoint",
    "Point",
    "configured",
    "for_another_head",
    "read_chosen",
    "read_thresholds",
    "write_operating_point",
]

FILE = "operating_point.json"


@dataclass(frozen=True)
class Point:
    """What one upper threshold does on the validation videos.

    Attributes:
        threshold: upper threshold; the lower one follows it as its share.
        events: in normal footage, all of them false.
        false_alarms_per_hour: of normal footage.
        alarm_share: share of the time of normal footage that lies in events.
        hit_share: share of the anomalous videos of the class with at least one of its events, wherever it lies; None
            without such a video.
    """

    threshold: float
    events: int
    false_alarms_per_hour: float
    alarm_share: float
    hit_share: float | None


@dataclass(frozen=True)
class Choice:
    """The threshold of one class.

    Attributes:
        threshold: upper threshold.
        chosen_on: `validation`, or `configuration` where it is the fixed one.
        reason: why it is the fixed one, or not within what is accepted; "" where all is well.
        accepted_per_hour: false alarms per hour that are accepted; None for a fixed threshold that was asked for.
        within: whether normal validation footage has no more; None without such footage.
        point: what the threshold does; None without normal validation footage.
        low, high: of the false alarms per hour, its interval of 95 % for counted events (Poisson).
        anomalous_videos: validation videos of the class.
        curve: all thresholds tried, from the highest.
    """

    threshold: float
    chosen_on: str
    reason: str = ""
    accepted_per_hour: float | None = None
    within: bool | None = None
    point: Point | None = None
    low: float | None = None
    high: float | None = None
    anomalous_videos: int = 0
    curve: tuple[Point, ...] = ()


@dataclass(frozen=True)
class OperatingPoint:
    """The thresholds of all classes and of anomaly in general.

    Attributes:
        choices: by class and `ANOMALY`.
        normal_videos, normal_hours: the footage on which false alarms were counted.
        anomalous_videos: validation videos with an anomaly of any class.
        notes: what a person should know, a sentence each.
        left_out: validation videos that could not be read, and why.
    """

    choices: dict[str, Choice]
    normal_videos: int = 0
    normal_hours: float = 0.0
    anomalous_videos: int = 0
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] | None = None

    @property
    def smallest_per_hour(self) -> float | None:
        """One event in all of the normal footage, per hour: no lower rate can be measured."""
        return 1 / self.normal_hours if self.normal_hours else None

    def to_json(self) -> dict[str, object]:
        """As plain data."""
        return {
            "thresholds": {name: choice.threshold for name, choice in self.choices.items()},
            "normal_videos": self.normal_videos,
            "normal_hours": self.normal_hours,
            "anomalous_videos": self.anomalous_videos,
            "smallest_false_alarms_per_hour": self.smallest_per_hour,
            "notes": list(self.notes),
            "left_out": dict(self.left_out or {}),
            "classes": {name: asdict(choice) for name, choice in self.choices.items()},
        }


def configured(settings: Events, classes: Sequence[str], reason: str) -> OperatingPoint:
    """The fixed thresholds of the configuration, where none can be chosen.

    Args:
        settings: of the configuration.
        classes: anomaly classes.
        reason: why nothing is chosen, for the notes.
    """
    choices = {
        name: Choice(settings.of(name).upper, "configuration", reason, settings.of(name).false_alarms_per_hour)
        for name in event_names(classes)
    }
    return OperatingPoint(choices, notes=(f"the thresholds are those of the configuration: {reason}",))


def write_operating_point(folder: Path, found: OperatingPoint, facts: Mapping[str, object]) -> None:
    """Write operating_point.json.

    Args:
        folder: where the file goes.
        found: the operating point.
        facts: for which run and head it was chosen; they come first in the file.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps({**facts, **found.to_json()}, indent=1, ensure_ascii=False, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(text, encoding="utf-8")


def read_thresholds(path: Path) -> tuple[dict[str, float], dict]:
    """Thresholds by class, and the whole document, of an operating_point.json or the folder of one.

    Raises PipelineError where it is none.
    """
    file = path / FILE if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        thresholds = {str(name): float(value) for name, value in document["thresholds"].items()}
        return thresholds, {"notes": []} | document
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(f"{file}: not an operating point ({error!r})") from error


def read_chosen(path: Path) -> dict[str, float]:
    """The thresholds by class that were chosen on validation videos, as `read_thresholds`; none where none was."""
    thresholds, document = read_thresholds(path)
    return {name: value for name, value in thresholds.items() if document["classes"][name]["chosen_on"] == "validation"}


def for_another_head(path: Path, document: Mapping[str, object], head_sha256: str | None) -> tuple[str, ...]:
    """A warning where the operating point was chosen for another head than the one that made the scores.

    Args:
        path: of the operating point, for the message.
        document: its content.
        head_sha256: of the head that made the scores; None where it is not known.

    Returns:
        One sentence; none where the heads are the same, or one of them is not known.
    """
    made_for = document.get("head_sha256")
    if not head_sha256 or not made_for or made_for == head_sha256:
        return ()
    return (f"the thresholds of {path} were chosen for another head than that of these scores",)
