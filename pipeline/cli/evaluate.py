"""`gig compare`, `gig export-submission`, and the part of `gig evaluate` that takes score tables of any system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.paths import FOLDER, STORED_FOLDER
from pipeline.cli.shared import say, with_json
from pipeline.cli.tables import SCORES, settings, with_tables
from pipeline.config import Evaluation, Events
from pipeline.errors import PipelineError
from pipeline.stages.common.outputs import make_folder

if TYPE_CHECKING:
    from pipeline.stages.evaluation.judged_events import EventOptions
    from pipeline.stages.scoring.tables import ScoreForm

__all__ = ["POINT", "compare", "evaluate_folder", "export_submission", "print_metrics"]

POINT = click.option(
    "--operating-point",
    "point",
    type=click.Path(path_type=Path),
    help="With scores: an operating_point.json, whose thresholds the event metrics use.",
)


def print_metrics(folder: Path, as_json: bool) -> None:
    """Print the metrics of an evaluation, for people or as metrics.json has them."""
    from pipeline.stages.evaluation.text import metrics_text

    text = (folder / "metrics.json").read_text(encoding="utf-8")
    click.echo(text if as_json else f"{metrics_text(json.loads(text))}\n\nresults: {folder}")


def evaluate_folder(
    scores: Path,
    truth: Path | None,
    out: Path | None,
    chosen: tuple[Evaluation, Events],
    form: ScoreForm,
    lengths: dict[str, int] | None,
    as_json: bool,
    point: Path | None = None,
) -> None:
    """Evaluate scores of any system and print the metrics.

    Args:
        scores: a folder or file of scores.
        truth: folder of the manifest.
        out: folder of the metrics; None for one that is named like the scores.
        chosen: settings of evaluation and events.
        form: what the scores stand for.
        lengths: video id -> frames, where they are known better than by the manifest.
        as_json: print metrics.json.
        point: an operating_point.json, whose thresholds are used for events.

    Raises:
        PipelineError: the scores cannot be read or do not fit the manifest, or the folder is there already.
    """
    from pipeline.stages.evaluation.evaluate import evaluate_tables

    if truth is None:
        raise PipelineError(
            "--scores needs --truth, the folder of a manifest (var/<experiment>/manifest-*, or gig manifest --out)"
        )
    final = out or Path(f"{scores.name}-evaluation")
    if final.exists():
        raise PipelineError(f"{final} is there already: remove it or give another --out")
    evaluation, events = chosen
    options, warnings = _event_options(events, point, scores)

    def evaluate(folder: Path) -> None:
        warnings.extend(evaluate_tables(scores, truth, folder, evaluation, form=form, lengths=lengths, events=options))

    make_folder(final, evaluate)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if point is None and (own := _own_points(scores)):
        say(f"note: the run's own thresholds of events come with {own}, its gaps and lengths with --config")
    print_metrics(final, as_json)


def _own_points(scores: Path) -> str:
    """The option that gives events the thresholds that the run of these scores uses; "" for scores of no run.

    Score tables do not say which operating point belongs to them, and one head can have several.
    """
    from pipeline.stages.scoring.tables import read_index

    if not (scores / "index.json").is_file() or "made_with" in read_index(scores):  # which `gig score` writes
        return ""
    run = scores.name.removeprefix("scores-").rpartition("-")[0] or "RUN"
    return f"--operating-point {scores.parent / f'operating-point-{run}-*'}"


def _event_options(events: Events, point: Path | None, *scores: Path) -> tuple[EventOptions, list[str]]:
    """By which rules events are found, and what is to be said of them."""
    from pipeline.stages.evaluation.judged_events import EventOptions
    from pipeline.stages.events.operating_point import for_another_head, read_thresholds
    from pipeline.stages.events.videos import open_scores

    if point is None:
        return EventOptions(events), []
    _, document = read_thresholds(point)
    heads = [open_scores(source, ()).head_sha256 for source in scores if (source / "index.json").is_file()]
    notes = [note for head in heads for note in for_another_head(point, document, head)]
    return EventOptions.of_point(events, point), list(dict.fromkeys(notes))


@click.command()
@click.argument("first", type=SCORES)
@click.argument("second", type=SCORES)
@click.option("--truth", required=True, type=STORED_FOLDER, help="Folder of the manifest.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Take the evaluation settings from here (default: the defaults)."
)
@click.option("--run", default="gig", show_default=True, help="One of the configuration's runs.")
@POINT
@with_json
@with_tables
def compare(
    first: Path,
    second: Path,
    truth: Path,
    config: Path | None,
    run: str,
    point: Path | None,
    form: ScoreForm,
    lengths: dict[str, int] | None,
    as_json: bool,
) -> None:
    """Print FIRST minus SECOND for every metric, with its paired 95 % interval over videos.

    FIRST and SECOND are scores of any two systems.
    """
    from pipeline.stages.evaluation.evaluate import compare_tables
    from pipeline.stages.evaluation.text import differences_text

    evaluation, events = settings(config, run)
    options, notes = _event_options(events, point, first, second)
    found = compare_tables(first, second, truth, evaluation, form=form, lengths=lengths, events=options, say=say)
    for note in notes:
        click.echo(f"warning: {note}", err=True)
    click.echo(json.dumps(found, indent=1, ensure_ascii=False) if as_json else differences_text(found))


@click.command("export-submission")
@click.option(
    "--scores", required=True, type=SCORES, help="Folder of score tables (var/<experiment>/scores-*), or of any system."
)
@click.option(
    "--truth",
    type=STORED_FOLDER,
    help="For tables without an index: the folder of the manifest, for classes and lengths.",
)
@click.option("--out", type=FOLDER, default="submission", show_default=True, help="Folder of the two files.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="theta of task 2; not used if the training of the head chose thresholds.",
)
@with_tables
def export_submission(
    scores: Path, truth: Path | None, out: Path, threshold: float, form: ScoreForm, lengths: dict[str, int] | None
) -> None:
    """Write task1.csv (video, frame, score) and task2.csv (video, class, start, end, score) of CitySCENE."""
    from pipeline.data.manifest import load
    from pipeline.stages.scoring.submission import export_submission as export

    classes: tuple[str, ...] = ()
    if truth:
        manifest = load(truth)
        classes, known = manifest.classes, lengths or {}
        lengths = {entry.video_id: known.get(entry.video_id, entry.packets) for entry in manifest.split("test")}
    for path in export(scores, out, threshold, classes, lengths if truth else None, form):
        click.echo(path)
