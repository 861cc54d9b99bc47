"""`gig events`: what is found in videos, as a list of events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.paths import FOLDER, STORED_FOLDER
from pipeline.cli.shared import DEFAULT_CONFIG, aligned, bar, check_quarantine, ensure, make, name_config, say, with_run
from pipeline.cli.tables import LENGTHS, SCORES, with_form
from pipeline.config import Events as EventSettings
from pipeline.config import load_experiment
from pipeline.data.events import ANOMALY, COLUMNS, SUFFIXES, Event
from pipeline.errors import PipelineError
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import Events, OperatingPoint, ScoreVideos, frozen, usable_manifest

if TYPE_CHECKING:
    from pipeline.stages.events.events import FoundEvents
    from pipeline.stages.events.rules import RuleChanges
    from pipeline.stages.events.videos import KnownVideos
    from pipeline.stages.scoring.score_form import ScoreForm

__all__ = ["events"]

SHOWN = 20
SHARE = click.FloatRange(0, 1)
SECONDS = click.FloatRange(min=0)


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The experiment (default: configs/fixture.yaml; with --scores the default settings of events).",
)
@with_run
@click.option("--finetuned", is_flag=True, help="Events of the fine-tuned backbone and head.")
@click.option("--scores", type=SCORES, help="Find the events of these scores of any system, a folder or a file.")
@click.option(
    "--truth", type=STORED_FOLDER, help="With --scores: the folder of a manifest, for classes, lengths and frame rates."
)
@click.option("--class", "classes", multiple=True, help="With --scores: a column of class scores; once for each class.")
@click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), help="With --scores: frames per second of all videos."
)
@click.option(
    "--operating-point",
    "point",
    type=click.Path(path_type=Path),
    help="With --scores: an operating_point.json, whose thresholds are used.",
)
@click.option(
    "--out",
    type=FOLDER,
    help="Folder of the events (default: a run's own; <name of scores>-events; else <run>-events).",
)
@click.option(
    "--format",
    "form_of_list",
    type=click.Choice(["parquet", "csv", "jsonl", "all"]),
    default="all",
    show_default=True,
    help="Which tables of events are written.",
)
@click.option("--upper", type=SHARE, help="Upper threshold of every class, in place of the configured or chosen ones.")
@click.option("--lower", type=SHARE, help="Lower threshold of every class, a score (not a share of the upper one).")
@click.option(
    "--merge-gap", "merge_gap_s", type=SECONDS, help="Longest gap between two events that become one, in seconds."
)
@click.option("--min-length", "min_length_s", type=SECONDS, help="Least length of an event, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="For machines: one JSON object with the facts and all events.")
@LENGTHS
@with_form
def events(
    config: Path | None,
    run: str,
    finetuned: bool,
    scores: Path | None,
    point: Path | None,
    out: Path | None,
    form_of_list: str,
    as_json: bool,
    form: ScoreForm,
    upper: float | None,
    lower: float | None,
    merge_gap_s: float | None,
    min_length_s: float | None,
    **videos: Any,
) -> None:
    """Write the list of events of a run, doing what is missing before it; or, with --scores, of any score tables.

    Prints the events of every class and those with the highest peaks. What an event is: docs/events.md.
    """
    from pipeline.stages.events.rules import RuleChanges

    changes = RuleChanges(upper, lower, merge_gap_s, min_length_s)
    wanted = _Wanted(out, SUFFIXES if form_of_list == "all" else (f".{form_of_list}",), as_json)
    if scores is None:
        if point or any(videos.values()) or form.facts() != {"stride": 1, "tail": "exact"}:
            raise PipelineError(
                "--truth, --class, --fps, --operating-point, and what says how scores are read, such as --stride, go "
                "with --scores"
            )
        name_config(config or DEFAULT_CONFIG)
        recipes = Recipes(load_experiment(config or DEFAULT_CONFIG))
        _of_run(recipes.finetuned if finetuned else recipes, run, changes, wanted)
        return
    folder = _free(out or Path(f"{scores.name.removesuffix(scores.suffix)}-events"))
    _of_tables(scores, settings(config), point, form, changes, replace(wanted, folder=folder), **videos)


@dataclass(frozen=True)
class _Wanted:
    """Where the events go (None: where the run's own lie), in which tables, and whether all are printed as JSON."""

    folder: Path | None
    formats: Sequence[str]
    as_json: bool


def settings(config: Path | None) -> EventSettings:
    """The section `events` of a configuration, or the defaults."""
    if config is None:
        say("no --config given: working with the default settings of events")
        return EventSettings()
    return load_experiment(config).events


def _of_run(recipes: Recipes, run: str, changes: RuleChanges, wanted: _Wanted) -> None:
    """The run's own events; or, with other rules, tables or another place, those, from the same scores."""
    from pipeline.stages.events.events import find_events, known_videos, read_found
    from pipeline.stages.events.operating_point import read_thresholds
    from pipeline.stages.events.rules import make_rules
    from pipeline.stages.events.videos import open_scores

    if not changes and wanted.folder is None and tuple(wanted.formats) == SUFFIXES:
        folder = ensure(Events(recipes, run))
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        _show(read_found(folder), facts, folder, wanted.as_json)
    else:
        folder = _free(wanted.folder or Path(f"{run}-events"))
        point, scores = ensure(OperatingPoint(recipes, run)), ensure(ScoreVideos(recipes, run))
        thresholds, document = read_thresholds(point)
        manifest = usable_manifest(frozen(recipes))
        rules = make_rules(recipes.experiment.events, manifest.classes, thresholds, changes)
        scored = open_scores(scores, manifest.classes, known_videos(recipes.experiment, manifest))
        with bar("events", "videos") as progress:
            found = find_events(scored, rules, progress, _notes(changes, document))
        _finish(found, {"scores": str(scores), "operating_point": str(point)}, replace(wanted, folder=folder))
    check_quarantine(recipes)


def _of_tables(
    scores: Path,
    settings: EventSettings,
    point: Path | None,
    form: ScoreForm,
    changes: RuleChanges,
    wanted: _Wanted,
    *,
    truth: Path | None,
    classes: tuple[str, ...],
    lengths: Path | None,
    fps: float | None,
) -> None:
    """Events of score tables of any system."""
    from pipeline.stages.events.events import find_events
    from pipeline.stages.events.operating_point import for_another_head, read_thresholds
    from pipeline.stages.events.rules import event_names, make_rules
    from pipeline.stages.events.videos import open_scores

    of_manifest, known = _known(truth, lengths, fps)
    scored = open_scores(scores, classes or of_manifest, known, form)
    thresholds, document = read_thresholds(point) if point else ({}, {})
    if missing := [name for name in event_names(scored.classes) if name not in thresholds] if point else []:
        raise PipelineError(f"{point}: expected a threshold of each class, got none of {', '.join(missing)}")
    notes = _notes(changes, document)
    if point:
        notes = (*notes, *for_another_head(point, document, scored.head_sha256))
    rules = make_rules(settings, scored.classes, thresholds, changes)
    with bar("events", "videos") as progress:
        found = find_events(scored, rules, progress, notes)
    facts: dict[str, object] = {"scores": str(scores)}
    _finish(found, facts | ({"operating_point": str(point)} if point else {}), wanted)


def _known(truth: Path | None, lengths: Path | None, fps: float | None) -> tuple[tuple[str, ...], KnownVideos]:
    """The classes of a manifest, and what a manifest and a table of frame counts say of the videos."""
    from pipeline.data.frame_counts import known_lengths
    from pipeline.data.manifest import load
    from pipeline.stages.events.events import sources_of
    from pipeline.stages.events.videos import KnownVideos

    known = known_lengths(None, lengths)
    frames, rates = known.frames, dict(known.fps)
    if truth is None:
        return (), KnownVideos(frames, rates, fps)
    manifest = load(truth)
    test = manifest.split("test")
    planned = {entry.video_id: (frames or {}).get(entry.video_id, entry.packets) for entry in test}
    stated = {entry.video_id: entry.fps for entry in test if entry.fps}
    return manifest.classes, KnownVideos(planned, stated | rates, fps, sources_of(manifest))


def _notes(changes: RuleChanges, document: Mapping[str, Any]) -> tuple[str, ...]:
    """What was said of the thresholds when they were chosen, where they are used."""
    if changes.upper is not None or not document:
        return ()
    changed = ("the thresholds were chosen for other rules than these: their false alarms per hour are others",)
    return (*document["notes"], *(changed if changes else ()))


def _free(folder: Path) -> Path:
    if folder.exists():
        raise PipelineError(f"{folder} is there already: remove it or give another --out")
    return folder


def _finish(found: FoundEvents, facts: dict[str, object], wanted: _Wanted) -> None:
    """Write events that are no step's output, and print them."""
    from pipeline.stages.events.events import write_found

    assert wanted.folder is not None
    make(wanted.folder, lambda folder: write_found(folder, found, facts, wanted.formats))
    _show(found, facts, wanted.folder, wanted.as_json)


def _show(found: FoundEvents, facts: Mapping[str, object], folder: Path, as_json: bool) -> None:
    """Print the events: those with the highest peaks for people, all of them for machines."""
    if as_json:
        document = {**facts, **found.facts(), "folder": str(folder), "list": [_row(event) for event in found.events]}
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
        return
    click.echo("\n".join(_lines(found)))
    click.echo(f"events: {folder}")


def _row(event: Event) -> dict[str, object]:
    return dict(zip(COLUMNS, asdict(event).values(), strict=True))


def _lines(found: FoundEvents) -> list[str]:
    """The events of every class, and those with the highest peaks."""
    rows: list[tuple[str, ...]] = [("class", "events", "videos", "seconds", "upper", "lower")]
    for name, rule in found.rules.items():
        own = [event for event in found.events if event.class_name == name]
        seconds = sum(event.duration_s for event in own)
        videos = len({event.video_id for event in own})
        rows.append((name, str(len(own)), str(videos), f"{seconds:.1f}", f"{rule.upper:.4f}", f"{rule.lower:.4f}"))
    general = found.counts()[ANOMALY]
    what = f"{general} event(s) of anomaly in general and {len(found.events) - general} of classes"
    lines = [f"{what}, in {found.videos} video(s) of {found.hours:.3f} h", "", *aligned(rows)]
    if found.events:
        highest = sorted(found.events, key=lambda event: -event.peak_score)[:SHOWN]
        rows = [("video", "class", "start_s", "end_s", "peak_s", "peak_score")]
        for event in highest:
            times = (f"{value:.2f}" for value in (event.start_s, event.end_s, event.peak_s))
            rows.append((event.video_id, event.class_name, *times, f"{event.peak_score:.4f}"))
        all_shown = len(highest) == len(found.events)
        what = "all" if all_shown else f"the {SHOWN} of {len(found.events)} with the highest peaks"
        lines += ["", f"events ({what}):", *aligned(rows)]
    return lines + (["", *(f"note: {note}" for note in found.notes)] if found.notes else [])
