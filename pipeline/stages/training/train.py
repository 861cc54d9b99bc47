"""Stage 2: train a head on the cached features.

One pass reduces the maps to bags; the epochs then run on those (`pipeline.stages.training.learner`).
"""

from __future__ import annotations

import csv
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from cache import FeatureStore
from pipeline.config import Experiment, Run, to_yaml
from pipeline.data.manifest import Manifest
from pipeline.models.heads import HeadModule
from pipeline.models.heads.gig import GIGHead
from pipeline.progress import Progress, Say, silent
from pipeline.stages.common.checkpoints import unfit_checkpoint
from pipeline.stages.common.feature_recipe import training_recipe
from pipeline.stages.common.malloc import heap_kept
from pipeline.stages.common.outputs import whole_file
from pipeline.stages.training.bags import Bags, CachedBags
from pipeline.stages.training.joint import JointLearner, joint_key
from pipeline.stages.training.learner import Learner, ModuleLearner, diverged, epoch_count, epochs
from pipeline.stages.training.on_cluster import reduction_of
from pipeline.stages.training.reduce import reduce_bags
from pipeline.stages.training.saved_heads import make_head, save_head
from pipeline.stages.training.training_set import (
    Material,
    check_shape,
    gather,
    held_out_videos,
    training_standardizer,
    used_videos,
)
from pipeline.stages.training.validation import Validation

__all__ = ["TERMS", "fit_head", "train_head", "train_on", "write_head", "write_losses"]

CHECKPOINT = "checkpoint.pt"
TERMS = ("total", "video", "segment", "classes", "sparse")  # of the VS loss


def train_head(
    experiment: Experiment,
    run_name: str,
    manifest: Manifest,
    namespace: str,
    folder: Path,
    progress: Progress | None = None,
    say: Say = silent,
) -> None:
    """Train one run's head on the features of the training split and write it to `folder`.

    Writes head.safetensors (weights, channel statistics), losses.csv, TensorBoard events and config.yaml; with a
    validation split selection.json too.
    """
    run = experiment.run(run_name)
    store = FeatureStore.open(experiment.paths.cache)
    entries = used_videos(run, manifest.split("train"))
    _, segments, rows, columns, _ = store.reader(namespace, min(entry.video_id for entry in entries)).shape
    check_shape(run_name, run.head, namespace, rows * columns, segments)
    reduction, held_out = reduction_of(experiment, store, namespace, say), held_out_videos(run, manifest.split("train"))
    standardizer = training_standardizer(run, store, namespace, entries, held_out, progress, reduction)
    ids = [entry.video_id for entry in entries]
    features = training_recipe(store, namespace, ids)
    bags = reduce_bags(store, namespace, ids, run.head, standardizer, progress, reduction)
    train_on(experiment, run, manifest, gather(run, manifest, bags, standardizer, features), folder, progress)


def train_on(
    experiment: Experiment,
    run: Run,
    manifest: Manifest,
    material: Material,
    folder: Path,
    progress: Progress | None = None,
) -> None:
    """Train one run's head on reduced bags and write it to `folder`, as `train_head` does."""
    folder.mkdir(parents=True, exist_ok=True)
    validation = material.validation(run.head)
    module = fit_head(
        material.bags,
        material.labels,
        run,
        len(manifest.classes),
        folder,
        progress,
        checkpoint_epochs=experiment.machine.checkpoint_epochs,
        validation=validation,
    )
    write_head(folder, run, module, material, validation, manifest.classes)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def write_head(
    folder: Path,
    run: Run,
    module: HeadModule,
    material: Material,
    validation: Validation | None,
    classes: tuple[str, ...],
) -> None:
    """Write the results of a training, without its loss curves."""
    if validation:
        validation.write(folder, module, classes)
    save_head(folder / "head.safetensors", module, run.head, material.standardizer, classes, material.features)
    (folder / "config.yaml").write_text(to_yaml(run), encoding="utf-8")


