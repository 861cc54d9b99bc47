"""Ablations: many settings and seeds of one experiment on shared features, in parallel processes, to one table.

First come the features of every sampling, then every reduction once, then heads and score tables, stacked where they
can be (`pipeline.stages.training.joint`), and only when all of these are there the metrics on the test videos. Nothing
is chosen on
those: the setting that the table marks is the best on the validation split. Finished parts are kept, so an interrupted
ablation goes on; runs are named by content, so another ablation that shares settings uses them too.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.config import Experiment, digest
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

__all__ = ["ablation_folder", "run_ablation"]

STACK_HEADS = 32  # heads trained as one; more of them do not make a step cheaper


def ablation_folder(plan: Plan) -> Path:
    """Where the table lies."""
    recipes = {id(experiment): Recipes(experiment) for experiment in plan.experiments}
    parts = []
    for setting in plan.settings:
        own = recipes[id(setting.experiment)]
        parts.append([setting.name, own.manifest_digest, *(own.evaluation_digest(run) for run in setting.runs)])
    first = recipes[id(plan.settings[0].experiment)]
    return first.folder / f"ablation-{plan.ablation.name}-{digest(VERSIONS['ablation'], parts)}"


def run_ablation(plan: Plan, workers: int, report: Report = SILENT) -> Path:
    """Do everything of an ablation that is not done yet.

    Args:
        plan: of `load_ablation`.
        workers: processes; each trains with its share of the cores.
        report: who is told what goes on, and whom this process waits for.

    Returns:
        The folder of results.json, results.csv, results.md, results.png and ablation.yaml.
    """
    from pipeline.ablation.table import setting_figures, write_table

    recipes = {}
    for experiment in plan.experiments:
        recipes[id(experiment)] = _features(experiment, report)
    final = ablation_folder(plan)
    if final.is_dir():
        return final
    todo = [(setting, run) for setting in plan.settings for run in dict.fromkeys(setting.runs)]
    training, testing, heads = [], [], []
    for own in recipes.values():
        runs = list(dict.fromkeys(run for setting, run in todo if setting.experiment is own.experiment))
        runs = [run for run in runs if not own.scores_folder(run).is_dir()]
        reduced = [run for run in runs if own.experiment.run(run).head.kept() is not None]
        reductions = {own.reduced_folder(run, "test"): run for run in reduced}.values()
        training += [(ReduceTraining(own, run),) for run in reductions]
        testing += [(ReduceTest(own, run),) for run in reductions]
        heads += [(own.experiment, stack) for stack in _stacks(own, runs, workers)]
    with _processes(workers) as pool:
        _all(pool, _make, training, report, "reductions of training videos")
        _all(pool, _make, testing, report, "reductions of test videos")
        _all(pool, _train_and_score, heads, report, "groups of heads")

        def build(folder: Path) -> None:
            jobs = [(setting, folder / "figures" / f"{number}.json") for number, setting in enumerate(plan.settings)]
            _all(pool, setting_figures, jobs, report, "metrics of settings")
            write_table(plan, [path for _, path in jobs], folder)

        make_folder(final, build, report.say)
    return final


def _features(experiment: Experiment, report: Report) -> Recipes:
    """The recipes of an experiment whose manifest and features are there."""
    recipes = Recipes(experiment)
    for split in ("train", "test"):
        ensure(ExtractFeatures(recipes, split), lambda step: nullcontext(report))
    recipes.quarantine.check(experiment.machine.max_quarantined)
    return Recipes(experiment)


def _stacks(recipes: Recipes, runs: Sequence[str], workers: int) -> list[list[str]]:
    """Runs that are trained together, enough groups for all workers."""
    from pipeline.stages.training.joint import joint_key

    groups: dict[object, list[str]] = {}
    for run in runs:
        key = joint_key(recipes.experiment.run(run)) if not recipes.head_folder(run).is_dir() else None
        groups.setdefault((recipes.reduced_folder(run, "train"), key) if key else run, []).append(run)
    stacks = []
    for members in groups.values():
        size = min(STACK_HEADS, -(-len(members) // workers))
        stacks += [members[i : i + size] for i in range(0, len(members), size)]
    return stacks


def _all(pool: ProcessPoolExecutor, job: Callable, arguments: Sequence[tuple], report: Report, what: str) -> None:
    """Run a job for all arguments. The first error ends the rest that has not begun, and is raised."""
    with deaf_to_interrupts():  # a process starts when it is given its first job
        futures = [pool.submit(job, *each) for each in arguments]
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
    """The ablation's processes. After an error those at work finish their jobs, which are kept; Ctrl-C ends them at
    once."""
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
    """Give a worker its share of the cores, and have it end when the process that made it does, however that ends."""
    import torch

    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(max(1, multiprocessing.cpu_count() // workers))


def _follow() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _tell(message: str) -> None:
    """Say an event in a process of the ablation."""
    print(message, file=sys.stderr, flush=True)


TOLD = replace(SILENT, say=_tell)
"""The report of a step that a process of the ablation makes: events are said, progress is that of the whole
ablation."""


def _make(step: Step) -> None:
    step.make(TOLD)


def _train_and_score(experiment: Experiment, names: list[str]) -> None:
    """Train some runs that share a reduction, and write their score tables."""
    recipes = Recipes(experiment)
    if experiment.run(names[0]).head.kept() is None:  # a head that takes maps, which is trained on the cache itself
        for name in names:
            TrainHead(recipes, name).make(TOLD)
            ScoreVideos(recipes, name).make(TOLD)
        return
    failed: dict[str, PipelineError] = {}
    steps = {name: TrainHead(recipes, name) for name in names}
    with ExitStack() as stack:
        # A stack is trained as one, so its heads are claimed together; in one order, so that no two processes wait for
        # each other.
        for folder in sorted({step.output() for step in steps.values() if not step.complete()}):
            stack.enter_context(locked(folder, _tell))
        missing = [name for name, step in steps.items() if not step.complete()]
        if missing:
            failed = _train(recipes, missing)
    for name in (name for name in names if name not in failed):
        ScoreVideos(recipes, name).make(TOLD, partial(_score_reduced, recipes, name))
    if failed:
        raise PipelineError("\n".join(str(error) for error in failed.values()))


def _train(recipes: Recipes, names: Sequence[str]) -> dict[str, PipelineError]:
    """Train the heads of some runs on their common reduction, whose locks the caller holds: several as a stack, one
    alone.

    Returns what went wrong with those of a stack that could not be trained; the others are kept.
    """
    from cache import FeatureStore
    from pipeline.stages.common.feature_recipe import training_recipe
    from pipeline.stages.training.bags_on_disk import read_training
    from pipeline.stages.training.joint import fit_jointly
    from pipeline.stages.training.train import train_on, write_head, write_losses
    from pipeline.stages.training.training_set import check_shape, gather

    experiment, manifest, namespace = recipes.experiment, usable_manifest(recipes), recipes.namespace("train")
    runs = [experiment.run(name) for name in names]
    bags, standardizer = read_training(recipes.reduced_folder(names[0], "train"), runs[0].head.standardize_offset)
    features = training_recipe(FeatureStore.open(experiment.paths.cache), namespace, bags.video_ids)
    material = gather(runs[0], manifest, bags, standardizer, features)
    for name, run in zip(names, runs, strict=True):
        check_shape(name, run.head, namespace, run.head.k, bags.patterns.shape[2])
    if len(runs) == 1:
        fill_folder(
            recipes.head_folder(names[0]), lambda folder: train_on(experiment, runs[0], manifest, material, folder)
        )
        return {}
    judges = [material.validation(run.head) for run in runs]
    validations = judges if material.held_out else None
    trained = fit_jointly(material.bags, material.labels, runs, len(manifest.classes), validations)
    failed: dict[str, PipelineError] = {}
    for name, run, result, judge in zip(names, runs, trained, judges, strict=True):
        if isinstance(result, PipelineError):
            failed[name] = result
            continue
        module, history = result

        def write(folder: Path, run=run, module=module, history=history, judge=judge) -> None:
            keep_if_made_from(folder, "a stack")  # nothing of a training of this head alone that failed
            write_losses(folder, history)
            write_head(folder, run, module, material, judge, manifest.classes)

        fill_folder(recipes.head_folder(name), write)
    return failed


def _score_reduced(recipes: Recipes, name: str, folder: Path, report: Report) -> None:
    """Score the test videos from their reduced windows."""
    from pipeline.stages.scoring.score import score_split
    from pipeline.stages.training.bags_on_disk import read_windows

    namespace, head = recipes.namespace("test"), recipes.head_folder(name)
    windows = partial(read_windows, recipes.reduced_folder(name, "test"))
    score_split(recipes.experiment, name, usable_manifest(recipes), namespace, head, folder, report.progress, windows)


def _score_reduced(recipes: Recipes, name: str, folder: Path, report: Report) -> None:
    """Score the test videos from their reduced windows."""
    from pipeline.stages.scoring.score import score_split
    from pipeline.stages.training.bags_on_disk import read_windows

    namespace, head = recipes.namespace("test"), recipes.head_folder(name)
    windows = partial(read_windows, recipes.reduced_folder(name, "test"))
    score_split(recipes.experiment, name, usable_manifest(recipes), namespace, head, folder, report.progress, windows)
