"""Stage 2: train a head on the cached features.

One pass reduces the maps to bags; the epochs then run on those. The training loop is all of `fit`.
"""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch.utils.tensorboard import SummaryWriter

from cache import FeatureStore
from pipeline.config import Experiment, Head, Run, Training, to_yaml
from pipeline.data.manifest import Manifest
from pipeline.data.partition import carve_validation
from pipeline.errors import ConfigError, WeightsError
from pipeline.models.heads import build_head
from pipeline.models.losses import vs_loss
from pipeline.models.reduction import Standardizer
from pipeline.stages.outputs import whole_file
from pipeline.stages.recipes import Progress
from pipeline.stages.reduce import Bags, fit_standardizer, reduce_bags
from pipeline.stages.select import Validation

__all__ = ["TrainedHead", "fit", "load_head", "train_head"]

CHECKPOINT = "checkpoint.pt"
TERMS = ("total", "video", "segment", "classes", "sparse")


@dataclass(frozen=True)
class TrainedHead:
    """A head in evaluation mode with what it needs before and after it."""

    module: torch.nn.Module
    settings: Head
    standardizer: Standardizer | None
    classes: tuple[str, ...]


def train_head(
    experiment: Experiment,
    run_name: str,
    manifest: Manifest,
    namespace: str,
    folder: Path,
    progress: Progress | None = None,
) -> None:
    """Train one run's head on the features of the training split and write it to `folder`.

    Writes head.safetensors (weights, channel statistics), losses.csv, TensorBoard events and config.yaml; with a validation split
    selection.json too.
    """
    run = experiment.run(run_name)
    store = FeatureStore.open(experiment.paths.cache)
    entries = {entry.video_id: entry for entry in manifest.split("train")}
    _, segments, rows, columns, _ = store.reader(namespace, min(entries)).shape
    if run.head.k > rows * columns or run.head.p > segments:  # imported maps; of others the configuration was checked
        raise ConfigError(
            f"run {run_name}: head.k: expected at most {rows * columns}, the positions of a map in {namespace}, got {run.head.k}; "
            f"head.p: at most {segments}, the segments of a bag, got {run.head.p}"
        )
    selection, standardizer, held_out = run.selection, None, frozenset()
    if selection.validation_share:
        held_out = frozenset(carve_validation(list(entries.values()), selection.validation_share, selection.seed))
    if run.head.standardize:
        fitting = [video_id for video_id in entries if video_id not in held_out]
        standardizer = fit_standardizer(store, namespace, fitting, run.head.standardize_offset, progress)
    bags = reduce_bags(store, namespace, list(entries), run.head, standardizer, progress)
    labels, validation = training_labels(manifest, bags.video_ids, run.training), None
    if held_out:
        kept = torch.tensor([video_id not in held_out for video_id in bags.video_ids])
        validation = Validation(bags.subset(~kept), labels[~kept], run.head.p)
        bags, labels = bags.subset(kept), labels[kept]
    folder.mkdir(parents=True, exist_ok=True)
    every = experiment.machine.checkpoint_epochs
    module = fit(bags, labels, run, len(manifest.classes), folder, progress, checkpoint_epochs=every, validation=validation)
    if validation:
        validation.write(folder, module, manifest.classes)
    save_head(folder / "head.safetensors", module, run.head, standardizer, manifest.classes)
    (folder / "config.yaml").write_text(to_yaml(run), encoding="utf-8")
    (folder / CHECKPOINT).unlink(missing_ok=True)


def training_labels(manifest: Manifest, video_ids: Sequence[str], training: Training) -> torch.Tensor:
    """Multi-hot labels (N, 1 + C) float32 of the videos; shuffled over them, where a control asks for that."""
    entries = {entry.video_id: entry for entry in manifest.split("train")}
    labels = np.stack([manifest.video_labels(entries[video_id]) for video_id in video_ids])
    if training.permute_labels_seed is not None:
        labels = np.random.default_rng(training.permute_labels_seed).permutation(labels)
    return torch.from_numpy(labels)


def make_head(settings: Head, training: Training, channels: int, classes: int) -> torch.nn.Module:
    """A head initialised from the training seed."""
    options = {"dropout": settings.dropout} if settings.name == "gig" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return build_head(settings.name, channels=channels, classes=classes, **options)