def fit_head(
    bags: Bags | CachedBags,
    labels: torch.Tensor,
    run: Run,
    classes: int,
    folder: Path,
    progress: Progress | None = None,
    checkpoint_epochs: int = 10,
    validation: Validation | None = None,
) -> HeadModule:
    """Train a head on reduced bags: in every epoch one view of every video, in a seeded order.

    Where `folder` holds the checkpoint of an interrupted training, this continues from there and ends with the same
    weights.

    Args:
        bags: N reduced videos.
        labels: (N, 1 + C) float32 multi-hot, column 0 Normal, in the order of the bags.
        run: settings.
        classes: C.
        folder: where losses.csv and TensorBoard events go.
        progress: called once per epoch.
        checkpoint_epochs: epochs from one checkpoint to the next.
        validation: judges the head after every epoch; without it the last epoch is kept.

    Returns:
        The trained head, in evaluation mode, with the weights of the last epoch or of the best one on the validation
        split.

    Raises:
        PipelineError: the loss or a weight is not finite after an epoch; that epoch leaves no checkpoint.
    """
    training = run.training
    head = make_head(run.head, training, bags.cues.shape[-1], classes)
    generator = torch.Generator().manual_seed(training.seed)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    history: list[dict[str, float]] = []
    generators = torch.random.fork_rng(devices=[])
    with generators, heap_kept(torch.device("cpu")), SummaryWriter(folder / "tensorboard") as board:
        torch.manual_seed(training.seed)  # dropout draws from the global generator
        if any(parameter.requires_grad for parameter in head.parameters()):
            learner = _learner(head, run)
            history = _resume(folder / CHECKPOINT, learner, generator, validation)
            for done, written in enumerate(history, start=1):
                _plot(board, done, written)
            head.train()
            last = epoch_count(training, labels, learner.pairs)
            for epoch, means in epochs(learner, bags, labels, training, generator, len(history) + 1):
                history.append({term: value.item() for term, value in means.items()})
                _plot(board, epoch, history[-1])
                if error := diverged(head, history[-1]["total"], epoch, run):
                    raise error
                if validation:
                    validation.consider(head)
                if epoch % checkpoint_epochs == 0 and epoch < last:
                    _checkpoint(folder / CHECKPOINT, learner, generator, validation, history)
                if progress:
                    progress(epoch, last, f"training, loss {history[-1]['total']:.4f}")
    write_losses(folder, history)
    if validation and validation.state:
        head.load_state_dict(validation.state)
    return head.eval()


def _learner(head: HeadModule, run: Run) -> Learner:
    """The faster of the two learners where the run allows it."""
    if isinstance(head, GIGHead) and joint_key(run):
        return JointLearner([head], [run])
    return ModuleLearner(head, run.training)


def write_losses(folder: Path, history: Sequence[dict[str, float]]) -> None:
    """Write losses.csv: one line per epoch with the mean of every term."""
    with (folder / "losses.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["epoch", *(history[0] if history else ())])
        table.writerows(
            [epoch, *(f"{value:.6f}" for value in means.values())] for epoch, means in enumerate(history, start=1)
        )


def _plot(board: SummaryWriter, epoch: int, means: dict[str, float]) -> None:
    for term, value in means.items():
        board.add_scalar(f"loss/{term}", value, epoch)


def _checkpoint(
    path: Path,
    learner: Learner,
    generator: torch.Generator,
    validation: Validation | None,
    history: list[dict[str, float]],
) -> None:
    """Write all that the next epochs depend on to one file, which is replaced atomically."""
    state = {
        "learner": learner.state_dict(),
        "order": generator.get_state(),
        "dropout": torch.get_rng_state(),
        "validation": validation.checkpoint() if validation else None,
        "history": history,
    }
    with whole_file(path) as partial, partial.open("wb") as stream:
        torch.save(state, stream)


def _resume(
    path: Path,
    learner: Learner,
    generator: torch.Generator,
    validation: Validation | None,
) -> list[dict[str, float]]:
    """Load a checkpoint, if there is a readable one. Returns the mean loss terms of the epochs done."""
    try:
        state = torch.load(path, weights_only=True)
        learned = state["learner"]
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
        return []  # there is none, it was cut short, or another version wrote it: start from the beginning
    try:
        learner.load_state_dict(learned)
        generator.set_state(state["order"])
        torch.set_rng_state(state["dropout"])
        if validation:
            validation.restore(state["validation"])
        return list(state["history"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise unfit_checkpoint(path, error) from error
