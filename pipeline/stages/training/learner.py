"""Training: the epochs over reduced bags, and one head by autograd. `stack`, beside this, trains `gig` heads without
autograd."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch

from pipeline.config import Run, Training
from pipeline.errors import ConfigError, PipelineError
from pipeline.models.heads import HeadModule
from pipeline.stages.training.bags import Bags, CachedBags

__all__ = ["Learner", "ModuleLearner", "diverged", "draw_batches", "epoch_count", "epochs"]


class Learner(Protocol):
    """One head or several that see the same batches.

    Attributes:
        pairs: as of `HeadModule`.
    """

    pairs: bool

    def step(self, cues: torch.Tensor, patterns: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step on what `Bags.take` gives of B bags and labels (B, 1 + C); returns the terms of the loss before it,
        each () or, of R heads, (R,)."""

    def write(self) -> None:
        """Bring the heads up to date."""

    def state_dict(self) -> dict:
        """What `load_state_dict` needs to go on."""

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state."""


class ModuleLearner:
    """A head of any kind, its loss by autograd, and the optimiser that the settings name."""

    def __init__(self, head: HeadModule, training: Training) -> None:
        self.head, self.pairs = head.train(), head.pairs
        kind = {"adagrad": torch.optim.Adagrad, "adam": torch.optim.Adam}[training.optimizer]
        self.trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
        self.clip_norm = training.clip_norm
        self.optimizer = kind(self.trained, lr=training.learning_rate, weight_decay=training.weight_decay)

    def step(self, cues: torch.Tensor, patterns: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """As `Learner`; where scores are nan, of which torch's cross entropy makes an error, the total alone, nan, and
        no step."""
        output = self.head(cues, patterns)
        if torch.isnan(output.segment_logits).any():
            return {"total": torch.tensor(math.nan)}
        terms = self.head.loss(output, labels)
        self.optimizer.zero_grad()
        terms["total"].backward()
        if self.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        self.optimizer.step()
        return {name: value.detach() for name, value in terms.items()}

    def write(self) -> None:
        """The head is always up to date."""

    def state_dict(self) -> dict:
        """As `Learner`."""
        return {"head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """As `Learner`."""
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])


def epochs(
    learner: Learner,
    bags: Bags | CachedBags,
    labels: torch.Tensor,
    training: Training,
    generator: torch.Generator,
    first: int = 1,
) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Every epoch one view of every video, in an order that `generator` gives.

    Args:
        learner: whose heads are up to date whenever an epoch is yielded.
        bags: N reduced videos.
        labels: (N, 1 + C) float32 multi-hot, column 0 Normal, in the order of the bags.
        training: settings.
        generator: of orders and views; dropout draws from torch's global generator.
        first: epoch, from 1.

    Yields:
        The epoch and the means of the terms, float64.
    """
    videos, views = bags.cues.shape[:2]
    for epoch in range(first, epoch_count(training, labels, learner.pairs) + 1):
        batches = draw_batches(labels, training.batch_bags, learner.pairs, generator)
        if training.steps:
            batches = batches[: training.steps - (epoch - 1) * len(batches)]
        view = torch.randint(views, (videos,), generator=generator)
        sums: dict[str, torch.Tensor] = {}
        for batch in batches:
            for name, value in learner.step(*bags.take(batch, view[batch]), labels[batch]).items():
                sums[name] = sums.get(name, 0) + value.double() * len(batch)
        learner.write()
        seen = sum(map(len, batches))
        yield epoch, {name: value / seen for name, value in sums.items()}


def epoch_count(training: Training, labels: torch.Tensor, pairs: bool) -> int:
    """Epochs of a training: those asked for, or as many as its steps begin. Arguments as those of `draw_batches`."""
    if not training.steps:
        return training.epochs
    normal = int((labels[:, 0] > 0).sum())
    bags = max(normal, len(labels) - normal) if pairs else len(labels)
    return math.ceil(
        training.steps / math.ceil(bags / (max(1, training.batch_bags // 2) if pairs else training.batch_bags))
    )


def diverged(head: HeadModule, loss: float, epoch: int, run: Run) -> PipelineError | None:
    """The error of a training that went astray; None where the loss of the epoch and all that the head has learnt are
    finite."""
    broken = [name for name, value in head.state_dict().items() if not torch.isfinite(value).all()]
    if math.isfinite(loss) and not broken:
        return None
    what = (
        f"the loss of {run.head.name} is {loss}"
        if not math.isfinite(loss)
        else f"{run.head.name} holds values that are not finite, in {broken[0]},"
    )
    return PipelineError(
        f"training: {what} in epoch {epoch}, with {run.training.optimizer} and learning rate {run.training.learning_rate:g}; "
        "lower training.learning_rate"
    )


def draw_batches(labels: torch.Tensor, batch_bags: int, pairs: bool, generator: torch.Generator) -> list[torch.Tensor]:
    """One epoch's batches, as indices of bags.

    Args:
        labels: (N, 1 + C), column 0 Normal.
        batch_bags: bags of a batch.
        pairs: every batch holds as many normal as anomalous bags, batch_bags // 2 of each (at least one), the normal
            ones first. Of the kind with more bags each comes once; of the other some come again, in a new order.
        generator: of the order.

    Raises:
        ConfigError: pairs of one kind alone.
    """
    if not pairs:
        return list(torch.randperm(len(labels), generator=generator).split(batch_bags))
    normal = labels[:, 0] > 0
    kinds = [torch.nonzero(which)[:, 0] for which in (normal, ~normal)]
    if not len(kinds[0]) or not len(kinds[1]):
        raise ConfigError(
            f"training: this head needs normal and anomalous videos, got {len(kinds[0])} and {len(kinds[1])}"
        )
    longest = max(map(len, kinds))
    orders = []
    for kind in kinds:
        rounds = -(-longest // len(kind))
        order = torch.cat([kind[torch.randperm(len(kind), generator=generator)] for _ in range(rounds)])
        orders.append(order[:longest].split(max(1, batch_bags // 2)))
    return [torch.cat(both) for both in zip(*orders, strict=True)]
