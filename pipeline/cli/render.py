"""`gig render`: a video with its scores, events and relation maps drawn into it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from pipeline.cli.paths import LocalPath
from pipeline.cli.shared import bar, ensure, say, warn_of_stand_in
from pipeline.cli.videos import EVENTS
from pipeline.config import GeneratedDataset, load_experiment
from pipeline.data.decoding.opening import MAX_PIXELS
from pipeline.data.events import Event, read_events
from pipeline.errors import PipelineError
from pipeline.remote import AnyPath
from pipeline.stages.common.outputs import whole_file
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import ExtractFeatures, Manifest, ScoreVideos, check_readable, frozen, model, usable_manifest

if TYPE_CHECKING:
    from pipeline.stages.clips.heat import HeatMaps
    from pipeline.stages.clips.strip import Scores

__all__ = ["render"]

NOT_CLASSES = ("frame", "time_s", "score", "video_id")


@dataclass(frozen=True)
class _Source:
    """A video, its id, and the table of its scores."""

    video_id: str
    path: AnyPath
    table: Path


@click.command()
@click.argument("video")
@click.option(
    "--config", type=click.Path(path_type=Path), help="The experiment whose run gives the scores, or the maps."
)
@click.option("--run", default="gig", show_default=True, help="One of the configuration's runs.")
@click.option("--finetuned", is_flag=True, help="Scores and maps of the fine-tuned backbone and head; with --config.")
@click.option(
    "--scores",
    type=click.Path(path_type=Path, exists=True),
    help="The folder that `gig score` wrote, or one score table (.parquet, .csv) of this video, in place of a run's.",
)
@click.option("--events", type=EVENTS, help="A table of events, drawn as bars under the curve.")
@click.option(
    "--relation-maps", is_flag=True, help="Lay over the picture where spatial reasoning looked; with --config."
)
@click.option("--over", is_flag=True, help="Draw over the lower edge of the picture, not below it.")
@click.option("--out", type=LocalPath(path_type=Path, dir_okay=False), help="The file (default: <video>-scores.mp4).")
def render(
    video: str,
    config: Path | None,
    run: str,
    finetuned: bool,
    scores: Path | None,
    events: Path | None,
    relation_maps: bool,
    over: bool,
    out: Path | None,
) -> None:
    """Write VIDEO, a test video's id or a video file, with its score curve, class and events, and with its sound."""
    from pipeline.stages.clips.render import RenderJob, render_video

    if not config and (relation_maps or not scores):
        raise PipelineError("expected --config, whose run gives scores and relation maps, or the --scores of the video")
    if finetuned and not config:
        raise PipelineError("--finetuned goes with --config")
    recipes = Recipes(load_experiment(config)) if config else None
    if recipes and finetuned:
        recipes = recipes.finetuned
    source = _of_scores(video, scores) if scores else _of_run(video, recipes, run)
    final = out or Path(f"{source.path.stem}-scores.mp4")
    if final.suffix != ".mp4":
        raise PipelineError(f"{final}: expected a file that ends in .mp4")
    if final.exists():
        raise PipelineError(f"{final} is there already: remove it or give another --out")
    of_video = _events_of(events, source) if events else ()
    table = _read_scores(source)
    heat = _heat(recipes, run, source) if relation_maps and recipes else None
    max_pixels = recipes.experiment.decoding.max_pixels if recipes else MAX_PIXELS
    final.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(final) as partial, bar("render", "frames") as progress:
        # The ending says what the file is.
        written = partial.with_name(f"{partial.name}.mp4")
        try:
            job = RenderJob(source.path, written, table, of_video, heat, over, max_pixels)
            count = render_video(job, progress, say)
            written.rename(partial)
        finally:
            written.unlink(missing_ok=True)
    click.echo(f"{count} frames: {final}")


