"""Choosing the operating point: upper thresholds for an accepted load of false alarms, on scored validation videos.

Every event in normal footage is a false alarm. The threshold of a class is the lowest at which normal validation
footage has no more false alarms per hour than accepted, and at which the same holds for every higher threshold tried.
It is never below the threshold with the most events: below that, events only grow together, until a whole video is a
single one. Thresholds are tried at the peaks of the scores and half-way between neighbouring peaks, since no event
appears between two peaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from pipeline.config.events import Events
from pipeline.data.events import ANOMALY
from pipeline.errors import PipelineError
from pipeline.metrics.exact import rate_interval
from pipeline.metrics.hysteresis import find_spans, frame_ends
from pipeline.progress import Progress
from pipeline.stages.events.detect import check_scores, score_columns
from pipeline.stages.events.operating_point import Choice, OperatingPoint, Point, configured
from pipeline.stages.events.rules import event_names, make_rule
from pipeline.stages.events.videos import ScoredVideo

__all__ = ["choose"]

TRIED = 60
"""Most peaks of normal footage that are tried for a class: all of the highest, and ever fewer further down."""
PEAKS = 400
"""Most peaks that are kept of a video and class, chosen in the same way."""
LARGE_SHARE = 0.1
"""Share of the time of normal footage in events from which on a note says so."""


def choose(
    videos: Callable[[], Iterable[ScoredVideo]],
    labels: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    settings: Events,
    progress: Progress | None = None,
) -> OperatingPoint:
    """Choose the thresholds of all classes and of anomaly in general.

    Args:
        videos: goes through the scored validation videos; called twice, so that one video is in memory at a time.
        labels: video id -> anomaly classes in the video, none for a normal one.
        classes: anomaly classes.
        settings: how events are cut, and what is accepted.
        progress: told how far it is.

    Raises:
        PipelineError: scores in which no event can be found, see `events_of_video`, or none of some class.
    """
    names = event_names(classes)
    peaks = _Peaks(names)
    for number, video in enumerate(videos()):
        if progress:
            progress(number, 2 * len(labels), f"peaks of {video.video_id}")
        peaks.add(video, classes, normal=not labels[video.video_id])
    if not peaks.normal_videos or peaks.normal_seconds <= 0:
        return configured(settings, classes, "no validation video is normal, so no false alarm can be counted")
    tried = {name: peaks.thresholds(name, settings.of(name).upper) for name in names}
    counts = {name: _Counts(settings, name, tried[name]) for name in names}
    anomalous = 0
    for number, video in enumerate(videos()):
        if progress:
            progress(len(labels) + number, 2 * len(labels), f"events of {video.video_id}")
        of = labels[video.video_id]
        anomalous += bool(of)
        for name, scores in score_columns(video.video_id, classes, video.general, video.classwise).items():
            if not of or name in of or name == ANOMALY:
                counts[name].add(scores, video.times_s, normal=not of)
    hours = peaks.normal_seconds / 3600
    choices = {name: counts[name].choice(hours) for name in names}
    return OperatingPoint(choices, peaks.normal_videos, hours, anomalous, _notes(choices, hours))


class _Peaks:
    """The peaks of the scores, of normal videos and of all, and how much normal footage there is."""

    def __init__(self, names: Sequence[str]) -> None:
        self.normal_videos, self.normal_seconds = 0, 0.0
        self._normal: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self._all: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def add(self, video: ScoredVideo, classes: Sequence[str], normal: bool) -> None:
        columns = score_columns(video.video_id, classes, video.general, video.classwise)
        check_scores(video.video_id, columns, video.times_s)
        if missing := [name for name in self._all if name not in columns]:
            raise PipelineError(f"{video.video_id}: expected class scores, got none of {', '.join(missing)}")
        if normal:
            self.normal_videos += 1
            self.normal_seconds += _seconds(video.times_s)
        for name, scores in columns.items():
            found = _peaks(scores)
            self._all[name].append(found)
            if normal:
                self._normal[name].append(found)

    def thresholds(self, name: str, fixed: float) -> np.ndarray:
        """The upper thresholds to try, from the highest: peaks of normal footage, half-way from each to the next higher
        peak of any video (or to 1), and the fixed one."""
        normal = np.unique(np.concatenate(self._normal[name]))[::-1]
        every = np.append(np.unique(np.concatenate(self._all[name])), 1.0)
        some = _thinned(normal, TRIED)
        above = every[np.searchsorted(every[:-1], some, side="right")]
        tried = [*some, *((some + above) / 2), fixed]
        return np.unique([value for value in tried if value > 0 or value == fixed])[::-1]


class _Counts:
    """What each threshold that is tried for a class does."""

    def __init__(self, settings: Events, name: str, thresholds: np.ndarray) -> None:
        self.settings, self.own, self.name, self.thresholds = settings, settings.of(name), name, thresholds
        self.rules = [make_rule(settings, name, float(threshold)) for threshold in thresholds]
        self.events = np.zeros(len(thresholds), dtype=np.int64)
        self.seconds, self.hits = np.zeros(len(thresholds)), np.zeros(len(thresholds), dtype=np.int64)
        self.footage, self.anomalous = 0.0, 0

    def add(self, scores: np.ndarray, times_s: np.ndarray, normal: bool) -> None:
        ends = frame_ends(times_s)
        self.footage += _seconds(times_s) if normal else 0.0
        self.anomalous += not normal
        for number, rule in enumerate(self.rules):
            spans = find_spans(scores, times_s, rule)
            if not normal:
                self.hits[number] += len(spans) > 0
            elif len(spans):
                self.events[number] += len(spans)
                self.seconds[number] += (ends[spans[:, 1] - 1] - times_s[spans[:, 0]]).sum()

    def choice(self, hours: float) -> Choice:
        curve = tuple(
            Point(
                threshold=float(threshold),
                events=int(self.events[n]),
                false_alarms_per_hour=float(self.events[n] / hours),
                alarm_share=float(self.seconds[n] / self.footage),
                hit_share=float(self.hits[n] / self.anomalous) if self.anomalous else None,
            )
            for n, threshold in enumerate(self.thresholds)
        )
        accepted, fixed = self.own.false_alarms_per_hour, self.settings.fixed(self.name)
        good = [point.false_alarms_per_hour <= (accepted or 0.0) + 1e-9 for point in curve]
        if fixed:
            point = next(point for point in curve if point.threshold == self.own.upper)
            reason = "events.by_class sets it" if accepted is not None else "events.false_alarms_per_hour is null"
        else:
            most = int(np.flatnonzero(self.events == self.events.max())[-1])
            best = min(most, good.index(False) - 1 if False in good else most)
            point = curve[max(0, best)]
            reason = "" if best >= 0 else "more false alarms than accepted at the highest threshold that can be set"
        low, high = rate_interval(point.events, hours)
        return Choice(
            threshold=point.threshold,
            chosen_on="configuration" if fixed else "validation",
            reason=reason,
            accepted_per_hour=accepted,
            within=None if accepted is None else point.false_alarms_per_hour <= accepted + 1e-9,
            point=point,
            low=low,
            high=high,
            anomalous_videos=self.anomalous,
            curve=curve,
        )


def _peaks(scores: np.ndarray) -> np.ndarray:
    """The local maxima of a score curve, each value once, from the highest; at most `PEAKS` of them."""
    around = np.concatenate([[-1.0], scores, [-1.0]])
    top = (scores >= around[:-2]) & (scores >= around[2:])
    return _thinned(np.unique(scores[top])[::-1], PEAKS)


def _thinned(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the values (n,): all of the first ones, then some at ever larger steps, and the last."""
    return values[np.unique(np.geomspace(1, len(values), most).round().astype(int)) - 1] if len(values) else values


