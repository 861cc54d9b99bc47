"""The parts of a fine-tuning step: gradients of the bags of a batch, the optimiser and its learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from pipeline.config import Finetune
from pipeline.models.live import LiveModel
from pipeline.models.losses import LossSettings, vs_loss
from pipeline.stages.finetuning.clips import Ahead
from pipeline.stages.training.train import TERMS

__all__ = ["accumulate", "learning_rate_factor", "make_optimizer", "restore", "trained"]

Empty = Callable[[Sequence[str]], torch.Tensor | None]


def accumulate(
    model: LiveModel,
    clips: Ahead,
    video_ids: Sequence[str],
    labels: Mapping[str, torch.Tensor],
    settings: LossSettings,
    *,
    batch: int,
    draw: str,
    at_once: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    empty: Empty | None = None,
) -> dict[str, float]:
    """Add the gradients of some bags of a batch to the parameters, a few bags at a time.

    Args:
        model: is trained.
        clips: the bags, in the order of `video_ids`. While a GPU computes, the next ones are made; these may lie beyond
            `video_ids`.
        video_ids: of the bags.
        labels: (1 + C,) float32 by id.
        settings: of the loss.
        batch: bags of the whole batch, over which the loss is a mean.
        draw: the seed of a bag's dropout is made of this and the video's id.
        at_once: bags in memory together.
        scaler: of the loss, for float16.
        empty: the empty cells of the maps of some videos, see `ClipSource.empty`.

    Returns:
        Sums of the loss terms over these bags.
    """
    device = next(model.parameters()).device
    sums = dict.fromkeys(TERMS, 0.0)
    for i in range(0, len(video_ids), at_once):
        some = video_ids[i : i + at_once]
        wanted = torch.stack([labels[v] for v in some]).to(device)  # waits for a GPU, so it comes first
        outputs = model.outputs(clips.take(len(some)), [f"{draw} {v}" for v in some], empty(some) if empty else None)
        losses = [
            vs_loss(output.video_logits, output.segment_logits, label[None], settings)
            for output, label in zip(outputs, wanted, strict=True)
        ]
        totals = [loss.total for loss in losses]
        total = sum(totals[1:], start=totals[0]) / batch
        (scaler.scale(total) if scaler else total).backward()
        clips.prepare(at_once)
        terms = [loss.by_name() for loss in losses]
        found = torch.stack([torch.stack([each[term].detach() for each in terms]).sum() for term in TERMS]).tolist()
        sums = {term: sums[term] + value for term, value in zip(TERMS, found, strict=True)}
    return sums


def make_optimizer(model: LiveModel, settings: Finetune) -> torch.optim.Optimizer:
    """The optimiser of all trained weights.

    It has one group for the backbone and one for the head; a group's `peak` is its highest learning rate.
    """
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "peak": peak, "lr": peak}
        for module, peak in (
            (model.network, settings.backbone_learning_rate),
            (model.head, settings.head_learning_rate),
        )
    ]
    kinds: dict[str, type[torch.optim.Adagrad | torch.optim.AdamW]] = {
        "adagrad": torch.optim.Adagrad,
        "adamw": torch.optim.AdamW,
    }
    return kinds[settings.optimizer](groups, weight_decay=settings.weight_decay)


def learning_rate_factor(step: int, settings: Finetune, steps: int) -> float:
    """Share of the peak learning rate in a step: linear warm-up, then constant or half a cosine.

    Args:
        step: from 0.
        settings: of the fine-tuning.
        steps: of the whole training.
    """
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)))


def trained(model: LiveModel) -> dict[str, torch.nn.Parameter]:
    """The weights that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def restore(model: LiveModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Set the trained weights, by name."""
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.copy_(weights[name])
