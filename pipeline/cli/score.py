"""`gig score`: score tables of any video files, by a run's head or by a detector."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.detector import machine_of, with_machine
from pipeline.cli.paths import FOLDER
from pipeline.cli.shared import DEFAULT_CONFIG, bar, ensure, name_config, say, warn_of, warn_of_stand_in, with_run
from pipeline.config import load_experiment
from pipeline.config.mirrors import url_scheme
from pipeline.errors import PipelineError
from pipeline.progress import counting_warnings
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import model

if TYPE_CHECKING:
    from pipeline.stages.scoring.inputs import Inputs
    from pipeline.stages.scoring.score_loose import ScoreReport

__all__ = ["score"]

SHOWN = 5
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.option(
    "--config", default=DEFAULT_CONFIG, show_default=True, type=click.Path(path_type=Path), help="The experiment."
)
@click.option("--finetuned", is_flag=True, help="With the fine-tuned backbone and head; trains them if missing.")
@with_run
@click.option("--head", type=FOLDER, help="A head's folder (default: the run's).")
@click.option("--detector", "detector", type=FILE, help="A detector file, in place of an experiment.")
@click.option("--weights", type=FILE, help="With --detector: the backbone's weights, if they are not in it.")
@with_machine
@click.option(
    "--out", type=FOLDER, default="scores", show_default=True, help="Folder of the score tables and their index."
)
@click.option("--csv", "as_csv", is_flag=True, help="Also write CSV.")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
def score(
    config: Path,
    finetuned: bool,
    run: str,
    head: Path | None,
    detector: Path | None,
    weights: Path | None,
    machine: tuple[str, ...],
    out: Path,
    as_csv: bool,
    paths: tuple[str, ...],
) -> None:
    """Score videos, of any length from one frame, and print the paths of their score tables.

    PATH is a video file, a folder of images, a folder that is searched for videos, a URL that fsspec reaches
    (s3://bucket/folder), or @FILE, a list of these; @- reads it from standard input.

    If a video cannot be read, the others are scored, and the command names it at the end and fails. Tables of videos
    that have not changed are kept. index.json in --out says which table belongs to which file and how it was made. With
    --detector the events of all tables in --out are listed beside them.
    """
    from pipeline.stages.scoring.inputs import find_videos

    if not paths:
        raise click.UsageError("Missing argument '[PATH]...': expected videos, folders or lists.")
    for text in paths:
        if not text.startswith("@") and not url_scheme(text) and not Path(text).exists():
            raise click.BadParameter(f"Path {text!r} does not exist.", param_hint="'[PATH]...'")
    if detector:
        _refuse_with_detector()
    elif weights or machine:
        raise PipelineError("--weights and --machine go with --detector; an experiment says both itself")
    inputs = find_videos(paths, out)
    _say_passed_over(inputs)
    if detector:
        from pipeline.stages.detector.detector import Detector
        from pipeline.stages.detector.scoring import score_with_detector

        loaded = Detector.load(detector, weights=weights, machine=machine_of(machine))
        reasons = warn_of(list(loaded.document.warnings))
        with bar("score") as progress, counting_warnings(say) as told:
            report = score_with_detector(loaded, inputs.videos, out, as_csv=as_csv, progress=progress, say=told)
    else:
        from pipeline.stages.scoring.score_loose import score_sources
        from pipeline.stages.scoring.scorer import run_scorer

        name_config(config)
        recipes = Recipes(load_experiment(config))
        recipes = recipes.finetuned if finetuned else recipes
        reasons = warn_of_stand_in(recipes)
        scorer = run_scorer(recipes.experiment, run, head or ensure(model(recipes, run)), reasons)
        with bar("score") as progress, counting_warnings(say) as told:
            report = score_sources(scorer, inputs.videos, out, as_csv=as_csv, progress=progress, say=told)
    _tell(report, inputs, out, bool(reasons))


def _refuse_with_detector() -> None:
    """Raise PipelineError for options of an experiment, which a detector has in its file."""
    context = click.get_current_context()
    for name in ("config", "finetuned", "run", "head"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise PipelineError(f"--{name} is of an experiment, --detector takes its place: give one of them")


def _say_passed_over(inputs: Inputs) -> None:
    if passed := inputs.passed_over:
        more = f" and {len(passed) - SHOWN} more" if len(passed) > SHOWN else ""
        say(f"passed over, since they are hidden or no videos: {', '.join(passed[:SHOWN])}{more}")
    if not inputs.videos and not inputs.unreachable:
        say("no video was found")


def _tell(report: ScoreReport, inputs: Inputs, out: Path, stand_in: bool) -> None:
    """Print tables and numbers. Raises PipelineError, with the list, where something could not be scored."""
    from pipeline.stages.scoring.score_loose import quarantine_of

    for path in report.tables:
        click.echo(path)
    say(f"{len(report.scored)} scored, {len(report.kept)} kept from before, {len(report.failed)} could not be scored")
    if report.damaged:
        say(f"{len(report.damaged)} damaged in part and scored without what is lost: {', '.join(report.damaged)}")
    if report.tables:
        say(f"to look at them: gig report --html --scores {shlex.quote(str(out))}")
    if stand_in:
        say("The scores are those of a stand-in model: see the note at the top.")
    problems = []
    if report.failed:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in report.failed.items())
        problems.append(
            f"{len(report.failed)} of {len(inputs.videos)} video(s) could not be scored:\n{lines}\n"
            f"All others have their scores. The records of those that failed are in {quarantine_of(out).folder}; the "
            "next command that names them tries them again."
        )
    if inputs.unreachable:
        problems.append("could not be looked at:\n  " + "\n  ".join(inputs.unreachable))
    if problems:
        raise PipelineError("\n".join(problems))
