"""The `gig` command: the stages one by one, for people; `luigi --module tasks EvaluateAll` runs them all.

A command first makes what it needs and is missing: `gig evaluate` on a new machine extracts, trains and scores first.
Outputs are where the Luigi tasks put them, so the two can be mixed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from pipeline.cli.ablate import ablate
from pipeline.cli.backbones import backbones
from pipeline.cli.cache import cache
from pipeline.cli.clips import clips
from pipeline.cli.cluster import cluster
from pipeline.cli.detector import detector
from pipeline.cli.evaluate import POINT, compare, evaluate_folder, export_submission, print_metrics
from pipeline.cli.events import events
from pipeline.cli.explain import explain
from pipeline.cli.export import export, labels
from pipeline.cli.manifest import manifest
from pipeline.cli.operating_point import operating_point
from pipeline.cli.paths import FOLDER, STORED_FOLDER
from pipeline.cli.plan import plan
from pipeline.cli.render import render
from pipeline.cli.report import report
from pipeline.cli.score import score
from pipeline.cli.score_new import score_new
from pipeline.cli.selfcheck import selfcheck
from pipeline.cli.shared import (
    DEFAULT_CONFIG,
    Group,
    check_files,
    check_quarantine,
    ensure,
    name_config,
    say,
    with_config,
    with_json,
    with_run,
)
from pipeline.cli.tables import SCORES, settings, with_tables
from pipeline.config import field_table, load_experiment, to_yaml
from pipeline.config.doubts import expected_warnings, training_warnings
from pipeline.errors import ConfigError, PipelineError
from pipeline.stages.common.mirror import place_of
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import Evaluate, ExtractFeatures, FineTune, model

if TYPE_CHECKING:
    from pipeline.stages.scoring.tables import ScoreForm

__all__ = ["main"]


@click.group(cls=Group)
@click.version_option(package_name="gig-vad")
def main() -> None:
    """Weakly supervised video anomaly detection: a feature cache and light heads on it."""


main.add_command(ablate)
main.add_command(backbones)
main.add_command(cache)
main.add_command(clips)
main.add_command(cluster)
main.add_command(compare)
main.add_command(detector)
main.add_command(events)
main.add_command(explain)
main.add_command(export)
main.add_command(export_submission)
main.add_command(labels)
main.add_command(manifest)
main.add_command(operating_point)
main.add_command(plan)
main.add_command(render)
main.add_command(report)
main.add_command(score)
main.add_command(score_new)
main.add_command(selfcheck)


@main.group()
def config() -> None:
    """Print and check an experiment's configuration."""


@config.command()
@with_config
def show(recipes: Recipes) -> None:
    """Print the configuration with all defaults."""
    click.echo(to_yaml(recipes.experiment), nl=False)


@config.command()
@with_config
@click.option("--no-data", is_flag=True, help="Check only the configuration, not the files that it names.")
def check(recipes: Recipes, no_data: bool) -> None:
    """Check the configuration and the data set, annotations and weights that it names; list every problem and exit 1.

    Settings that are allowed but probably not intended are warnings.
    """
    experiment = recipes.experiment
    for warning in training_warnings(experiment) + expected_warnings(experiment):
        say(f"warning: {warning}")
    found = [] if no_data else check_files(recipes)
    runs, place = ", ".join(experiment.runs), place_of(recipes.folder)
    click.echo(f"ok: experiment {experiment.experiment}, runs {runs}, results in {place}")
    for line in found:
        click.echo(f"    {line}")


@config.command()
def fields() -> None:
    """Print every field: key, default, meaning, unit and source."""
    for key, default, description in field_table():
        click.echo(f"{key} [{default}]\n    {description}")


@main.group()
def weights() -> None:
    """Backbone weights."""


@weights.command()
@click.argument("destination", type=FOLDER, default="weights")
def fetch(destination: Path) -> None:
    """Download the Kinetics-400 weights of TPN-SlowOnly-R50 to DESTINATION and check their hash."""
    from pipeline.models.weights import fetch_weights

    click.echo(fetch_weights(destination))


@weights.command("check")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--backbone", default="tpn_slowonly_r50", show_default=True, help="Which backbone it is for.")
def check_file(path: Path, backbone: str) -> None:
    """Load a checkpoint strictly, without running anything in it, and print its SHA-256."""
    from pipeline.config.features import Backbone
    from pipeline.models.backbones import load_backbone

    try:
        settings = Backbone(name=backbone, weights=str(path))
    except ValidationError as error:
        raise ConfigError(f"--backbone: {error.errors()[0]['msg']}") from error
    loaded = load_backbone(settings)
    for note in loaded.notes:
        click.echo(note)
    click.echo(f"ok: {path} fits {backbone}, sha256 {loaded.weights_sha256}")


