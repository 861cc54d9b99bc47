"""The jobs of an ablation's processes: make a step, or train and score the heads of runs that share a reduction."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Experiment, Run
from pipeline.errors import PipelineError
from pipeline.stages.common.outputs import fill_folder, keep_if_made_from, locked
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import (
    SILENT,
    Manifest,
    ReduceTest,
    ReduceTraining,
    Report,
    ScoreVideos,
    Step,
    TrainHead,
    usable_manifest,
)

if TYPE_CHECKING:
    from pipeline.models.heads import HeadModule
    from pipeline.stages.training.training_set import Material
    from pipeline.stages.training.validation import Validation

__all__ = ["make", "train_and_score"]


def _tell(message: str) -> None:
    """Print a message of a process of the ablation."""
    print(message, file=sys.stderr, flush=True)


TOLD = replace(SILENT, say=_tell)
"""The report for steps in a process of the ablation: messages are printed, progress is that of the whole ablation."""


def make(step: Step) -> None:
    """Make a step."""
    step.make(TOLD)


def train_and_score(experiment: Experiment, names: list[str]) -> None:
    """Train some runs that share a reduction, and write their score tables."""
    recipes = Recipes(experiment)
    if experiment.run(names[0]).head.kept() is None:  # the head takes maps, so it is trained on the cache itself
        for name in names:
            TrainHead(recipes, name).make(TOLD)
            ScoreVideos(recipes, name).make(TOLD)
        return
    failed = _train_missing(recipes, names)
    for name in names:
        if name not in failed:
            reduced = experiment.run(name).scoring.takes_reduced
            ScoreVideos(recipes, name).make(TOLD, partial(_score_reduced, recipes, name) if reduced else None)
    if failed:
        raise PipelineError("\n".join(str(error) for error in failed.values()))


def _train_missing(recipes: Recipes, names: Sequence[str]) -> dict[str, PipelineError]:
    """Train the heads that are missing among some runs that share a reduction.

    Returns the errors of the runs that could not be trained; the other heads are kept.
    """
    failed: dict[str, PipelineError] = {}
    steps = {name: TrainHead(recipes, name) for name in names}
    with ExitStack() as locks:
        # Heads that are trained jointly are locked together; in sorted order, so that no two processes wait for each
        # other.
        for folder in sorted({step.output() for step in steps.values() if not step.complete()}):
            locks.enter_context(locked(folder, _tell))
        missing = [name for name, step in steps.items() if not step.complete()]
        if missing:
            failed = _train(recipes, missing)
    return failed


def _train(recipes: Recipes, names: Sequence[str]) -> dict[str, PipelineError]:
    """Train the heads of some runs on their common reduction, jointly if there are several.

    The caller holds the locks of their folders. Returns the errors of the runs that could not be trained.
    """
    from cache import FeatureStore
    from pipeline.stages.common.feature_recipe import training_recipe
    from pipeline.stages.training.bags_on_disk import read_training
    from pipeline.stages.training.train import train_on
    from pipeline.stages.training.training_set import check_shape, gather

    Manifest(recipes).fetch()
    experiment, manifest, namespace = recipes.experiment, usable_manifest(recipes), recipes.namespace("train")
    runs = {name: experiment.run(name) for name in names}
    first = runs[names[0]]
    reduced = ReduceTraining(recipes, names[0]).fetch()
    bags, standardizer = read_training(reduced, first.head.standardize_offset)
    features = training_recipe(FeatureStore.open(experiment.paths.cache), namespace, bags.video_ids)
    material = gather(first, manifest, bags, standardizer, features)
    for name, run in runs.items():
        check_shape(name, run.head, namespace, math.ceil(run.head.k), bags.patterns.shape[2])
    if len(runs) == 1:
        fill_folder(
            recipes.head_folder(names[0]), lambda folder: train_on(experiment, first, manifest, material, folder)
        )
        return {}
    return _train_jointly(recipes, runs, material, manifest.classes)


def _train_jointly(
    recipes: Recipes, runs: Mapping[str, Run], material: Material, classes: tuple[str, ...]
) -> dict[str, PipelineError]:
    """Train the heads of several runs jointly and write them. Returns the errors of the runs that failed."""
    from pipeline.stages.training.bags import Bags
    from pipeline.stages.training.joint import fit_jointly

    assert isinstance(material.bags, Bags)  # a reduction on disk holds vectors, not maps
    judges = [material.validation(run.head) for run in runs.values()]
    validations = [judge for judge in judges if judge is not None]
    trained = fit_jointly(material.bags, material.labels, list(runs.values()), len(classes), validations or None)
    failed: dict[str, PipelineError] = {}
    for (name, run), result, judge in zip(runs.items(), trained, judges, strict=True):
        if isinstance(result, PipelineError):
            failed[name] = result
            continue
        module, history = result
        write = partial(
            _write_joint,
            run=run,
            module=module,
            history=history,
            material=material,
            judge=judge,
            classes=classes,
        )
        fill_folder(recipes.head_folder(name), write)
    return failed


def _write_joint(
    folder: Path,
    *,
    run: Run,
    module: HeadModule,
    history: Sequence[dict[str, float]],
    material: Material,
    judge: Validation | None,
    classes: tuple[str, ...],
) -> None:
    """Write one of the heads that were trained jointly."""
    from pipeline.stages.training.train import write_head, write_losses

    keep_if_made_from(folder, "a stack")  # what a failed training of this head alone left is removed
    write_losses(folder, history)
    write_head(folder, run, module, material, judge, classes)


def _score_reduced(recipes: Recipes, name: str, folder: Path, report: Report) -> None:
    """Score the test videos from their reduced windows."""
    from pipeline.stages.scoring.score import score_split
    from pipeline.stages.training.bags_on_disk import read_windows

    namespace, head = recipes.namespace("test"), recipes.head_folder(name)
    windows = partial(read_windows, ReduceTest(recipes, name).fetch())
    score_split(
        recipes.experiment,
        name,
        usable_manifest(recipes),
        namespace,
        head,
        folder,
        report.progress,
        windows,
        quarantined=recipes.quarantine.reasons("test"),
    )
