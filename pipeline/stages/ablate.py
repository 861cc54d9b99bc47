"""Ablations: many settings and seeds of one experiment on shared features, in parallel processes, to one table.

First the features of every sampling, then every reduction once, then heads and score tables, stacked where they can be
(`pipeline.stages.stack`), and only when all are there the figures on the test videos. Nothing is chosen on those: the setting that
the table marks is the best on the validation split. What is finished is kept, so a broken-off ablation goes on; runs are named by
content, so another ablation with some of the same settings takes them up too.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from pipeline.config import Experiment, Run, digest
from pipeline.config_ablation import Plan, Setting
from pipeline.data.following import deaf_to_interrupts
from pipeline.data.manifest import Manifest
from pipeline.errors import PipelineError
from pipeline.stages.outputs import fill_folder, keep_if_made_from, locked, make_folder
from pipeline.stages.recipes import VERSIONS, Progress, Recipes

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


def run_ablation(plan: Plan, workers: int, progress: Progress | None = None, say: Callable[[str], None] | None = None) -> Path:
    """Do everything of an ablation that is not done yet.

    Args:
        plan: of `load_ablation`.
        workers: processes; each trains with its share of the cores.
        progress: told what goes on.
        say: told whom this process waits for.

    Returns:
        The folder of results.json, results.csv, results.md, results.png and ablation.yaml.
    """
    from pipeline.stages.ablation_table import setting_figures, write_table

    recipes = {}
    for experiment in plan.experiments:
        recipes[id(experiment)] = _features(experiment, progress, say)
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
        training += [(own.experiment, run) for run in reductions]
        testing += [(own.experiment, run) for run in reductions]
        heads += [(own.experiment, stack) for stack in _stacks(own, runs, workers)]
    with _processes(workers) as pool:
        _all(pool, _reduce_training, training, progress, "reductions of training videos")
        _all(pool, _reduce_test, testing, progress, "reductions of test videos")
        _all(pool, _train_and_score, heads, progress, "groups of heads")

        def build(folder: Path) -> None:
            jobs = [(setting, folder / "figures" / f"{number}.json") for number, setting in enumerate(plan.settings)]
            _all(pool, setting_figures, jobs, progress, "figures of settings")
            write_table(plan, [path for _, path in jobs], folder)

        make_folder(final, build, say)
    return final


def _features(experiment: Experiment, progress: Progress | None, say: Callable[[str], None] | None) -> Recipes:
    """The recipes of an experiment whose manifest and features are there."""
    from pipeline.stages.extract import extract_split
    from pipeline.stages.manifest import build_manifest, load_manifest

    recipes = Recipes(experiment)
    make_folder(recipes.manifest_folder(), lambda folder: build_manifest(experiment, folder, progress, say), say)
    manifest = load_manifest(experiment, recipes.manifest_folder())
    for split in ("train", "test"):
        videos, namespace = manifest.split(split), recipes.namespace(split)
        extract_split(experiment, manifest, split, videos, namespace, recipes.quarantine, progress, say=say or _tell)
    recipes.quarantine.check(experiment.machine.max_quarantined)
    return Recipes(experiment)


def _stacks(recipes: Recipes, runs: Sequence[str], workers: int) -> list[list[str]]:
    """Runs that are trained together, enough groups for all workers."""
    from pipeline.stages.stack import stack_key

    groups: dict[object, list[str]] = {}
    for run in runs:
        key = stack_key(recipes.experiment.run(run)) if not recipes.head_folder(run).is_dir() else None
        groups.setdefault((recipes.reduced_folder(run, "train"), key) if key else run, []).append(run)
    stacks = []
    for members in groups.values():
        size = min(STACK_HEADS, -(-len(members) // workers))
        stacks += [members[i : i + size] for i in range(0, len(members), size)]
    return stacks


def _all(pool: ProcessPoolExecutor, job: Callable, arguments: Sequence[tuple], progress: Progress | None, what: str) -> None:
    """Run a job for all arguments. The first error ends the rest that has not begun, and is raised."""
    with deaf_to_interrupts():  # a process starts when it is given its first job
        futures = [pool.submit(job, *each) for each in arguments]
    try:
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            if progress:
                progress(done, len(futures), what)
    except BrokenProcessPool as error:
        raise PipelineError(f"a process of the ablation died ({what}); out of memory? run it again with fewer workers") from error
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """The ablation's processes. After an error those at work finish their jobs, which are kept; Ctrl-C ends them at once."""
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


def _manifest(recipes: Recipes) -> Manifest:
    from pipeline.stages.manifest import load_manifest

    manifest = load_manifest(recipes.experiment, recipes.manifest_folder())
    return manifest.without([record.video_id for record in recipes.quarantine.records()])


