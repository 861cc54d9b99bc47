"""Ablations: many settings and seeds of one experiment on shared features, in parallel processes, to one table.

The order is: the features of every sampling; every reduction, once; heads and score tables, with heads trained as a
stack where possible (`pipeline.stages.training.stack`); and, only when all of these are there, the metrics on the test
videos. Nothing is chosen on the test videos: the setting that the table marks is the best on the validation split.
Finished parts are kept, so an interrupted ablation can be continued. Runs are named by content, so another ablation
with the same settings uses them too.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Experiment, Run, digest
from pipeline.config.ablation import Plan
from pipeline.data.decoding.following import deaf_to_interrupts
from pipeline.errors import PipelineError
from pipeline.stages.common.outputs import fill_folder, keep_if_made_from, locked, make_folder
from pipeline.stages.common.recipes import VERSIONS, Recipes
from pipeline.workflow import (
    SILENT,
    ExtractFeatures,
    ReduceTest,
    ReduceTraining,
    Report,
    ScoreVideos,
    Step,
    TrainHead,
    ensure,
    usable_manifest,
)

if TYPE_CHECKING:
    from pipeline.models.heads import HeadModule
    from pipeline.stages.training.training_set import Material
    from pipeline.stages.training.validation import Validation

__all__ = ["ablation_folder", "run_ablation"]

STACK_HEADS = 32  # heads trained as one; with more of them a step is not cheaper per head
Job = Callable[[], object]
"""Work for a process of the ablation; it can be pickled."""


def ablation_folder(plan: Plan) -> Path:
    """The folder of the table."""
    recipes = {id(experiment): Recipes(experiment) for experiment in plan.experiments}
    parts = []
    for setting in plan.settings:
        own = recipes[id(setting.experiment)]
        parts.append([setting.name, own.manifest_digest, *(own.evaluation_digest(run) for run in setting.runs)])
    first = recipes[id(plan.settings[0].experiment)]
    return first.folder / f"ablation-{plan.ablation.name}-{digest(VERSIONS['ablation'], parts)}"


def run_ablation(plan: Plan, workers: int, report: Report = SILENT) -> Path:
    """Do everything in an ablation that is not done yet.

    Args:
        plan: what `load_ablation` returned.
        workers: number of processes; each trains with its share of the cores.
        report: receives progress and messages.

    Returns:
        The folder of results.json, results.csv, results.md, results.png and ablation.yaml.
    """
    from pipeline.ablation.table import write_setting, write_table

    recipes = {}
    for experiment in plan.experiments:
        recipes[id(experiment)] = _features(experiment, report)
    final = ablation_folder(plan)
    if final.is_dir():
        return final
    runs_of_settings = [(setting, run) for setting in plan.settings for run in dict.fromkeys(setting.runs)]
    training: list[Job] = []
    testing: list[Job] = []
    heads: list[Job] = []
    for own in recipes.values():
        runs = list(dict.fromkeys(run for setting, run in runs_of_settings if setting.experiment is own.experiment))
        runs = [run for run in runs if not own.scores_folder(run).is_dir()]
        reduced = [run for run in runs if own.experiment.run(run).head.kept() is not None]
        reductions = {own.reduced_folder(run, "test"): run for run in reduced}.values()
        training += [partial(_make, ReduceTraining(own, run)) for run in reductions]
        testing += [partial(_make, ReduceTest(own, run)) for run in reductions]
        heads += [partial(_train_and_score, own.experiment, stack) for stack in _stacks(own, runs, workers)]
    with _processes(workers) as pool:
        _do_all(pool, training, report, "reductions of training videos")
        _do_all(pool, testing, report, "reductions of test videos")
        _do_all(pool, heads, report, "groups of heads")

        def build(folder: Path) -> None:
            paths = [folder / "figures" / f"{number}.json" for number in range(len(plan.settings))]
            jobs = [partial(write_setting, setting, path) for setting, path in zip(plan.settings, paths, strict=True)]
            _do_all(pool, jobs, report, "metrics of settings")
            write_table(plan, paths, folder)

        make_folder(final, build, report.say)
    return final


def _features(experiment: Experiment, report: Report) -> Recipes:
    """Make the manifest and the features of an experiment; returns its recipes."""
    recipes = Recipes(experiment)
    for split in ("train", "test"):
        ensure(ExtractFeatures(recipes, split), lambda step: nullcontext(report))
    recipes.quarantine.check(experiment.machine.max_quarantined)
    return Recipes(experiment)


def _stacks(recipes: Recipes, runs: Sequence[str], workers: int) -> list[list[str]]:
    """Groups of runs that are trained together, enough for all workers."""
    from pipeline.stages.training.stack import stack_key

    groups: dict[object, list[str]] = {}
    for run in runs:
        key = stack_key(recipes.experiment.run(run)) if not recipes.head_folder(run).is_dir() else None
        groups.setdefault((recipes.reduced_folder(run, "train"), key) if key else run, []).append(run)
    stacks: list[list[str]] = []
    for members in groups.values():
        size = min(STACK_HEADS, -(-len(members) // workers))
        stacks += [members[i : i + size] for i in range(0, len(members), size)]
    return stacks


def _do_all(pool: ProcessPoolExecutor, jobs: Sequence[Job], report: Report, what: str) -> None:
    """Run all jobs. After an error no other job is started, and the error is raised."""
    with deaf_to_interrupts():  # a process starts when it is given its first job
        futures = [pool.submit(job) for job in jobs]
    try:
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            report.progress(done, len(futures), what)
    except BrokenProcessPool as error:
        raise PipelineError(
            f"a process of the ablation died ({what}); out of memory? run it again with fewer workers"
        ) from error
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """The ablation's processes.

    After an error the running jobs are finished and their results kept; Ctrl-C stops them at once.
    """
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (workers,))
    try:
        yield pool
    except (KeyboardInterrupt, SystemExit):
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start(workers: int) -> None:
    """Give a worker its share of the cores, and make it end with its parent process, however that ends."""
    import torch

    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(max(1, multiprocessing.cpu_count() // workers))


def _follow() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a worker
    parent.join()
    os._exit(1)


def _tell(message: str) -> None:
    """Print a message of a process of the ablation."""
    print(message, file=sys.stderr, flush=True)


TOLD = replace(SILENT, say=_tell)
"""The report for steps in a process of the ablation: messages are printed, progress is that of the whole ablation."""


def _make(step: Step) -> None:
    step.make(TOLD)


def _train_and_score(experiment: Experiment, names: list[str]) -> None:
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
            ScoreVideos(recipes, name).make(TOLD, partial(_score_reduced, recipes, name))
    if failed:
        raise PipelineError("\n".join(str(error) for error in failed.values()))


def _train_missing(recipes: Recipes, names: Sequence[str]) -> dict[str, PipelineError]:
    """Train the heads that are missing among some runs that share a reduction.

    Returns the errors of the runs that could not be trained; the other heads are kept.
    """
    failed: dict[str, PipelineError] = {}
    steps = {name: TrainHead(recipes, name) for name in names}
    with ExitStack() as locks:
        # A stack is trained as one, so its heads are locked together; in sorted order, so that no two processes wait
        # for each other.
        for folder in sorted({step.output() for step in steps.values() if not step.complete()}):
            locks.enter_context(locked(folder, _tell))
        missing = [name for name, step in steps.items() if not step.complete()]
        if missing:
            failed = _train(recipes, missing)
    return failed


def _train(recipes: Recipes, names: Sequence[str]) -> dict[str, PipelineError]:
    """Train the heads of some runs on their common reduction: several as a stack, a single one alone.

    The caller holds the locks of their folders. Returns the errors of the runs that could not be trained.
    """
    from cache import FeatureStore
    from pipeline.stages.common.feature_recipe import training_recipe
    from pipeline.stages.training.bags_on_disk import read_training
    from pipeline.stages.training.train import train_on
    from pipeline.stages.training.training_set import check_shape, gather

    experiment, manifest, namespace = recipes.experiment, usable_manifest(recipes), recipes.namespace("train")
    runs = {name: experiment.run(name) for name in names}
    first = runs[names[0]]
    bags, standardizer = read_training(recipes.reduced_folder(names[0], "train"), first.head.standardize_offset)
    features = training_recipe(FeatureStore.open(experiment.paths.cache), namespace, bags.video_ids)
    material = gather(first, manifest, bags, standardizer, features)
    for name, run in runs.items():
        check_shape(name, run.head, namespace, run.head.k, bags.patterns.shape[2])
    if len(runs) == 1:
        fill_folder(
            recipes.head_folder(names[0]), lambda folder: train_on(experiment, first, manifest, material, folder)
        )
        return {}
    return _train_stack(recipes, runs, material, manifest.classes)


def _train_stack(
    recipes: Recipes, runs: Mapping[str, Run], material: Material, classes: tuple[str, ...]
) -> dict[str, PipelineError]:
    """Train the heads of several runs as a stack and write them. Returns the errors of the runs that failed."""
    from pipeline.stages.training.bags import Bags
    from pipeline.stages.training.stack import fit_stack

    assert isinstance(material.bags, Bags)  # a reduction holds vectors, which can be stacked, not maps
    judges = [material.validation(run.head) for run in runs.values()]
    validations = [judge for judge in judges if judge is not None]
    trained = fit_stack(material.bags, material.labels, list(runs.values()), len(classes), validations or None)
    failed: dict[str, PipelineError] = {}
    for (name, run), result, judge in zip(runs.items(), trained, judges, strict=True):
        if isinstance(result, PipelineError):
            failed[name] = result
            continue
        module, history = result
        write = partial(
            _write_stacked,
            run=run,
            module=module,
            history=history,
            material=material,
            judge=judge,
            classes=classes,
        )
        fill_folder(recipes.head_folder(name), write)
    return failed


def _write_stacked(
    folder: Path,
    *,
    run: Run,
    module: HeadModule,
    history: Sequence[dict[str, float]],
    material: Material,
    judge: Validation | None,
    classes: tuple[str, ...],
) -> None:
    """Write one head of a stack."""
    from pipeline.stages.training.train import write_head, write_losses

    keep_if_made_from(folder, "a stack")  # what a failed training of this head alone left is removed
    write_losses(folder, history)
    write_head(folder, run, module, material, judge, classes)


def _score_reduced(recipes: Recipes, name: str, folder: Path, report: Report) -> None:
    """Score the test videos from their reduced windows."""
    from pipeline.stages.scoring.score import score_split
    from pipeline.stages.training.bags_on_disk import read_windows

    namespace, head = recipes.namespace("test"), recipes.head_folder(name)
    windows = partial(read_windows, recipes.reduced_folder(name, "test"))
    score_split(recipes.experiment, name, usable_manifest(recipes), namespace, head, folder, report.progress, windows)
