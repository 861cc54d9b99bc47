"""`gig score`: score tables of any video files."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from pipeline.cli.shared import FOLDER, bar, ensure, say, warn_of_stand_in, with_config, with_run, with_stage
from pipeline.errors import PipelineError
from pipeline.progress import counting_warnings
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import model

__all__ = ["score"]


@click.command()
@with_config
@with_stage
@with_run
@click.option("--head", type=FOLDER, help="A head's folder (default: the run's).")
@click.option(
    "--out", type=FOLDER, default="scores", show_default=True, help="Folder of the score tables and their index."
)
@click.option("--csv", "as_csv", is_flag=True, help="Also write CSV.")
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def score(recipes: Recipes, run: str, head: Path | None, out: Path, as_csv: bool, videos: tuple[Path, ...]) -> None:
    """Score VIDEOS, of any length from one frame, and print the paths of their score tables.

    If a video cannot be read, the others are scored, and the command names it at the end and fails. Tables of videos
    that have not changed are kept. index.json in --out says which table belongs to which file and how it was made.
    """
    from pipeline.stages.scoring.score_loose import quarantine_of, score_files

    reasons = warn_of_stand_in(recipes)
    head = head or ensure(model(recipes, run))
    with bar("score") as progress, counting_warnings(say) as told:
        report = score_files(
            recipes.experiment, run, head, videos, out, as_csv=as_csv, progress=progress, say=told, warnings=reasons
        )
    for path in report.tables:
        click.echo(path)
    say(f"{len(report.scored)} scored, {len(report.kept)} kept from before, {len(report.failed)} could not be scored")
    if report.damaged:
        say(f"{len(report.damaged)} damaged in part and scored without what is lost: {', '.join(report.damaged)}")
    if report.tables:
        say(f"to look at them: gig report --html --scores {shlex.quote(str(out))}")
    if reasons:
        say("The scores are those of a stand-in model: see the note at the top.")
    if report.failed:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in report.failed.items())
        raise PipelineError(
            f"{len(report.failed)} of {len(videos)} video(s) could not be scored; the others are\n{lines}\n"
            f"Their records are in {quarantine_of(out).folder}; the next command that names them tries them again."
        )
