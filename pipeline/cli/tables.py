"""The options of commands that take score tables of any system."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import click

from pipeline.cli.paths import StoredPath
from pipeline.cli.shared import say
from pipeline.config import Evaluation, Events, load_experiment

__all__ = ["LENGTHS", "SCORES", "settings", "with_form", "with_tables"]

FILE = click.Path(path_type=Path, dir_okay=False)
SCORES = StoredPath(path_type=Path)
LENGTHS = click.option(
    "--lengths",
    "--frame-counts",
    "lengths",
    type=FILE,
    help="A table of frame counts, for videos with more or fewer frames than in the manifest: a CSV with video_id and "
    "frames (a per_video.csv), or a published list with frame counts.",
)
"""A table of frame counts."""


FORM_OPTIONS = (
    click.option("--array", help="The array of scores, in .npz and .mat files that hold several."),
    click.option(
        "--crops", type=click.Choice(["mean"]), help="Scores are (n, crops) or (crops, n): average the crops."
    ),
    click.option(
        "--order",
        type=FILE,
        help="Scores of all videos are in one array, in the order of this file of ids, one per line.",
    ),
    click.option(
        "--suffix",
        default="",
        help="End of the names of files or arrays that is not part of the video id, such as _pred.",
    ),
    click.option(
        "--equal-parts", is_flag=True, help="The scores of a video are of equal parts of it, such as 32 segments."
    ),
    click.option(
        "--clip-frames",
        type=click.IntRange(min=1),
        help="One score per frame, for whole clips of this many frames (16): they end before or after the video.",
    ),
    click.option(
        "--tail",
        type=click.Choice(["exact", "partial", "repeat"]),
        default="exact",
        show_default=True,
        help="The last frames, fewer than a stride: exact, there are none; partial, they have one; repeat, they get "
        "the score before.",
    ),
    click.option("--stride", type=click.IntRange(min=1), default=1, show_default=True, help="Frames per score."),
)


def with_form(function: Callable[..., object]) -> Callable[..., object]:
    """Add the options that say what scores stand for and how their files are read; passes them as `form`."""

    @functools.wraps(function)
    def wrapper(
        *args: object,
        stride: int,
        tail: str,
        clip_frames: int | None,
        equal_parts: bool,
        suffix: str,
        order: Path | None,
        crops: str | None,
        array: str | None,
        **options: object,
    ) -> object:
        from pipeline.stages.scoring.score_form import ScoreForm

        form = ScoreForm(
            stride=stride,
            tail=tail,
            clip_frames=clip_frames,
            equal_parts=equal_parts,
            suffix=suffix,
            order=order,
            crops=crops,
            array=array,
        )
        return function(*args, form=form, **options)

    for option in FORM_OPTIONS:
        wrapper = option(wrapper)
    return wrapper


def with_tables(function: Callable[..., object]) -> Callable[..., object]:
    """Add the options of `with_form`, and --lengths, which is passed as the frames of videos by id, or None."""

    @functools.wraps(function)
    def wrapper(*args: object, lengths: Path | None, **options: object) -> object:
        from pipeline.stages.scoring.tables import read_lengths

        return function(*args, lengths=read_lengths(lengths) if lengths else None, **options)

    return with_form(LENGTHS(wrapper))


def settings(config: Path | None, run: str) -> tuple[Evaluation, Events]:
    """The section `evaluation` of a configuration's run and its section `events`, or the defaults."""
    if config is None:
        say("no --config given: working with the default settings of evaluation and events")
        return Evaluation(), Events()
    experiment = load_experiment(config)
    return experiment.run(run).evaluation, experiment.events