def _seconds(times_s: np.ndarray) -> float:
    return float(frame_ends(times_s)[-1] - times_s[0]) if len(times_s) else 0.0


def _notes(choices: Mapping[str, Choice], hours: float) -> tuple[str, ...]:
    notes = [
        f"false alarms were counted on {hours:.3f} h of normal validation footage; a single one there is already "
        f"{1 / hours:,.4g} per hour, so a lower rate cannot be measured"
    ]
    below = [name for name, choice in choices.items() if 0 < (choice.accepted_per_hour or 0) < 1 / hours]
    if below:
        notes.append(
            f"{', '.join(below)}: the accepted rate is below that, so the threshold is the lowest without any false "
            f"alarm in this footage; the true rate can be as high as {rate_interval(0, hours)[1]:,.4g} per hour (95 %)"
        )
    for name, choice in choices.items():
        if choice.point and choice.point.alarm_share > LARGE_SHARE:
            notes.append(f"{name}: {100 * choice.point.alarm_share:.0f} % of the time of normal footage lies in events")
    notes += [f"{name}: {choice.reason}" for name, choice in choices.items() if choice.reason]
    unseen = [name for name, choice in choices.items() if not choice.anomalous_videos]
    if unseen:
        notes.append(f"{', '.join(unseen)}: no validation video shows it, so nothing says what the threshold misses")
    return tuple(notes)
