"""`gig compare`, `gig export-submission`, and the part of `gig evaluate` that takes score tables of any system."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from pipeline.cli_steps import FOLDER, say
from pipeline.config import Evaluation, load_experiment
from pipeline.errors import PipelineError
from pipeline.stages.outputs import make_folder

__all__ = ["compare", "evaluate_folder", "export_submission", "with_tables"]


def with_tables(function: Callable) -> Callable:
    """Add the options that say what tables hold."""
    for option in (
        click.option(
            "--lengths",
            type=click.Path(path_type=Path, dir_okay=False),
            help="CSV with video_id and frames (a per_video.csv), where more or fewer are decoded than the manifest plans.",
        ),
        click.option(
            "--tail",
            type=click.Choice(["exact", "partial", "repeat"]),
            default="exact",
            show_default=True,
            help="The last frames, fewer than a stride: there are none; they have their own score; they repeat the one before.",
        ),
        click.option("--stride", type=click.IntRange(min=1), default=1, show_default=True, help="Frames that a score stands for."),
    ):
        function = option(function)
    return function


def settings(config: Path | None, run: str) -> Evaluation:
    """The evaluation section of a configuration's run, or the defaults."""
    if config is None:
        say("no --config given: working with the default evaluation settings")
        return Evaluation()
    return load_experiment(config).run(run).evaluation


def evaluate_folder(
    scores: Path, truth: Path | None, out: Path | None, evaluation: Evaluation, stride: int, tail: str, lengths: Path | None
) -> None:
    """Evaluate a folder of score tables and print the figures."""
    from pipeline.stages.evaluate import evaluate_tables
    from pipeline.stages.tables import read_lengths

    if truth is None:
        raise PipelineError("--scores needs --truth, the folder of a manifest (var/<experiment>/manifest-*)")
    final = out or Path(f"{scores.name}-evaluation")
    if final.exists():
        raise PipelineError(f"{final} is there already: remove it or give another --out")
    options = {"stride": stride, "tail": tail, "lengths": read_lengths(lengths) if lengths else None}
    warnings: list[str] = []
    make_folder(final, lambda folder: warnings.extend(evaluate_tables(scores, truth, folder, evaluation, **options)))
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo((final / "metrics.json").read_text(encoding="utf-8"))
    click.echo(f"results: {final}")


@click.command()
@click.argument("first", type=FOLDER)
@click.argument("second", type=FOLDER)
@click.option("--truth", required=True, type=FOLDER, help="Folder of the manifest.")
@click.option("--config", type=click.Path(path_type=Path), help="Take the evaluation settings from here (default: the defaults).")
@click.option("--run", default="gig", show_default=True, help="One of the configuration's runs.")
@with_tables
def compare(
    first: Path, second: Path, truth: Path, config: Path | None, run: str, stride: int, tail: str, lengths: Path | None
) -> None:
    """Print FIRST minus SECOND, two folders of score tables, for every figure, with its paired 95 % interval over videos."""
    from pipeline.stages.evaluate import compare_tables
    from pipeline.stages.tables import read_lengths

    options = {"stride": stride, "tail": tail, "lengths": read_lengths(lengths) if lengths else None}
    found = compare_tables(first, second, truth, settings(config, run), **options)
    click.echo(json.dumps(found, indent=1, ensure_ascii=False))


@click.command("export-submission")
@click.option("--scores", required=True, type=FOLDER, help="Folder of score tables with their index (var/<experiment>/scores-*).")
@click.option("--out", type=FOLDER, default="submission", show_default=True, help="Folder of the two files.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="theta of task 2; not used where the head's training chose its own.",
)
def export_submission(scores: Path, out: Path, threshold: float) -> None:
    """Write task1.csv (video, frame, score) and task2.csv (video, class, start, end, score) of CitySCENE."""
    from pipeline.stages.tables import export_submission as export

    for path in export(scores, out, threshold):
        click.echo(path)
