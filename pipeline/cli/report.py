"""`gig report`: the summary of an experiment that has been run, and the page on which a person sees what was found."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.paths import FOLDER, STORED_FOLDER
from pipeline.cli.shared import DEFAULT_CONFIG, bar, ensure, make, name_config, say, with_json
from pipeline.cli.tables import settings, with_tables
from pipeline.config import load_experiment
from pipeline.config.expected import Expected
from pipeline.errors import PipelineError
from pipeline.stages.common.mirror import place_of
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.common.stand_in import stand_in_reasons
from pipeline.workflow import EvaluateAll, HtmlReport, Report

if TYPE_CHECKING:
    from pipeline.stages.report.from_tables import Source
    from pipeline.stages.scoring.score_form import ScoreForm

__all__ = ["report"]


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The experiment (default: configs/fixture.yaml; with --scores the default settings).",
)
@click.option("--html", is_flag=True, help="Write the page: an index and a page per test video, opened from disk.")
@click.option("--all-pictures", is_flag=True, help="With --html: pictures of every video, not only of the first shown.")
@click.option("--proxies", is_flag=True, help="With --html: small copies of the videos that browsers do not play.")
@click.option("--relations", is_flag=True, help="With --html: relation maps at the peaks of the videos shown first.")
@click.option(
    "--scores",
    multiple=True,
    metavar="[NAME=]PATH",
    help="With --html: the page of these scores of any system, a folder or a file; several are shown side by side.",
)
@click.option(
    "--truth", type=STORED_FOLDER, help="With --scores: the folder of the manifest; without it the page has no metrics."
)
@click.option("--out", type=FOLDER, help="With --scores: folder of the page (default: <names>-report).")
@click.option("--run", help="With --scores and --config: the run whose evaluation settings are taken [default: gig].")
@click.option(
    "--class", "classes", multiple=True, help="With --scores: a column of class scores, where there is no manifest."
)
@click.option(
    "--fps",
    type=click.FloatRange(min=0, min_open=True),
    help="With --scores: frames per second of all videos whose tables hold no times.",
)
@with_json
@with_tables
def report(
    config: Path | None,
    html: bool,
    as_json: bool,
    scores: tuple[str, ...],
    form: ScoreForm,
    lengths: dict[str, int] | None,
    all_pictures: bool,
    proxies: bool,
    relations: bool,
    **options: Any,
) -> None:
    """Print the summary of an experiment that has been run, and where its results lie; with --html, write its page;
    with --html and --scores, the page of any score tables."""
    from pipeline.stages.evaluation.summary import read_summary, summary_table

    if html and as_json:
        raise PipelineError("--json prints the summary, and does not go with --html")
    if not html and (all_pictures or proxies or relations or scores):
        raise PipelineError("--all-pictures, --proxies, --relations and --scores go with --html")
    if scores:
        if relations:
            raise PipelineError("--relations needs the head and the features of an experiment: it has no --scores")
        _of_tables(scores, config, form, lengths, all_pictures, proxies, **options)
        return
    if lengths or form.facts() != {"stride": 1, "tail": "exact"} or any(options.values()):
        raise PipelineError(
            "--truth, --out, --run, --class, --fps, and what says how scores are read, such as --stride, go with "
            "--scores"
        )
    name_config(config or DEFAULT_CONFIG)
    recipes = Recipes(load_experiment(config or DEFAULT_CONFIG))
    folder = EvaluateAll(recipes).fetch(say)
    if not html:
        expected, stand_in = recipes.experiment.expected, stand_in_reasons(recipes)
        click.echo(_as_json(folder, expected) if as_json else summary_table(folder, expected, stand_in))
        return
    read_summary(folder)  # what has not been run is an error, and not run by the way
    step = HtmlReport(recipes)
    if all_pictures or proxies or relations:
        with bar(step.title, step.unit) as progress:
            folder = step.remake(Report(progress, say), all_pictures, proxies, relations)
    else:
        folder = ensure(step)
    _tell(folder)


def _as_json(folder: Path, expected: Expected) -> str:
    """summary.json, with its metrics compared with the expected ones."""
    from pipeline.stages.evaluation.expected import compare_metrics
    from pipeline.stages.evaluation.summary import read_summary

    summary = read_summary(folder)
    compared = [asdict(comparison) for comparison in compare_metrics(expected, summary["runs"])]
    return json.dumps({**summary, "expected": compared}, indent=1)


def _tell(folder: Path) -> None:
    """Print which file is to be opened, and where it is stored."""
    click.echo(f"page: {(folder / 'index.html').absolute()}")
    if (place := place_of(folder)) != str(folder):
        click.echo(f"stored in {place}")


def _of_tables(
    scores: tuple[str, ...],
    config: Path | None,
    form: ScoreForm,
    lengths: dict[str, int] | None,
    all_pictures: bool,
    proxies: bool,
    *,
    truth: Path | None,
    out: Path | None,
    run: str | None,
    classes: tuple[str, ...],
    fps: float | None,
) -> None:
    """The page of score tables of any system."""
    from pipeline.stages.report.from_tables import TableOptions, write_tables_report
    from pipeline.stages.report.report import Extras

    sources = _sources(scores)
    folder = out or Path(f"{'-'.join(source.name for source in sources)}-report")
    if folder.exists():
        raise PipelineError(f"{folder} is there already: remove it or give another --out")
    evaluation, events = settings(config, run or "gig")
    options = TableOptions(evaluation, events, form, lengths, fps, classes)

    def write(working: Path) -> None:
        extras = Extras(all_pictures, working / "proxies" if proxies else None)
        with bar("report", "pages") as progress:
            write_tables_report(sources, truth, working, options, extras, progress, say)

    make(folder, write)
    _tell(folder)


def _sources(given: tuple[str, ...]) -> list[Source]:
    """NAME=PATH or PATH; a path that is there is one, whatever it holds. Raises PipelineError."""
    from pipeline.stages.report.from_tables import Source

    sources: list[Source] = []
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = Path(text).absolute().name, text
            name = name.removesuffix(Path(name).suffix) if Path(text).is_file() else name
        if not name or not Path(path).exists():
            raise PipelineError(f"--scores {text}: expected a folder or file of scores, or NAME=PATH; found none there")
        sources.append(Source(name, Path(path)))
    if len({source.name for source in sources}) < len(sources):
        names = ", ".join(source.name for source in sources)
        raise PipelineError(f"--scores: expected a name of its own for each, got {names}: say --scores NAME=PATH")
    return sources
