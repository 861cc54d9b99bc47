"""`gig export`: events in the form of another program; `gig labels import`: what people made of them there, read
back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from cache.names import escape
from pipeline import workflow
from pipeline.cli.paths import FOLDER, STORED_FOLDER
from pipeline.cli.shared import ensure, make, say
from pipeline.cli.videos import EVENTS, class_names, decoded, known_videos, with_videos
from pipeline.config import GeneratedDataset, load_experiment
from pipeline.data.events import Event, read_events
from pipeline.data.formats.facts import VideoFacts, by_video, of_classes
from pipeline.errors import PipelineError
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import frozen

__all__ = ["export", "labels"]

FORMATS = ("label-studio", "activitynet", "fiftyone", "cvat", "webvtt", "cityscene")
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.argument("events", type=EVENTS)
@click.option("--to", "form", type=click.Choice(FORMATS), required=True, help="The form.")
@click.option("--out", type=FOLDER, help="Folder of the files (default: <name of EVENTS>-<form>).")
@with_videos
@click.option("--frame-counts", "table", type=FILE, help="A table of frame counts, in place of videos.")
@click.option("--class", "classes", multiple=True, help="Only events of this class; may be given again.")
@click.option(
    "--only-with-events",
    is_flag=True,
    help="Leave out videos without events; a reviewer will not find what was missed.",
)
@click.option(
    "--steady", is_flag=True, help="Take every frame rate to be steady, as the container states it, without decoding."
)
@click.option("--prefix", default="", help="label-studio: what makes an address of a path (/data/local-files/?d=).")
@click.option("--base", type=FOLDER, help="label-studio: the folder that paths behind --prefix are relative to.")
@click.option("--truth", is_flag=True, help="activitynet: as ground truth, not as results.")
def export(
    events: Path,
    form: str,
    out: Path | None,
    config: Path | None,
    videos: Path | None,
    table: Path | None,
    classes: tuple[str, ...],
    only_with_events: bool,
    steady: bool,
    prefix: str,
    base: Path | None,
    truth: bool,
) -> None:
    """Write EVENTS, a table of events (.parquet, .csv, .jsonl), in the form of another program; print the files."""
    if (truth and form != "activitynet") or (prefix and form != "label-studio") or (base and not prefix):
        raise PipelineError("--truth goes with --to activitynet, --prefix with --to label-studio, --base with --prefix")
    if table and form == "fiftyone":
        raise PipelineError("fiftyone needs the files: --config or --videos, in place of --frame-counts")
    found, notes = of_classes(read_events(events), classes)
    for note in notes:
        say(note)
    final = out or Path(f"{events.stem}-{form}")
    if final.exists():
        raise PipelineError(f"{final} is there already: remove it or give another --out")
    facts: dict[str, VideoFacts] = {}
    if form in ("label-studio", "fiftyone", "cvat") or truth:
        facts = known_videos(found, config, videos, table, quiet=not only_with_events)
        at_hand = table is None and facts
        if at_hand and not (config and (steady or form == "fiftyone")):
            facts = decoded(facts, config)
        elif form == "label-studio":
            say("frame rates are taken to be steady: the videos are not decoded")
    names = class_names(found, config if form in ("label-studio", "cvat") else None)
    make(final, lambda folder: _write(folder, form, found, facts, names, prefix, base, truth))
    for path in sorted(final.iterdir()):
        click.echo(path)


def _write(
    folder: Path,
    form: str,
    events: Sequence[Event],
    facts: Mapping[str, VideoFacts],
    classes: Sequence[str],
    prefix: str,
    base: Path | None,
    truth: bool,
) -> None:
    from pipeline.data.formats import activitynet, cityscene, cvat, fiftyone, label_studio, webvtt

    groups = by_video(events)
    if form == "label-studio":
        _json(folder / "tasks.json", label_studio.tasks(events, facts, prefix, base))
        (folder / "config.xml").write_text(label_studio.labelling_config(classes), encoding="utf-8")
    elif form == "activitynet" and truth:
        _json(folder / "truth.json", activitynet.truth(events, facts))
    elif form == "activitynet":
        _json(folder / "results.json", activitynet.results(events))
    elif form == "fiftyone":
        _json(folder / "labels.json", fiftyone.labels(events, facts))
        _json(folder / "data.json", fiftyone.data(events, facts))
    elif form == "cvat":
        for video_id in sorted({*facts, *groups}):
            about = facts.get(video_id, VideoFacts())
            text = cvat.video_annotations(video_id, groups.get(video_id, []), about, classes)
            (folder / f"{escape(video_id)}.xml").write_text(text, encoding="utf-8")
    elif form == "webvtt":
        for video_id, of_video in groups.items():
            (folder / f"{escape(video_id)}.vtt").write_text(webvtt.subtitles(of_video), encoding="utf-8")
    else:
        with (folder / "task2.csv").open("w", newline="", encoding="utf-8") as stream:
            cityscene.write_task2(stream, cityscene.event_rows(events))


def _json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")


@click.group()
def labels() -> None:
    """Annotations that people made in another program."""


@labels.command("import")
@click.argument("form", type=click.Choice(["label-studio"]))
@click.argument("export_file", metavar="EXPORT", type=FILE)
@click.option("--config", type=click.Path(path_type=Path), help="The experiment whose data set is corrected.")
@click.option("--truth", type=STORED_FOLDER, help="The folder of a manifest, in place of --config.")
@click.option("--out", type=FOLDER, default="corrected", show_default=True, help="Folder of the two tables.")
def import_labels(form: str, export_file: Path, config: Path | None, truth: Path | None, out: Path) -> None:
    """Read EXPORT, a JSON export of Label Studio, as annotations of a data set of the csv adapter.

    Writes videos.csv and annotations.csv of the whole data set, corrected where somebody annotated a video, and prints
    the section `dataset` that reads them.
    """
    from pipeline.data.formats.corrections import correct, write_csv
    from pipeline.data.formats.label_studio_export import read_export
    from pipeline.data.manifest import load
    from pipeline.data.problems import Problems

    if (config is None) == (truth is None):
        raise PipelineError("expected one of --config and --truth, which say what data set is corrected")
    if out.exists():
        raise PipelineError(f"{out} is there already: remove it or give another --out")
    name, normal_label, folder = "corrected", "Normal", truth
    if config:
        recipes = Recipes(load_experiment(config))
        ensure(workflow.Manifest(frozen(recipes)))
        folder = recipes.manifest_folder
        normal_label = getattr(recipes.experiment.dataset, "normal_label", normal_label)
        if not isinstance(recipes.experiment.dataset, GeneratedDataset):
            name = (
                recipes.experiment.dataset.name
            )  # features are cached under it: those of the same files are used again
    assert folder is not None
    manifest = load(folder, truth=True)
    problems, notes = Problems(), []  # type: ignore[var-annotated]

    def facts(video_id: str) -> VideoFacts:
        return decoded({video_id: VideoFacts(str(manifest.video_path(video_id)))}, config)[video_id]

    reviewed = read_export(export_file, {video.video_id for video in manifest.videos}, problems, notes)
    corrected = correct(manifest, reviewed, facts, problems)
    problems.raise_any()
    for note in [*notes, *corrected.notes]:
        say(note)
    make(out, lambda made: write_csv(corrected.manifest, made, problems, normal_label))
    say(f"{len(corrected.reviewed)} video(s) annotated, {len(corrected.changed)} of them changed")
    for path in sorted(out.iterdir()):
        click.echo(path)
    section = {"adapter": "csv", "name": name, "root": str(manifest.root.resolve())}
    section |= {"videos": str((out / "videos.csv").resolve()), "annotations": str((out / "annotations.csv").resolve())}
    section |= {"classes": list(manifest.classes), "normal_label": normal_label}  # type: ignore[dict-item]
    click.echo(
        "dataset:\n" + "".join(f"  {key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in section.items())
    )
