"""The options of commands that take score tables of any system."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.cli.shared import LocalPath

__all__ = ["LENGTHS", "SCORES", "with_form", "with_tables"]

FILE = click.Path(path_type=Path, dir_okay=False)
SCORES = LocalPath(path_type=Path)
LENGTHS = click.option(
    "--lengths",
    "--frame-counts",
    "lengths",
    type=FILE,
    help="A table of frame counts, where more or fewer are decoded than the manifest plans: a CSV with video_id and "
    "frames (a per_video.csv), or a published list that states frames.",
)
"""A table of frame counts."""


def with_form(function: Callable) -> Callable:
    """Add the options that say what scores stand for and how their files are read, as `form`."""

    @functools.wraps(function)
    def wrapper(*args: object, **options: Any) -> object:
        from pipeline.stages.scoring.score_form import ScoreForm

        form = {name: options.pop(name) for name in ScoreForm.__dataclass_fields__}
        return function(*args, form=ScoreForm(**form), **options)

    for option in (
        click.option("--array", help="The array of scores, in .npz and .mat files that hold several."),
        click.option(
            "--crops", type=click.Choice(["mean"]), help="Scores are (n, crops) or (crops, n): how crops become one."
        ),
        click.option(
            "--order", type=FILE, help="The scores are one array of all videos, in the order of this list, one a line."
        ),
        click.option(
            "--suffix",
            default="",
            help="End of the names of files or arrays that is not part of the id, such as _pred.",
        ),
        click.option(
            "--equal-parts", is_flag=True, help="A video's scores are of equal parts of it, such as 32 segments."
        ),
        click.option(
            "--clip-frames",
            type=click.IntRange(min=1),
            help="Scores are one a frame of whole clips of so many frames (16): they end before the video, or go "
            "beyond it.",
        ),
        click.option(
            "--tail",
            type=click.Choice(["exact", "partial", "repeat"]),
            default="exact",
            show_default=True,
            help="The last frames, fewer than a stride: there are none; they have their own score; they repeat the one "
            "before.",
        ),
        click.option(
            "--stride", type=click.IntRange(min=1), default=1, show_default=True, help="Frames that a score stands for."
        ),
    ):
        wrapper = option(wrapper)
    return wrapper


def with_tables(function: Callable) -> Callable:
    """As `with_form`, and `lengths`: the frames of videos by id, from a table of frame counts; None without one."""

    @functools.wraps(function)
    def wrapper(*args: object, lengths: Path | None, **options: object) -> object:
        from pipeline.stages.scoring.tables import read_lengths

        return function(*args, lengths=read_lengths(lengths) if lengths else None, **options)

    return with_form(LENGTHS(wrapper))
