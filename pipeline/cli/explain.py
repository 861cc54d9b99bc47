"""`gig explain`: pictures that show what the highest scores of a video are based on."""

from __future__ import annotations

import difflib
from pathlib import Path

import click

from cache.names import escape
from pipeline.cli.paths import FOLDER
from pipeline.cli.shared import bar, ensure, make, say, warn_of_stand_in, with_config, with_run, with_stage
from pipeline.config import GeneratedDataset
from pipeline.errors import PipelineError
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import ExtractFeatures, Manifest, check_readable, frozen, model, usable_manifest

__all__ = ["explain"]


@click.command()
@with_config
@with_stage
@with_run
@click.option(
    "--windows", type=click.IntRange(1, 50), default=3, show_default=True, help="Largest number of peaks to show."
)
@click.option(
    "--out",
    type=FOLDER,
    default="explain",
    show_default=True,
    help="Folder for the video's folder of pictures.",
)
@click.option("--truth", is_flag=True, help="Show the annotated intervals of a test video in the plot.")
@click.argument("video")
def explain(recipes: Recipes, run: str, windows: int, out: Path, truth: bool, video: str) -> None:
    """Show what the highest scores of VIDEO are based on; VIDEO is the id of a test video, or a video file.

    Writes one picture for each peak of the score (the frame with the relation map over it and the chosen cells
    outlined), a plot of the scores of all classes, and index.json; prints their paths.
    """
    from pipeline.stages.common.manifest import load_manifest
    from pipeline.stages.explain.explain import Request, explain_cached, explain_file

    recipes.experiment.run(run)  # an unknown name is an error before the work
    ensure(Manifest(frozen(recipes)))
    manifest = usable_manifest(recipes)
    ids = [entry.video_id for entry in manifest.split("test")]
    known, file = video in ids, Path(video)
    if not known and not file.exists():
        check_readable(recipes, video)
        near = difflib.get_close_matches(video, ids, n=3, cutoff=0.3)
        raise PipelineError(
            f"{video}: expected the id of a test video of {recipes.experiment.experiment}, or a video file"
            + (f"; the nearest ids: {', '.join(near)}" if near else "")
        )
    if truth and not known:
        raise PipelineError(
            f"--truth: expected a test video of {recipes.experiment.experiment}, {video} is a file without annotations"
        )
    if known and getattr(recipes.experiment.dataset, "frame_counts", None):
        raise PipelineError(
            f"{video}: expected a video to take pictures from; dataset.frame_counts stands for those of "
            f"{recipes.experiment.experiment}. Scores and events need none: gig report, gig events"
        )
    if not (known and isinstance(recipes.experiment.dataset, GeneratedDataset)):
        warn_of_stand_in(recipes)
    final = out / escape(video if known else file.name)
    if final.exists():
        raise PipelineError(f"{final} is there already: remove it or give another --out")
    if known:
        ensure(ExtractFeatures(recipes, "test"))
        check_readable(recipes, video)
    request = Request(recipes.experiment, run, ensure(model(recipes, run)), windows)
    if not known:
        with bar("explain") as progress:
            make(final, lambda folder: explain_file(request, file, folder, progress, say))
    else:
        if truth:
            manifest = load_manifest(recipes.experiment, recipes.manifest_folder, truth=True)
        make(final, lambda folder: explain_cached(request, manifest, recipes.namespace("test"), video, folder, say))
    for path in sorted(final.iterdir()):
        click.echo(path)
