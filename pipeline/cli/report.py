"""`gig report`: the summary of an experiment that has been run, and the page on which a person sees what was found."""

from __future__ import annotations

import json

import click

from pipeline.cli.shared import bar, ensure, say, with_config, with_json
from pipeline.errors import PipelineError
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import HtmlReport, Report

__all__ = ["report"]


@click.command()
@with_config
@click.option("--html", is_flag=True, help="Write the page: an index and a page per test video, opened from disk.")
@click.option("--all-pictures", is_flag=True, help="With --html: pictures of every video, not only of the first shown.")
@click.option("--proxies", is_flag=True, help="With --html: small copies of the videos that browsers do not play.")
@click.option("--relations", is_flag=True, help="With --html: relation maps at the peaks of the videos shown first.")
@with_json
def report(recipes: Recipes, html: bool, all_pictures: bool, proxies: bool, relations: bool, as_json: bool) -> None:
    """Print the summary of an experiment that has been run, and where its results lie; with --html, write its page."""
    from pipeline.stages.evaluation.summary import read_summary, summary_table

    if not html:
        if all_pictures or proxies or relations:
            raise PipelineError("--all-pictures, --proxies and --relations go with --html")
        folder = recipes.summary_folder
        click.echo(json.dumps(read_summary(folder), indent=1) if as_json else summary_table(folder))
        return
    if as_json:
        raise PipelineError("--json prints the summary, and does not go with --html")
    read_summary(recipes.summary_folder)  # what has not been run is an error, and not run by the way
    step = HtmlReport(recipes)
    if all_pictures or proxies or relations:
        with bar(step.title, step.unit) as progress:
            folder = step.remake(Report(progress, say), all_pictures, proxies, relations)
    else:
        folder = ensure(step)
    click.echo(f"page: {folder / 'index.html'}")