def _reduce_training(experiment: Experiment, run: str) -> None:
    from pipeline.stages.reduced import write_training

    recipes = Recipes(experiment)
    namespace = recipes.namespace("train")
    make_folder(
        recipes.reduced_folder(run, "train"),
        lambda folder: write_training(experiment, run, _manifest(recipes), namespace, folder),
        _tell,
    )


def _reduce_test(experiment: Experiment, run: str) -> None:
    from pipeline.stages.reduced import write_test

    recipes = Recipes(experiment)
    facts = experiment, run, _manifest(recipes), recipes.namespace("test"), recipes.reduced_folder(run, "train")
    make_folder(recipes.reduced_folder(run, "test"), lambda folder: write_test(*facts, folder), _tell)


def _train_and_score(experiment: Experiment, names: list[str]) -> None:
    """Train some runs of one reduction, as a stack where they are several, or one that takes maps, and write their score tables."""
    from pipeline.stages.reduced import read_windows
    from pipeline.stages.score import score_split
    from pipeline.stages.train import train_head

    recipes, namespace = Recipes(experiment), Recipes(experiment).namespace("test")
    manifest = _manifest(recipes)
    runs = {name: experiment.run(name) for name in names}
    if runs[names[0]].head.kept() is None:
        for name in names:
            facts = experiment, name, manifest
            make_folder(recipes.head_folder(name), partial(train_head, *facts, recipes.namespace("train")), _tell)
            scoring = partial(score_split, *facts, namespace, recipes.head_folder(name))
            make_folder(recipes.scores_folder(name), scoring, _tell)
        return
    failed: dict[str, PipelineError] = {}
    with ExitStack() as stack:
        # A stack is trained as one, so its heads are claimed together; in one order, so that no two processes wait for each other.
        for folder in sorted({recipes.head_folder(name) for name in names if not recipes.head_folder(name).is_dir()}):
            stack.enter_context(locked(folder, _tell))
        missing = {name: run for name, run in runs.items() if not recipes.head_folder(name).is_dir()}
        if missing:
            failed = _train_stack(experiment, manifest, missing)
    for name in (name for name in names if name not in failed):
        windows = recipes.reduced_folder(name, "test")
        facts = experiment, name, manifest, namespace, recipes.head_folder(name)

        def score(folder: Path, facts=facts, windows=windows) -> None:
            score_split(*facts, folder, reduced=lambda video_id: read_windows(windows, video_id))

        make_folder(recipes.scores_folder(name), score, _tell)
    if failed:
        raise PipelineError("\n".join(str(error) for error in failed.values()))


def _train_stack(experiment: Experiment, manifest: Manifest, runs: Mapping[str, Run]) -> dict[str, PipelineError]:
    """Train heads of one reduction, whose locks the caller holds: as a stack where they are several.

    Returns what went wrong with those of a stack that could not be trained; the others are kept.
    """
    from cache import FeatureStore
    from pipeline.stages.feature_recipe import training_recipe
    from pipeline.stages.material import check_shape, gather
    from pipeline.stages.reduced import read_training
    from pipeline.stages.stack import fit_stack
    from pipeline.stages.train import train_on, write_head, write_losses

    recipes = Recipes(experiment)
    first = next(iter(runs))
    bags, standardizer = read_training(recipes.reduced_folder(first, "train"), runs[first].head.standardize_offset)
    features = training_recipe(FeatureStore.open(experiment.paths.cache), recipes.namespace("train"), bags.video_ids)
    material = gather(runs[first], manifest, bags, standardizer, features)
    for name, run in runs.items():
        check_shape(name, run.head, recipes.namespace("train"), run.head.k, bags.patterns.shape[2])
    if len(runs) == 1:
        fill_folder(recipes.head_folder(first), lambda folder: train_on(experiment, runs[first], manifest, material, folder))
        return {}
    judges = [material.validation(run.head) for run in runs.values()]
    validations = judges if material.held_out else None
    trained = fit_stack(material.bags, material.labels, list(runs.values()), len(manifest.classes), validations)
    failed: dict[str, PipelineError] = {}
    for (name, run), result, judge in zip(runs.items(), trained, judges, strict=True):
        if isinstance(result, PipelineError):
            failed[name] = result
            continue
        module, history = result

        def build(folder: Path, run=run, module=module, history=history, judge=judge) -> None:
            keep_if_made_from(folder, "a stack")  # nothing of a training of this head alone that failed
            write_losses(folder, history)
            write_head(folder, run, module, material, judge, manifest.classes)

        fill_folder(recipes.head_folder(name), build)
    return failed


def setting_runs(setting: Setting) -> list[tuple[Path, Path]]:
    """(head folder, scores folder) of every seed of a setting."""
    recipes = Recipes(setting.experiment)
    return [(recipes.head_folder(run), recipes.scores_folder(run)) for run in setting.runs]
