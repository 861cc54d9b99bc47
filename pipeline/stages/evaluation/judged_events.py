"""Events found in score tables beside the ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from pipeline.config.events import Events
from pipeline.data.events import ANOMALY, COLUMNS, Event
from pipeline.data.manifest import Manifest
from pipeline.errors import PipelineError
from pipeline.metrics import DetMetrics, EventMetrics
from pipeline.metrics.events import VideoEvents, check_times
from pipeline.metrics.hysteresis import EventRule, frame_ends
from pipeline.stages.events.detect import events_of_video
from pipeline.stages.events.operating_point import read_thresholds
from pipeline.stages.events.rules import event_names, make_rule, make_rules
from pipeline.stages.events.videos import KnownVideos, open_scores
from pipeline.stages.scoring.tables import ScoreForm, ScoreTables

__all__ = ["EVENT_COLUMNS", "TRUE_EVENT_COLUMNS", "EventOptions", "JudgedEvents", "NoEventMetrics", "judge_events"]

EVENT_COLUMNS = (*COLUMNS, "matched_start_s", "matched_end_s", "iou", "false_alarm")
TRUE_EVENT_COLUMNS = ("video_id", "class", "start_s", "end_s", "start_frame", "end_frame", "hit", "delay_s", "iou")


class NoEventMetrics(PipelineError):
    """These score tables do not allow event metrics; the message says why."""


@dataclass(frozen=True)
class EventOptions:
    """By which rules events are found.

    Attributes:
        settings: the section `events` of the configuration.
        rules: by class and anomaly in general, as they were chosen on validation videos; None for those of `settings`.
        rules_from: where the thresholds of `rules` come from, as metrics.json says it.
    """

    settings: Events = field(default_factory=Events)
    rules: Mapping[str, EventRule] | None = None
    rules_from: str = "validation"

    @classmethod
    def of_point(cls, settings: Events, path: Path) -> EventOptions:
        """The thresholds of an operating_point.json, in rules that are otherwise those of the settings.

        Raises PipelineError where the file is none.
        """
        thresholds, document = read_thresholds(path)
        chosen = any(choice.get("chosen_on") == "validation" for choice in document.get("classes", {}).values())
        rules = {name: make_rule(settings, name, threshold) for name, threshold in thresholds.items()}
        return cls(settings, rules, "validation" if chosen else "configuration")


@dataclass(frozen=True)
class JudgedEvents:
    """The events of all videos beside the ground truth.

    Attributes:
        metrics: of the events at the given rules.
        det: of the rule of anomaly in general, its upper threshold swept.
        rules: by class and anomaly in general.
        rules_from: configuration or validation.
        times_s: video id -> (N,) float64, presentation times.
    """

    metrics: EventMetrics
    det: DetMetrics
    rules: Mapping[str, EventRule]
    rules_from: str
    times_s: dict[str, np.ndarray]

    def facts(self) -> dict[str, object]:
        """For JSON: rules, footage, and how many events and true intervals there are of what."""
        return {
            "rules": {name: asdict(rule) for name, rule in self.rules.items()},
            "rules_from": self.rules_from,
            "normal_hours": float(self.metrics.normal_s.sum()) / 3600,
        }

    def found(
        self, tables: ScoreTables, classes: tuple[str, ...], sources: Mapping[str, str]
    ) -> Iterator[list[object]]:
        """The rows of a table of `EVENT_COLUMNS`, by video id, then as `events_of_video`."""
        for video_id, times in self.times_s.items():
            classwise = tables.classwise[video_id] if tables.classwise and self.metrics.by_class else None
            events = events_of_video(
                video_id, sources.get(video_id, ""), classes, tables.general[video_id], classwise, times, self.rules
            )
            targets = self._targets(video_id)
            ends_s = frame_ends(times)
            for event in events:
                beside = targets[event.class_name]
                number = int(np.searchsorted(beside.found[:, 0], event.start_frame))
                yield _found_row(event, beside, number, times, ends_s)

    def true(self) -> Iterator[list[object]]:
        """The rows of a table of `TRUE_EVENT_COLUMNS`: true intervals, by video id, anomaly in general first."""
        for video_id, times in self.times_s.items():
            ends_s = frame_ends(times)
            for name, beside in self._targets(video_id).items():
                best = dict(zip(beside.partner.tolist(), beside.overlap.tolist(), strict=True))
                for i, (start, end) in enumerate(beside.true.tolist()):
                    delay = float(beside.delay_s[i]) if beside.hit[i] else None
                    place = [float(times[start]), float(ends_s[end - 1]), start, end]
                    yield [video_id, name, *place, int(beside.hit[i]), delay, best.get(i, 0.0)]

    def _targets(self, video_id: str) -> dict[str, VideoEvents]:
        """Of one video, anomaly in general and then every class."""
        general = self.metrics.general[video_id]
        return {ANOMALY: general} | {
            name: videos[video_id] for name, videos in self.metrics.by_class.items() if name != ANOMALY
        }


def judge_events(
    source: Path,
    tables: ScoreTables,
    truth: Mapping[str, np.ndarray],
    manifest: Manifest,
    options: EventOptions,
    form: ScoreForm | None = None,
    held: Mapping[str, int] | None = None,
) -> JudgedEvents:
    """Find the events of score tables and put them beside the ground truth.

    Args:
        source: where the tables were read from; it is asked when frames are shown.
        tables: the scores.
        truth: video id -> (N, C) bool.
        manifest: its frame rates stand in where the tables hold no times.
        options: the rules.
        form: how files of other systems are read.
        held: video id -> number of scores, of all videos that the source has scores of; default: those of `tables`.

    Raises:
        PipelineError: a class has no rule among those of the options.
        NoEventMetrics: scores are not from 0 to 1, or nothing says when frames are shown, or it cannot be so.
    """
    general, classwise = tables.general, tables.classwise
    if not (_are_shares(general) and _are_shares(classwise or {})):
        raise NoEventMetrics("the rule for events is for scores from 0 to 1")
    try:
        names = manifest.classes if classwise else ()
        wanted = event_names(names)
        rules = options.rules or make_rules(options.settings, names)
        frames = {video_id: len(scores) for video_id, scores in general.items()}
        times = _frame_times(source, held or frames, manifest, form)
        times = {video_id: times[video_id] for video_id in sorted(frames)}
        check_times(times, frames)
    except PipelineError as error:
        raise NoEventMetrics(str(error)) from error
    if missing := [name for name in wanted if name not in rules]:
        raise PipelineError(f"expected a threshold for events of each class, got none for {', '.join(missing)}")
    anomalous = {video_id: np.asarray(labels.any(axis=1)) for video_id, labels in truth.items()}
    return JudgedEvents(
        EventMetrics(general, classwise, truth, times, manifest.classes, rules),
        DetMetrics(general, anomalous, times, rules[ANOMALY]),
        {name: rules[name] for name in wanted},
        "configuration" if options.rules is None else options.rules_from,
        times,
    )


def _are_shares(tables: Mapping[str, np.ndarray]) -> bool:
    return all(table.min(initial=0) >= 0 and table.max(initial=0) <= 1 for table in tables.values())


def _frame_times(
    source: Path, frames: Mapping[str, int], manifest: Manifest, form: ScoreForm | None
) -> dict[str, np.ndarray]:
    """When every frame with a score is shown, by id: as the tables say, else by the manifest's frame rates."""
    rates = {entry.video_id: entry.fps for entry in manifest.split("test") if entry.fps > 0}
    own = (source / "index.json").is_file()
    scored = open_scores(source, manifest.classes, KnownVideos(frames, rates), None if own else form)
    return {video.video_id: video.times_s[: frames[video.video_id]] for video in scored.videos}


def _found_row(event: Event, beside: VideoEvents, number: int, times_s: np.ndarray, ends_s: np.ndarray) -> list[object]:
    partner = int(beside.partner[number])
    matched: list[object] = [None, None]
    if partner >= 0:
        start, end = beside.true[partner]
        matched = [float(times_s[start]), float(ends_s[end - 1])]
    values = list(asdict(event).values())
    return [*values, *matched, float(beside.overlap[number]), int(beside.false[number])]