def _of_scores(video: str, scores: Path) -> _Source:
    file = Path(video)
    if scores.is_file():
        if not file.exists():
            raise PipelineError(f"{video}: with a score table as --scores, expected a video file")
        return _Source(file.stem, file, scores)
    try:
        index = json.loads((scores / "index.json").read_text(encoding="utf-8"))["videos"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{scores}: expected a folder that `gig score` wrote, or a table of one video") from error
    video_id = next((name for name in (video, file.name, file.stem) if name in index), None)
    if video_id is None:
        raise PipelineError(f"{video}: not in {scores / 'index.json'}, which has {', '.join(sorted(index)[:5])} ...")
    if not file.exists():
        file = Path(index[video_id].get("source", {}).get("path", ""))
    if not file.exists() or file == Path():
        raise PipelineError(f"{video_id}: expected the path of the video: {scores} does not say where it is")
    return _Source(video_id, file, scores / "frames" / index[video_id]["file"])


def _of_run(video: str, recipes: Recipes | None, run: str) -> _Source:
    from pipeline.stages.scoring.video_scores import table_path

    assert recipes is not None
    recipes.experiment.run(run)  # an unknown name is an error before the work
    ensure(Manifest(frozen(recipes)))
    manifest = usable_manifest(recipes)
    if video not in {entry.video_id for entry in manifest.split("test")}:
        check_readable(recipes, video)
        raise PipelineError(
            f"{video}: expected the id of a test video of {recipes.experiment.experiment}; score other videos with "
            "`gig score` and give its folder as --scores"
        )
    if not isinstance(recipes.experiment.dataset, GeneratedDataset):
        warn_of_stand_in(recipes)
    scores = ensure(ScoreVideos(recipes, run))
    check_readable(recipes, video)
    return _Source(video, manifest.video_path(video), table_path(scores, video))


def _events_of(table: Path, source: _Source) -> tuple[Event, ...]:
    events = read_events(table)
    names = (source.video_id, source.path.name, source.path.stem)
    found = tuple(event for event in events if event.video_id in names)
    if not found:
        say(f"no event of {source.video_id} among the {len(events)} of {table}")
    return found


def _read_scores(source: _Source) -> Scores:
    from pipeline.stages.clips.strip import Scores
    from pipeline.stages.scoring.score_columns import columns_of, open_table

    table = open_table(source.video_id, source.table)
    classes = tuple(name for name in table.column_names if name not in NOT_CLASSES)
    classwise = columns_of(source.video_id, source.table, table, classes) if classes else np.zeros((table.num_rows, 0))
    if "score" in table.column_names:
        general = columns_of(source.video_id, source.table, table, ["score"])[:, 0]
    elif classes:
        general = classwise.max(axis=1)
    else:
        raise PipelineError(f"{source.table}: expected a column score, or one of each class")
    if not len(general) or not np.isfinite(general).all() or not np.isfinite(classwise).all():
        raise PipelineError(f"{source.table}: expected a finite score for every frame")
    if "time_s" not in table.column_names:
        return Scores(classes, general, classwise)
    times_s = columns_of(source.video_id, source.table, table, ["time_s"])[:, 0]
    if not np.isfinite(times_s).all() or (np.diff(times_s) <= 0).any():
        raise PipelineError(f"{source.table}: expected times that rise in the column time_s")
    return Scores(classes, general, classwise, times_s)


def _heat(recipes: Recipes, run: str, source: _Source) -> HeatMaps:
    from cache import FeatureStore
    from pipeline.stages.clips.heat import HeatMaps
    from pipeline.stages.common.picture import fit_of
    from pipeline.stages.explain.explain import scratch_features
    from pipeline.stages.explain.relations import video_maps

    experiment = recipes.experiment
    head = ensure(model(recipes, run)) / "head.safetensors"
    ensure(Manifest(frozen(recipes)))
    known: dict[str, Any] = {entry.video_id: entry for entry in usable_manifest(recipes).split("test")}
    if source.video_id in known:
        ensure(ExtractFeatures(recipes, "test"))
        store = FeatureStore.open(experiment.paths.cache)
        found = video_maps(store, recipes.namespace("test"), source.video_id, experiment, run, head)
    else:
        with (
            bar("relation maps") as progress,
            scratch_features(experiment, head, source.path, progress, say) as (store, namespace),
        ):
            found = video_maps(store, namespace, source.path.name, experiment, run, head)
    return HeatMaps(found.maps, found.middles, fit_of(experiment))
