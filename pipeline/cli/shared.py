"""What the commands of `gig` share: error messages, --config and --run, progress bars, and making missing outputs."""

from __future__ import annotations

import functools
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import click
from tqdm import tqdm

from cache.errors import CacheError
from pipeline import workflow
from pipeline.config import load_experiment
from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.stages.common.mirror import check_writable
from pipeline.stages.common.outputs import make_folder
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.common.shared_files import shared_journal
from pipeline.stages.common.stand_in import stand_in_reasons
from pipeline.workflow import Report, Step

__all__ = [
    "DEFAULT_CONFIG",
    "Group",
    "aligned",
    "bar",
    "check_files",
    "check_quarantine",
    "ensure",
    "make",
    "name_config",
    "say",
    "warn_of",
    "warn_of_stand_in",
    "with_config",
    "with_json",
    "with_run",
    "with_stage",
]


DEFAULT_CONFIG = Path("configs/fixture.yaml")
BANNER_WIDTH = 100


with_json = click.option("--json", "as_json", is_flag=True, help="For machines: JSON in place of a table.")


class Group(click.Group):
    """A group whose commands report the system's own errors as one message and exit with 1."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (PipelineError, CacheError) as error:
            raise click.ClickException(str(error)) from error


def with_config(function: Callable[..., object]) -> Callable[..., object]:
    """Add --config and pass the experiment's recipes as the first argument."""

    @click.option(
        "--config",
        "config",
        default=DEFAULT_CONFIG,
        show_default=True,
        type=click.Path(path_type=Path),
        help="The experiment, a YAML file.",
    )
    @functools.wraps(function)
    def wrapper(config: Path, *args: object, **kwargs: object) -> object:
        name_config(config)
        return function(Recipes(load_experiment(config)), *args, **kwargs)

    return wrapper


def name_config(config: Path) -> None:
    """Say which configuration a command uses if --config was not given."""
    source = click.get_current_context().get_parameter_source("config")
    if source is not click.core.ParameterSource.COMMANDLINE:
        say(f"no --config given: working with {config}")


def warn_of_stand_in(recipes: Recipes) -> list[str]:
    """Warn in a banner if a model's scores of real videos mean nothing.

    Returns the reasons; none for a model that was trained on real videos.
    """
    return warn_of(stand_in_reasons(recipes))


def warn_of(reasons: list[str]) -> list[str]:
    """Print the banner of a stand-in model with these reasons, if there are any; returns them."""
    if reasons:
        remedy = (
            "They show that the pipeline runs. For scores that mean something: `gig weights fetch weights`, and a "
            "configuration that is trained on videos like yours (docs/own-videos.md)."
        )
        text = [line for part in [*reasons, remedy] for line in textwrap.wrap(part, BANNER_WIDTH - 4)]
        edge = "#" * BANNER_WIDTH
        say(
            "\n".join(
                [
                    edge,
                    "# STAND-IN MODEL: THESE SCORES MEAN NOTHING FOR REAL VIDEOS",
                    *(f"# {line}" for line in text),
                    edge,
                ]
            )
        )
    return reasons


def with_run(function: Callable[..., object]) -> Callable[..., object]:
    """Add --run."""
    return click.option("--run", default="gig", show_default=True, help="One of the configuration's runs.")(function)


def with_stage(function: Callable[..., object]) -> Callable[..., object]:
    """Add --finetuned, which replaces the recipes of the frozen stage with those of the fine-tuned model."""

    @click.option(
        "--finetuned", is_flag=True, help="With the fine-tuned backbone and head; trains them if they are missing."
    )
    @functools.wraps(function)
    def wrapper(recipes: Recipes, *args: object, finetuned: bool, **kwargs: object) -> object:
        return function(recipes.finetuned if finetuned else recipes, *args, **kwargs)

    return wrapper


