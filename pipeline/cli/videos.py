"""Which videos a table of events is of: from an experiment's manifest, a folder of videos, a table of frame counts, or
the files that the events themselves name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from pipeline import workflow
from pipeline.cli.shared import bar, ensure, say
from pipeline.config import load_experiment
from pipeline.data.datasets.video_files import video_files
from pipeline.data.decoding.pool import DecodeWorkers, Job
from pipeline.data.events import Event
from pipeline.data.formats.facts import VideoFacts
from pipeline.data.frame_counts import read_frame_counts
from pipeline.data.problems import Problems
from pipeline.errors import DecodeError, PipelineError
from pipeline.remote import AnyPath, path_of
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import frozen, usable_manifest

__all__ = ["EVENTS", "class_names", "decoded", "existing", "known_videos", "with_videos"]

EVENTS = click.Path(path_type=Path, dir_okay=False, exists=True)


def with_videos(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and --videos, which say where the videos of the events are."""
    for option in (
        click.option(
            "--videos",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="The folder of the videos; an event's video is the file of that name, with or without its ending.",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="The experiment, whose manifest says where the videos are.",
        ),
    ):
        function = option(function)
    return function


def known_videos(
    events: Sequence[Event], config: Path | None, folder: Path | None, table: Path | None = None, *, quiet: bool = False
) -> dict[str, VideoFacts]:
    """What is known of the videos before any is decoded, by video id.

    Args:
        events: whose videos they are. Without a source below, an event's own `source` is taken where it is a file.
        config: an experiment; its manifest is made where it is missing.
        folder: of videos.
        table: of frame counts.
        quiet: videos without events too: the test videos, all of the folder, or all of the table.

    Raises:
        PipelineError: several sources are given, or a video with events is not among what they have.
    """
    if sum(source is not None for source in (config, folder, table)) > 1:
        raise PipelineError("--config, --videos and --frame-counts each say which videos there are: give one of them")
    wanted = list(dict.fromkeys(event.video_id for event in events))
    if config:
        found, where = _of_manifest(config, wanted, quiet), f"the manifest of {config}"
    elif folder:
        sources = {event.video_id: event.source for event in events if event.source}
        found, where = _of_folder(folder, wanted, quiet, sources), f"the videos in {folder}"
    elif table:
        found, where = _of_table(table), str(table)
        if not quiet:
            found = {video_id: facts for video_id, facts in found.items() if video_id in wanted}
    else:
        return {e.video_id: VideoFacts(e.source) for e in events if e.source and path_of(e.source).exists()}
    if missing := [video_id for video_id in wanted if video_id not in found]:
        raise PipelineError(f"{', '.join(missing[:5])}: no such video among {where}; {len(missing)} missing in all")
    return found


def class_names(events: Sequence[Event], config: Path | None) -> list[str]:
    """Classes that a person may choose from: those of the experiment, where one is given, and those of the events."""
    known: list[str] = []
    if config:
        recipes = Recipes(load_experiment(config))
        ensure(workflow.Manifest(frozen(recipes)))
        known = list(usable_manifest(recipes).classes)
    return list(dict.fromkeys([*known, *sorted({event.class_name for event in events})]))


def decoded(facts: Mapping[str, VideoFacts], config: Path | None = None) -> dict[str, VideoFacts]:
    """The same with what only decoding tells: how many frames there are, and when each is shown.

    Args:
        facts: whose paths are known.
        config: the experiment whose settings of the decoders apply.

    Raises:
        DecodeError: a video cannot be decoded to its end.
    """
    found: dict[str, VideoFacts] = {}
    jobs = [Job(path_of(about.path), select=_no_pictures) for about in facts.values()]
    with _workers(config) as workers, bar("times", "videos") as progress:
        for video_id, stream in zip(facts, workers.streams(jobs), strict=True):
            progress(len(found), len(jobs), video_id)
            header = stream.header()
            times, _ = workers.collect(stream)
            if stream.damage:
                say(f"{video_id} is damaged; frames that were lost keep their places: {stream.damage.message}")
            found[video_id] = replace(
                facts[video_id],
                frames=len(times),
                fps=header.fps,
                width=header.width,
                height=header.height,
                times_s=np.array(times),
            )
        progress(len(found), len(jobs), "read")
    return found


def _workers(config: Path | None) -> DecodeWorkers:
    if config is None:
        return DecodeWorkers()
    experiment = load_experiment(config)
    machine = experiment.machine
    return DecodeWorkers(machine.decode_workers, machine.decode_timeout_s, max_pixels=experiment.decoding.max_pixels)


def _of_manifest(config: Path, wanted: Sequence[str], quiet: bool) -> dict[str, VideoFacts]:
    recipes = Recipes(load_experiment(config))
    ensure(workflow.Manifest(frozen(recipes)))
    manifest = usable_manifest(recipes)
    return {
        v.video_id: VideoFacts(str(manifest.video_path(v.video_id)), v.packets, v.fps, v.width, v.height)
        for v in manifest.videos
        if v.video_id in wanted or (quiet and v.split == "test")
    }


def _of_folder(
    folder: Path, wanted: Sequence[str], quiet: bool, sources: Mapping[str, str] | None = None
) -> dict[str, VideoFacts]:
    named: dict[str, list[Path]] = {}
    problems = Problems()
    files = video_files(folder, problems)
    problems.raise_any()
    for file in files:
        below = file.relative_to(folder)
        for name in {file.name, file.stem, str(below), str(below.with_suffix(""))}:
            named.setdefault(name, []).append(file)
    found = {name: _meant(name, named[name], folder, (sources or {}).get(name, "")) for name in wanted if name in named}
    if quiet:
        ends = bool(found) and all(name == file.name for name, file in found.items())
        taken = set(found.values())
        for file in files:
            if file not in taken:
                found[_name(file, folder, named, ends)] = file
    paths: Iterable[tuple[str, Path]] = found.items()
    return {name: VideoFacts(str(path)) for name, path in paths}


def _meant(name: str, files: Sequence[Path], folder: Path, source: str) -> Path:
    """The one of several files that a name stands for: the events' own source, else the one with it as whole path."""
    for meant in ([Path(source)] if source else []) + [folder / name]:
        for file in files:
            if file.resolve() == meant.resolve():
                return file
    if len(files) > 1:
        raise PipelineError(f"{name}: several files have that name: {', '.join(map(str, files))}")
    return files[0]


def _name(file: Path, folder: Path, named: Mapping[str, Sequence[Path]], ends: bool) -> str:
    """The shortest name that no other file of the folder has; with its ending, or without where that will do."""
    below = file.relative_to(folder)
    short = [file.name, str(below)] if ends else [file.stem, file.name, str(below.with_suffix(""))]
    return next((name for name in short if len(named[name]) == 1), str(below))


def _of_table(table: Path) -> dict[str, VideoFacts]:
    problems = Problems()
    rows = read_frame_counts(table, problems)
    problems.raise_any()
    return {name: VideoFacts(name, row.n_frames, row.fps) for name, row in rows.items()}


def _no_pictures(frames: int) -> tuple[int, ...]:
    return ()


def existing(facts: Mapping[str, VideoFacts], events: Sequence[Event]) -> dict[str, AnyPath]:
    """The file of every video that has an event. Raises DecodeError naming one that has none."""
    for event in events:
        if event.video_id not in facts:
            raise DecodeError(
                f"{event.video_id}: expected to know where the video is: give --config or --videos; the table of "
                f"events has {event.source or 'nothing'!r} as its source"
            )
    return {event.video_id: path_of(facts[event.video_id].path) for event in events}
