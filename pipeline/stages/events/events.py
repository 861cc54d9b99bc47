"""The events of score tables, written as tables of events with the facts of how they were found."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config import Experiment, to_yaml
from pipeline.data.events import SUFFIXES, Event, read_events, write_events
from pipeline.data.headers import files_facts
from pipeline.data.manifest import Manifest
from pipeline.errors import PipelineError
from pipeline.metrics.hysteresis import EventRule, frame_ends
from pipeline.progress import Progress
from pipeline.stages.common.outputs import whole_file
from pipeline.stages.events.detect import events_of_video
from pipeline.stages.events.operating_point import read_thresholds
from pipeline.stages.events.rules import make_rules
from pipeline.stages.events.videos import KnownVideos, ScoredVideos, open_scores

__all__ = ["FoundEvents", "find_events", "known_videos", "read_found", "sources_of", "write_found", "write_run_events"]


@dataclass(frozen=True)
class FoundEvents:
    """The events of some videos.

    Attributes:
        events: by video id, then as of `events_of_video`.
        rules: by which they were found, by class and anomaly in general.
        videos: number of videos that were looked at.
        hours: their length in all.
        notes: what was not read of the scores, and what else a person should know, a sentence each.
    """

    events: tuple[Event, ...]
    rules: dict[str, EventRule]
    videos: int
    hours: float
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Number of events by class, also of those that have none."""
        counts = dict.fromkeys(self.rules, 0)
        for event in self.events:
            counts[event.class_name] += 1
        return counts

    def facts(self) -> dict[str, object]:
        """For JSON: everything but the events."""
        return {
            "videos": self.videos,
            "hours": round(self.hours, 6),
            "events": self.counts(),
            "rules": {name: asdict(rule) for name, rule in self.rules.items()},
            "notes": list(self.notes),
        }


def find_events(
    scored: ScoredVideos,
    rules: Mapping[str, EventRule],
    progress: Progress | None = None,
    notes: Sequence[str] = (),
) -> FoundEvents:
    """Find the events of all videos, one video in memory at a time.

    Args:
        scored: the videos.
        rules: by class and anomaly in general.
        progress: told how far it is.
        notes: what else is to stand in the facts.

    Raises:
        LengthMismatch, PipelineError: as `events_of_video` and `open_scores`.
    """
    events: list[Event] = []
    seconds, classwise = 0.0, False
    for number, video in enumerate(scored.videos):
        if progress:
            progress(number, scored.count, f"events of {video.video_id}")
        parts = video.general, video.classwise, video.times_s
        events += events_of_video(video.video_id, video.source, scored.classes, *parts, rules)
        classwise = classwise or video.classwise is not None
        if len(video.times_s):
            seconds += float(frame_ends(video.times_s)[-1] - video.times_s[0])
    if progress:
        progress(scored.count, scored.count, "events")
    more = () if classwise else ("the tables hold no class scores: events are of anomaly in general alone",)
    return FoundEvents(tuple(events), dict(rules), scored.count, seconds / 3600, (*scored.notes, *more, *notes))


def write_found(
    folder: Path, found: FoundEvents, facts: Mapping[str, object], formats: Sequence[str] = SUFFIXES
) -> None:
    """Write events.parquet, events.csv and events.jsonl, or some of them, and facts.json.

    Args:
        folder: is made where it is not there.
        found: the events.
        facts: what else facts.json says.
        formats: endings of the tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in formats:
        partial = folder / f".events.partial{suffix}"  # the ending says which form
        write_events(partial, found.events)
        os.replace(partial, folder / f"events{suffix}")
    with whole_file(folder / "facts.json") as partial:
        text = json.dumps({**facts, **found.facts()}, indent=1, ensure_ascii=False, allow_nan=False)
        partial.write_text(text, encoding="utf-8")


def read_found(folder: Path) -> FoundEvents:
    """What `write_found` wrote with all tables. Raises PipelineError where it is not there."""
    path = folder / "facts.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        rules = {name: EventRule(**rule) for name, rule in facts["rules"].items()}
        videos, hours, notes = facts["videos"], facts["hours"], tuple(facts["notes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{path}: not the facts of a list of events ({error!r})") from error
    return FoundEvents(tuple(read_events(folder / "events.parquet")), rules, videos, hours, notes)


def sources_of(manifest: Manifest) -> dict[str, str]:
    """Where the videos of a manifest lie, by id; no entry for one that is not there."""
    paths = [manifest.video_path(entry.video_id) for entry in manifest.videos]
    told = zip(manifest.videos, paths, files_facts(paths), strict=True)
    return {entry.video_id: str(path) for entry, path, (size, _) in told if size >= 0}


def known_videos(experiment: Experiment, manifest: Manifest) -> KnownVideos:
    """What is known of the videos of a run, apart from their scores."""
    ends = {entry.video_id: entry.packets for entry in manifest.videos} if experiment.features.test else {}
    return KnownVideos(sources=sources_of(manifest), ends=ends)


def write_run_events(
    experiment: Experiment,
    manifest: Manifest,
    scores: Path,
    operating_point: Path,
    folder: Path,
    progress: Progress,
) -> None:
    """Write the events of a run's score tables: all three tables of events, facts.json and config.yaml.

    Args:
        experiment: the experiment.
        manifest: of the videos; its truth is not used.
        scores: folder of the score tables.
        operating_point: folder of the thresholds.
        folder: where the events go.
        progress: told how far it is.

    Raises:
        LengthMismatch, PipelineError: as `find_events`, or there is no operating point in its folder.
    """
    thresholds, chosen = read_thresholds(operating_point)
    rules = make_rules(experiment.events, manifest.classes, thresholds)
    scored = open_scores(scores, manifest.classes, known_videos(experiment, manifest))
    found = find_events(scored, rules, progress, chosen["notes"])
    write_found(folder, found, {"scores": scores.name, "operating_point": operating_point.name})
    (folder / "config.yaml").write_text(to_yaml(experiment.events), encoding="utf-8")
