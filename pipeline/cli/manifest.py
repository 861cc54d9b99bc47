"""`gig manifest`: check a data set and write its manifest, also without the videos, from a table of frame counts."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline import workflow
from pipeline.cli.shared import bar, ensure, make, say, with_config
from pipeline.errors import ConfigError, OutputError
from pipeline.stages.common.recipes import Recipes

__all__ = ["manifest"]


@click.command()
@with_config
@click.option(
    "--frame-counts",
    "table",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Take the lengths of the videos from this table, and need no videos: a CSV with video_id and frames, or a "
    "published list with frame counts (default: dataset.frame_counts).",
)
@click.option("--test-only", is_flag=True, help="Leave out the training videos, to evaluate score tables; needs --out.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder (default: that of the experiment)."
)
def manifest(recipes: Recipes, table: Path | None, test_only: bool, out: Path | None) -> None:
    """Check the data set, write its manifest, and print the folder.

    All problems are listed at once. `gig cache import --manifest` checks features against the manifest, and
    `gig evaluate --truth` compares score tables with it.
    """
    from pipeline.stages.common.manifest import build_manifest

    experiment = recipes.experiment
    if table:
        if "frame_counts" not in type(experiment.dataset).model_fields:
            raise ConfigError(
                f"--frame-counts: the data set {experiment.dataset.adapter} is generated and has all its videos"
            )
        dataset = experiment.dataset.model_copy(update={"frame_counts": table.resolve()})
        experiment = experiment.model_copy(update={"dataset": dataset})
    if test_only and not out:
        raise ConfigError("--test-only needs --out: the experiment's own manifest has the training videos")
    if out is None:
        click.echo(ensure(workflow.Manifest(Recipes(experiment))))
        return
    if out.exists():
        raise OutputError(f"{out} is there already: remove it or give another --out")
    with bar("manifest") as progress:
        make(out, lambda folder: build_manifest(experiment, folder, progress, say, test_only=test_only))
    click.echo(out)
