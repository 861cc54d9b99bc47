"""Ablations: many settings and seeds of one experiment on shared features, in parallel processes, to one table.

The order is: the features of every backbone, picture and sampling; every reduction, once; heads and score tables, with
heads trained jointly where possible (`pipeline.stages.training.joint`); and, only when all of these are there, the
metrics on the test videos. Nothing is chosen on the test videos: the setting that the table marks is the best on the
validation split. Finished parts are kept, so an interrupted ablation can be continued. Runs are named by content, so
another ablation with the same settings uses them too.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from pipeline.ablation.features import check_weights, left_out
from pipeline.ablation.jobs import make, train_and_score
from pipeline.config import Experiment, digest
from pipeline.config.ablation import Plan
from pipeline.data.decoding.following import deaf_to_interrupts
from pipeline.errors import PipelineError
from pipeline.hashing import file_sha256
from pipeline.progress import Say
from pipeline.stages.common.digests import VERSIONS
from pipeline.stages.common.mirror import is_made
from pipeline.stages.common.outputs import fetch_folder, keep_if_made_from, make_folder
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import (
    SILENT,
    ExtractFeatures,
    Manifest,
    ReduceTest,
    ReduceTraining,
    Report,
    ScoreVideos,
    TrainHead,
    ensure,
)

__all__ = ["ablation_folder", "check_quarantines", "quarantines_accepted", "run_ablation"]

JOINT_HEADS = 32  # heads trained as one; with more of them a step is not cheaper per head
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
    from pipeline.ablation.judging import write_setting
    from pipeline.ablation.table import write_table

    check_weights(plan)
    recipes = {id(experiment): _features(experiment, report) for experiment in plan.experiments}
    final = ablation_folder(plan)
    if is_made(final):
        fetch_folder(final, report.say)
        return final
    runs_of_settings = [(setting, run) for setting in plan.settings for run in dict.fromkeys(setting.runs)]
    training: list[Job] = []
    testing: list[Job] = []
    heads: list[Job] = []
    for own in recipes.values():
        runs = list(dict.fromkeys(run for setting, run in runs_of_settings if setting.experiment is own.experiment))
        runs = [run for run in runs if not is_made(own.scores_folder(run))]
        reduced = [run for run in runs if own.experiment.run(run).head.kept() is not None]
        reductions = {own.reduced_folder(run, "test"): run for run in reduced}.values()
        training += [partial(make, ReduceTraining(own, run)) for run in reductions]
        reduced = [run for run in reduced if own.experiment.run(run).scoring.takes_reduced]
        reductions = {own.reduced_folder(run, "test"): run for run in reduced}.values()
        testing += [partial(make, ReduceTest(own, run)) for run in reductions]
        heads += [partial(train_and_score, own.experiment, group) for group in _groups(own, runs, workers)]
    with _processes(workers) as pool:
        _do_all(pool, training, report, "reductions of training videos")
        _do_all(pool, testing, report, "reductions of test videos")
        _do_all(pool, heads, report, "groups of heads")

        def build(folder: Path) -> None:
            _fetch_results(plan, recipes, report)
            keep_if_made_from(folder, _inputs(plan, recipes))
            paths = [folder / "figures" / f"{number}.json" for number in range(len(plan.settings))]
            without = left_out(plan)
            for sentence in without.sentences():
                report.say(f"warning: {sentence}")
            jobs = [partial(write_setting, plan, number, without.test, path) for number, path in enumerate(paths)]
            _do_all(pool, jobs, report, "metrics of settings")
            write_table(plan, paths, folder, without)

        make_folder(final, build, report.say)
    fetch_folder(final, report.say)
    return final


def quarantines_accepted(plan: Plan) -> bool:
    """Whether no experiment of a plan has more videos in quarantine than its configuration accepts."""
    return all(Recipes(one).quarantine.within(one.machine.max_quarantined) for one in plan.experiments)


def check_quarantines(plan: Plan, say: Say) -> None:
    """Name the videos that no setting could read, once everything else is done.

    Args:
        plan: an ablation that has been run.
        say: told of those that the configuration accepts.

    Raises:
        QuarantineExceeded: a setting has more of them than its configuration accepts.
    """
    own = {recipes.quarantine.folder: recipes for recipes in map(Recipes, plan.experiments)}
    for recipes in own.values():
        recipes.quarantine.check(recipes.experiment.machine.max_quarantined)
        if ids := recipes.quarantine.ids():
            say(f"without {len(ids)} unreadable video(s): {', '.join(ids)}")


def _fetch_results(plan: Plan, recipes: Mapping[int, Recipes], report: Report) -> None:
    """Bring to this machine what the metrics are made from, if other machines have made some of it."""
    for own in recipes.values():
        Manifest(own).fetch(report.say)
    for setting in plan.settings:
        for run in setting.runs:
            TrainHead(recipes[id(setting.experiment)], run).fetch(report.say)
            ScoreVideos(recipes[id(setting.experiment)], run).fetch(report.say)


def _inputs(plan: Plan, recipes: Mapping[int, Recipes]) -> str:
    """Identifies the score tables and the validation results from which the metrics of all settings are made."""
    files = []
    for setting in plan.settings:
        own = recipes[id(setting.experiment)]
        for run in setting.runs:
            files += [own.scores_folder(run) / "index.json", own.head_folder(run) / "selection.json"]
    return digest([file_sha256(file) if file.exists() else None for file in files])


def _features(experiment: Experiment, report: Report) -> Recipes:
    """Make the manifest and the features of an experiment; returns its recipes."""
    recipes = Recipes(experiment)
    for split in ("train", "test"):
        ensure(ExtractFeatures(recipes, split), lambda step: nullcontext(report))
    return Recipes(experiment)


def _groups(recipes: Recipes, runs: Sequence[str], workers: int) -> list[list[str]]:
    """Groups of runs that are trained together, enough for all workers."""
    from pipeline.stages.training.joint import joint_key

    groups: dict[object, list[str]] = {}
    for run in runs:
        key = joint_key(recipes.experiment.run(run)) if not is_made(recipes.head_folder(run)) else None
        groups.setdefault((recipes.reduced_folder(run, "train"), key) if key else run, []).append(run)
    trained_together: list[list[str]] = []
    for members in groups.values():
        size = min(JOINT_HEADS, -(-len(members) // workers))
        trained_together += [members[i : i + size] for i in range(0, len(members), size)]
    return trained_together


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
    share = max(1, len(os.sched_getaffinity(0)) // workers)
    torch.set_num_threads(min(share, torch.get_num_threads()))  # fewer where OMP_NUM_THREADS says so


def _follow() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a worker
    parent.join()
    os._exit(1)