def fit(
    bags: Bags,
    labels: torch.Tensor,
    run: Run,
    classes: int,
    folder: Path,
    progress: Progress | None = None,
    checkpoint_epochs: int = 10,
    validation: Validation | None = None,
) -> torch.nn.Module:
    """Train on reduced bags: every epoch one view of every video, in a seeded order.

    Where `folder` holds the checkpoint of a training that was broken off, it goes on from there, to the same weights.

    Args:
        bags: N reduced videos.
        labels: (N, 1 + C) float32 multi-hot, column 0 Normal, in the order of the bags.
        run: settings.
        classes: C.
        folder: where losses.csv and TensorBoard events go.
        progress: called once an epoch.
        checkpoint_epochs: epochs from one checkpoint to the next.
        validation: judges the head after every epoch; without it the last epoch counts.

    Returns:
        The trained head, in evaluation mode, with the weights of the last epoch or of the best one on the validation split.
    """
    settings, training = run.head, run.training
    head = make_head(settings, training, bags.cues.shape[-1], classes)
    parameters = list(head.parameters())
    videos, views = bags.cues.shape[:2]
    generator = torch.Generator().manual_seed(training.seed)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    with torch.random.fork_rng(devices=[]), SummaryWriter(folder / "tensorboard") as board:
        torch.manual_seed(training.seed)  # dropout draws from the global generator
        optimizer = torch.optim.Adagrad(parameters, lr=training.learning_rate) if parameters else None
        history = _resume(folder / CHECKPOINT, head, optimizer, generator, validation) if optimizer else []
        for epoch, means in enumerate(history, start=1):
            _plot(board, epoch, means)
        head.train()
        for epoch in range(len(history) + 1, training.epochs + 1 if optimizer else 0):
            order = torch.randperm(videos, generator=generator)
            view = torch.randint(views, (videos,), generator=generator)
            sums = dict.fromkeys(TERMS, 0.0)
            for batch in order.split(training.batch_bags):
                output = head(bags.cues[batch, view[batch]], bags.patterns[batch, view[batch]])
                terms = vs_loss(
                    output,
                    labels[batch],
                    lambda1=settings.lambda1,
                    lambda2=settings.lambda2,
                    lambda3=settings.lambda3,
                    p=settings.p,
                )
                optimizer.zero_grad()
                terms.total.backward()
                optimizer.step()
                for term in TERMS:
                    sums[term] += getattr(terms, term).item() * len(batch)
            history.append({term: value / videos for term, value in sums.items()})
            _plot(board, epoch, history[-1])
            if validation:
                validation.consider(head)
            if epoch % checkpoint_epochs == 0 and epoch < training.epochs:
                _checkpoint(folder / CHECKPOINT, head, optimizer, generator, validation, history)
            if progress:
                progress(epoch, training.epochs, f"training, loss {history[-1]['total']:.4f}")
    with (folder / "losses.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["epoch", *TERMS])
        table.writerows([epoch, *(f"{means[term]:.6f}" for term in TERMS)] for epoch, means in enumerate(history, start=1))
    if validation and validation.state:
        head.load_state_dict(validation.state)
    return head.eval()


def _plot(board: SummaryWriter, epoch: int, means: dict[str, float]) -> None:
    for term, value in means.items():
        board.add_scalar(f"loss/{term}", value, epoch)


def _checkpoint(
    path: Path,
    head: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    validation: Validation | None,
    history: list[dict[str, float]],
) -> None:
    """All that the next epochs depend on, in one file that is replaced in one step."""
    state = {
        "head": head.state_dict(),
        "optimizer": optimizer.state_dict(),
        "order": generator.get_state(),
        "dropout": torch.get_rng_state(),
        "validation": validation.checkpoint() if validation else None,
        "history": history,
    }
    with whole_file(path) as partial, partial.open("wb") as stream:
        torch.save(state, stream)


def _resume(
    path: Path,
    head: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    validation: Validation | None,
) -> list[dict[str, float]]:
    """Take up a checkpoint where there is a readable one; returns the loss terms of the epochs done."""
    try:
        state = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        return []  # none, or one cut short: begin at the beginning
    head.load_state_dict(state["head"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["order"])
    torch.set_rng_state(state["dropout"])
    if validation:
        validation.restore(state["validation"])
    return list(state["history"])


def save_head(
    path: Path, module: torch.nn.Module, settings: Head, standardizer: Standardizer | None, classes: tuple[str, ...]
) -> None:
    """Write a head as safetensors; its settings and classes are in the metadata."""
    tensors = {f"head.{name}": value.contiguous() for name, value in module.state_dict().items()}
    if standardizer:
        tensors |= {"standardizer.mean": standardizer.mean, "standardizer.std": standardizer.std}
    if not tensors:  # safetensors refuses an empty file
        tensors = {"empty": torch.zeros(1)}
    # One entry: safetensors writes several in no fixed order, and equal heads should be equal files.
    facts = {"settings": settings.model_dump(), "classes": list(classes)}
    path.write_bytes(save(tensors, metadata={"head": json.dumps(facts, sort_keys=True)}))


def load_head(path: Path) -> TrainedHead:
    """Read a head written by `save_head`. Raises WeightsError when it is missing or not one."""
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads(stream.metadata()["head"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
        settings, classes = Head.model_validate(facts["settings"]), tuple(facts["classes"])
    except Exception as error:
        raise WeightsError(f"{path}: not a trained head of this system ({error})") from error
    standardizer = None
    if settings.standardize:
        standardizer = Standardizer(tensors.pop("standardizer.mean"), tensors.pop("standardizer.std"), settings.standardize_offset)
    state = {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
    channels = next((value.shape[-1] for name, value in state.items() if name.endswith("weight")), 0)
    module = make_head(settings, Training(), channels, len(classes))
    module.load_state_dict(state, strict=True)
    return TrainedHead(module.eval(), settings, standardizer, classes)
