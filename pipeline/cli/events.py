"""`gig events`: what is found in videos, as a list of events."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shared import FOLDER, bar, make, say
from pipeline.cli.tables import LENGTHS, SCORES, with_form
from pipeline.config import Events, load_experiment
from pipeline.data.events import SUFFIXES
from pipeline.errors import PipelineError

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
@click.option("--config", type=click.Path(path_type=Path), help="The experiment, whose section `events` is used.")
@click.option("--scores", type=SCORES, help="Find the events of these scores of any system, a folder or a file.")
@click.option(
    "--truth", type=FOLDER, help="With --scores: the folder of a manifest, for classes, lengths, frame rates, paths."
)
@click.option("--class", "classes", multiple=True, help="With --scores: a column of class scores; once for each class.")
@click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), help="With --scores: frames per second of all videos."
)
@click.option("--out", type=FOLDER, help="Folder of the events (default: <name of scores>-events).")
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
    scores: Path | None,
    truth: Path | None,
    classes: tuple[str, ...],
    fps: float | None,
    out: Path | None,
    form_of_list: str,
    as_json: bool,
    lengths: Path | None,
    form: ScoreForm,
    **changes: float | None,
) -> None:
    """Write the list of events of any score tables, and print a short one."""
    from pipeline.stages.events.rules import RuleChanges

    if scores is None:
        raise PipelineError("expected --scores")
    final = out or Path(f"{scores.name.removesuffix(scores.suffix)}-events")
    found = _of_tables(scores, settings(config), classes, _known(truth, lengths, fps), form, RuleChanges(**changes))
    facts: dict[str, object] = {"scores": str(scores)}
    _write(final, found, facts, form_of_list)
    _show(found, facts, final, as_json)


def settings(config: Path | None) -> Events:
    """The section `events` of a configuration, or the defaults."""
    if config is None:
        say("no --config given: working with the default settings of events")
        return Events()
    return load_experiment(config).events


def _known(truth: Path | None, lengths: Path | None, fps: float | None) -> tuple[tuple[str, ...], KnownVideos]:
    """The classes of a manifest, and what a manifest and a table of frame counts say of the videos."""
    from pipeline.data.frame_counts import known_lengths
    from pipeline.data.manifest import load
    from pipeline.stages.events.events import sources_of
    from pipeline.stages.events.videos import KnownVideos

    frames, rates = known_lengths(None, lengths)
    if truth is None:
        return (), KnownVideos(frames, rates, fps)
    manifest = load(truth)
    test = manifest.split("test")
    planned = {entry.video_id: (frames or {}).get(entry.video_id, entry.packets) for entry in test}
    stated = {entry.video_id: entry.fps for entry in test if entry.fps}
    return manifest.classes, KnownVideos(planned, stated | rates, fps, sources_of(manifest))


def _of_tables(
    scores: Path,
    settings: Events,
    classes: tuple[str, ...],
    known: tuple[tuple[str, ...], KnownVideos],
    form: ScoreForm,
    changes: RuleChanges,
) -> FoundEvents:
    from pipeline.stages.events.events import find_events
    from pipeline.stages.events.rules import make_rules
    from pipeline.stages.events.videos import open_scores

    scored = open_scores(scores, classes or known[0], known[1], form)
    with bar("events", "videos") as progress:
        return find_events(scored, make_rules(settings, scored.classes, None, changes), progress)


def _write(final: Path, found: FoundEvents, facts: dict[str, object], form_of_list: str) -> None:
    from pipeline.stages.events.events import write_found

    if final.exists():
        raise PipelineError(f"{final} is there already: remove it or give another --out")
    formats = SUFFIXES if form_of_list == "all" else (f".{form_of_list}",)
    make(final, lambda folder: write_found(folder, found, facts, formats))


def _show(found: FoundEvents, facts: dict[str, object], folder: Path, as_json: bool) -> None:
    """Print the events: those with the highest peaks for people, all of them for machines."""
    if as_json:
        document = {**facts, **found.facts(), "folder": str(folder), "list": [_row(event) for event in found.events]}
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
        return
    for note in found.notes:
        say(f"note: {note}")
    click.echo("\n".join(_tables(found)))
    click.echo(f"events: {folder}")


def _row(event: object) -> dict[str, object]:
    row = asdict(event)  # type: ignore[call-overload]
    return {"class" if name == "class_name" else name: value for name, value in row.items()}


def _tables(found: FoundEvents) -> list[str]:
    """Lines: the events of every class, and those with the highest peaks."""
    lines = [f"{len(found.events)} event(s) in {found.videos} video(s) of {found.hours:.3f} h", ""]
    rows = [("class", "events", "videos", "seconds", "upper", "lower")]
    for name, rule in found.rules.items():
        own = [event for event in found.events if event.class_name == name]
        seconds = sum(event.duration_s for event in own)
        videos = len({event.video_id for event in own})
        rows.append((name, str(len(own)), str(videos), f"{seconds:.1f}", f"{rule.upper:.4f}", f"{rule.lower:.4f}"))
    lines += _aligned(rows)
    if found.events:
        highest = sorted(found.events, key=lambda event: -event.peak_score)[:SHOWN]
        rows = [("video", "class", "start_s", "end_s", "peak_s", "peak_score")]
        for event in highest:
            times = (f"{value:.2f}" for value in (event.start_s, event.end_s, event.peak_s))
            rows.append((event.video_id, event.class_name, *times, f"{event.peak_score:.4f}"))
        what = (
            "all" if len(highest) == len(found.events) else f"the {SHOWN} of {len(found.events)} with the highest peaks"
        )
        lines += ["", f"events ({what}):", *_aligned(rows)]
    return lines


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines; the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
