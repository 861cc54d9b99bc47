"""What the commands of `gig` share: errors in one message, --config and --run, progress bars, and doing what is missing."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from tqdm import tqdm

from cache.errors import CacheError
from pipeline.config import load_experiment
from pipeline.errors import PipelineError
from pipeline.stages.outputs import make_folder
from pipeline.stages.recipes import FinetunedRecipes, Progress, Recipes

__all__ = [
    "Group",
    "bar",
    "check_quarantine",
    "ensure_features",
    "ensure_finetuned",
    "ensure_head",
    "ensure_manifest",
    "make",
    "say",
    "with_config",
    "with_run",
    "with_stage",
]


class Group(click.Group):
    """A group whose commands report the system's own errors as one message and exit with 1."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (PipelineError, CacheError) as error:
            raise click.ClickException(str(error)) from error


def with_config(function: Callable) -> Callable:
    """Add --config and pass the experiment's recipes as the first argument."""

    @click.option(
        "--config",
        "config",
        default="configs/fixture.yaml",
        show_default=True,
        type=click.Path(path_type=Path),
        help="The experiment, a YAML file.",
    )
    @functools.wraps(function)
    def wrapper(config: Path, *args: object, **kwargs: object) -> object:
        return function(Recipes(load_experiment(config)), *args, **kwargs)

    return wrapper


def with_run(function: Callable) -> Callable:
    """Add --run."""
    return click.option("--run", default="gig", show_default=True, help="One of the configuration's runs.")(function)


def with_stage(function: Callable) -> Callable:
    """Add --finetuned, which puts the recipes of the fine-tuned model in place of those of the frozen stage."""

    @click.option("--finetuned", is_flag=True, help="With the fine-tuned backbone and head; makes them where they are missing.")
    @functools.wraps(function)
    def wrapper(recipes: Recipes, *args: object, finetuned: bool, **kwargs: object) -> object:
        return function(recipes.finetuned if finetuned else recipes, *args, **kwargs)

    return wrapper


@contextmanager
def bar(title: str, unit: str = "step") -> Iterator[Progress]:
    """A progress bar on the terminal, with speed and time left, as a stage's progress callback; `unit` is what it counts."""
    shown = 0.0
    with tqdm(desc=title, unit=unit, dynamic_ncols=True) as line:

        def progress(done: int, total: int, message: str) -> None:
            nonlocal shown
            if total != line.total or done < line.n:  # another step, with a speed of its own
                line.reset(total)
                line.initial = done  # what was done before says nothing of the speed
            line.n = done
            if time.monotonic() - shown > 0.2 or done == total:
                shown = time.monotonic()
                line.set_description(f"{title}: {message}")

        yield progress


def make(final: Path, build: Callable[[Path], object]) -> None:
    make_folder(final, build, say)


def say(message: str) -> None:
    """Print an event, above the progress bar where there is one."""
    tqdm.write(message, file=sys.stderr)


def ensure_manifest(recipes: Recipes, left_out: bool = False):
    """The manifest, without the videos in quarantine unless those are asked for."""
    from pipeline.stages.manifest import build_manifest, load_manifest

    final = recipes.manifest_folder()
    if not final.exists():
        with bar("manifest") as progress:
            make(final, lambda folder: build_manifest(recipes.experiment, folder, progress, say))
    manifest = load_manifest(recipes.experiment, final)
    return manifest if left_out else manifest.without([record.video_id for record in recipes.quarantine.records()])


def ensure_features(recipes: Recipes, split: str) -> None:
    from pipeline.stages.extract import extract_split

    if isinstance(recipes, FinetunedRecipes):
        ensure_finetuned(recipes)
    manifest = ensure_manifest(recipes, left_out=True)
    namespace, videos = recipes.namespace(split), manifest.split(split)
    with bar(f"extract {split}", "frame") as progress:
        done = extract_split(recipes.experiment, manifest, split, videos, namespace, recipes.quarantine, progress, say=say)
    if done.extracted or done.quarantined:
        say(f"{split}: {done}")


def ensure_head(recipes: Recipes, run: str) -> Path:
    from pipeline.stages.train import train_head

    recipes.experiment.run(run)  # an unknown name is an error before the work
    if isinstance(recipes, FinetunedRecipes):
        recipes.head_folder(run)
        return ensure_finetuned(recipes)
    if not recipes.head_folder(run).exists():
        ensure_features(recipes, "train")
    manifest, final = ensure_manifest(recipes), recipes.head_folder(run)
    if final.exists():
        return final
    with bar(f"train {run}") as progress:
        namespace = recipes.namespace("train")
        make(final, lambda folder: train_head(recipes.experiment, run, manifest, namespace, folder, progress))
    return final


def ensure_finetuned(recipes: FinetunedRecipes) -> Path:
    """The folder of the fine-tuned backbone and head, made where it is missing."""
    from pipeline.stages.finetune import finetune

    frozen, experiment = recipes.frozen, recipes.frozen.experiment
    head = ensure_head(frozen, experiment.finetune.run)
    final = frozen.finetune_folder()
    left_out = [record.video_id for record in frozen.quarantine.records()]
    with bar(f"finetune {experiment.finetune.run}") as progress:
        make(final, lambda folder: finetune(experiment, frozen.manifest_folder(), left_out, head, folder, progress))
    return final


def check_quarantine(recipes: Recipes) -> None:
    recipes.quarantine.check(recipes.experiment.machine.max_quarantined)