@contextmanager
def bar(title: str, unit: str = "steps") -> Iterator[Progress]:
    """A progress bar on the terminal, with speed and remaining time, as a stage's progress callback.

    Args:
        title: text before the bar.
        unit: what it counts, in the plural.
    """
    shown = 0.0
    with tqdm(desc=title, unit=f" {unit}", dynamic_ncols=True) as line:

        def progress(done: int, total: int, message: str) -> None:
            nonlocal shown
            if total != line.total or done < line.n:  # another step, with a speed of its own
                line.reset(total)
                line.initial = done  # what was done before does not count for the speed
            line.n = done
            if time.monotonic() - shown > 0.2 or done == total:
                shown = time.monotonic()
                line.set_description(f"{title}: {message}")

        yield progress


def ensure(step: Step) -> Path:
    """Make a step of the workflow and the missing steps before it, each with a progress bar; returns its output."""
    return workflow.ensure(step, _listen)


@contextmanager
def _listen(step: Step) -> Iterator[Report]:
    with bar(step.title, step.unit) as progress:
        yield Report(progress, say)


def make(final: Path, build: Callable[[Path], object]) -> None:
    """Fill a folder that is no step's output. Nothing of a command that was killed or stopped over it gets into it."""

    def afresh(folder: Path) -> None:
        shutil.rmtree(folder)  # it may be left from a command with other arguments
        folder.mkdir()
        try:
            build(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    make_folder(final, afresh, say)


def say(message: str) -> None:
    """Print an event on standard error, above the progress bar where there is one."""
    tqdm.write(message, file=sys.stderr)


def check_files(recipes: Recipes) -> list[str]:
    """Check the data set and the weights of an experiment, as its first steps will.

    What is read from the headers of the videos is kept for these steps.

    Returns:
        What was found, one line each.

    Raises:
        PipelineError: with every problem.
    """
    from pipeline.data.expected_counts import compared_counts, has_counts, unexpected_counts
    from pipeline.stages.common.manifest import check_data_set, journal_of

    experiment = recipes.experiment
    found: list[str] = []
    problems: list[str] = []
    sharing: AbstractContextManager[None] = nullcontext()
    try:
        if line := check_writable(recipes.folder):
            found.append(f"results: {line}")
            sharing = shared_journal(journal_of(recipes.folder))
    except CacheError as error:
        problems.append(f"paths.output: {error}")
    try:
        with bar("check") as progress, sharing:
            manifest = check_data_set(experiment, recipes.folder, progress, say)
        if manifest:
            splits = " and ".join(f"{len(manifest.split(split))} {split}" for split in ("train", "test"))
            found.append(f"data set: {splits} videos, {len(manifest.intervals or ())} interval(s)")
            if not unexpected_counts(experiment.expected, manifest):  # else it was a warning
                found += filter(None, [compared_counts(experiment.expected, manifest)])
        elif has_counts(experiment.expected):
            found.append("data set: generated; the step Manifest compares its counts with those expected")
    except (PipelineError, OSError) as error:
        problems.append(str(error))
    if not (experiment.features.train and experiment.features.test):
        from pipeline.models.backbones import load_backbone
        from pipeline.stages.common.picture import check_backbone, map_size, picture_size

        settings = experiment.backbone
        try:
            notes = check_backbone(experiment)
            (height, width), (rows, columns) = picture_size(experiment), map_size(experiment)
            loaded = load_backbone(settings)
            shape = f"{rows} x {columns} x {loaded.channels}"
            found.append(f"backbone: {settings.name} sees {height} x {width} pixels, and gives maps of {shape}")
            found += [f"backbone: {note}" for note in notes]
            found += [f"weights: {note}" for note in loaded.notes]
            found.append(f"weights: {settings.weights}, sha256 {loaded.weights_sha256}")
        except PipelineError as error:
            problems.append(str(error))
    if problems:
        raise PipelineError("\n".join(problems))
    return found


def check_quarantine(recipes: Recipes) -> None:
    """Raise QuarantineExceeded, with the list, if more videos are in quarantine than the configuration accepts."""
    recipes.quarantine.check(recipes.experiment.machine.max_quarantined)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of as many cells each as lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