@main.command()
@with_config
@click.option("--split", type=click.Choice(["train", "test"]), multiple=True, help="Default: both.")
def extract(recipes: Recipes, split: tuple[str, ...]) -> None:
    """Decode the videos and write their feature maps to the cache."""
    for name in split or ("train", "test"):
        ensure(ExtractFeatures(recipes, name))
        click.echo(f"{name}: {recipes.experiment.paths.cache}/{recipes.namespace(name)}")
    check_quarantine(recipes)


@main.command()
@with_config
@with_run
def train(recipes: Recipes, run: str) -> None:
    """Train a run's head on the cached features."""
    click.echo(ensure(model(recipes, run)))


@main.command()
@with_config
def finetune(recipes: Recipes) -> None:
    """Unfreeze the backbone and train it end to end with the head of `finetune.run`; see the section `finetune`."""
    click.echo(ensure(FineTune(recipes.finetuned.frozen)))


@main.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The experiment (default: configs/fixture.yaml; with --scores none).",
)
@with_run
@click.option("--finetuned", is_flag=True, help="The metrics of the fine-tuned backbone and head.")
@click.option(
    "--scores", type=SCORES, help="Evaluate these scores of any system, a folder or a file, and nothing else."
)
@click.option("--truth", type=STORED_FOLDER, help="With --scores: the folder of the manifest.")
@click.option("--out", type=FOLDER, help="With --scores: folder of the metrics (default: <name of scores>-evaluation).")
@POINT
@with_json
@with_tables
def evaluate(
    config: Path | None,
    run: str,
    finetuned: bool,
    scores: Path | None,
    truth: Path | None,
    out: Path | None,
    point: Path | None,
    form: ScoreForm,
    lengths: dict[str, int] | None,
    as_json: bool,
) -> None:
    """Write and print the metrics of a run, making what is missing first; or, with --scores, those of any score
    tables."""
    if scores:
        evaluate_folder(scores, truth, out, settings(config, run), form, lengths, as_json, point)
        return
    if truth or out or point or lengths or form.facts() != {"stride": 1, "tail": "exact"}:
        raise PipelineError(
            "--truth, --out, --operating-point, and what says how scores are read, such as --stride, go with --scores"
        )
    name_config(config or DEFAULT_CONFIG)
    recipes = Recipes(load_experiment(config or DEFAULT_CONFIG))
    _evaluate_run(recipes.finetuned if finetuned else recipes, run, as_json)


def _evaluate_run(recipes: Recipes, run: str, as_json: bool) -> None:
    print_metrics(ensure(Evaluate(recipes, run)), as_json)
    check_quarantine(recipes)


@main.group()
def quarantine() -> None:
    """Videos that could not be read and are not part of the results."""


def with_quarantine(function: Callable[..., object]) -> Callable[..., object]:
    """Add --config and --scores, and pass the quarantine as the first argument."""

    @click.option(
        "--config",
        default=DEFAULT_CONFIG,
        show_default=True,
        type=click.Path(path_type=Path),
        help="The experiment, a YAML file.",
    )
    @click.option("--scores", type=FOLDER, help="A folder that `gig score` wrote, instead of an experiment.")
    @functools.wraps(function)
    def wrapper(config: Path, scores: Path | None, *args: object, **kwargs: object) -> object:
        from pipeline.stages.scoring.score_loose import quarantine_of

        if scores:
            return function(quarantine_of(scores), *args, **kwargs)
        name_config(config)
        return function(Recipes(load_experiment(config)).quarantine, *args, **kwargs)

    return wrapper


@quarantine.command("ls")
@with_quarantine
@click.option("--json", "as_json", is_flag=True, help="For machines: one JSON object per line.")
def list_quarantine(folder: Quarantine, as_json: bool) -> None:
    """List them, each with its reason."""
    records = folder.records()
    for record in records:
        if as_json:
            click.echo(json.dumps(asdict(record), ensure_ascii=False))
        else:
            click.echo(f"{record.video_id}  {record.split}  {record.time}\n    {record.reason}")
    if not records and not as_json:
        click.echo("no video is in quarantine")


@quarantine.command()
@with_quarantine
@click.argument("video_ids", metavar="[VIDEO_ID]...", nargs=-1)
def clear(folder: Quarantine, video_ids: tuple[str, ...]) -> None:
    """Let the next run try videos again: the given ones, or all."""
    cleared = folder.clear(video_ids or None)
    click.echo(
        f"{len(cleared)} cleared: the next run tries {', '.join(cleared)} again"
        if cleared
        else "no video is in quarantine"
    )
