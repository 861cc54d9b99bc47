"""Training: the epochs over bags, and how one head is trained by autograd.

`pipeline.stages.training.joint` trains `gig` heads without autograd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch

from pipeline.config import Run, Training
from pipeline.errors import ConfigError, PipelineError
from pipeline.models.heads import HeadModule
from pipeline.stages.training.bags import Bags, CachedBags
from pipeline.stages.training.schedule import Schedule

__all__ = ["Learner", "ModuleLearner", "State", "diverged", "draw_batches", "epoch_count", "epochs"]


State = dict[str, Any]
"""What a learner needs to go on, as `torch.save` writes it: tensors, and dictionaries and lists of such."""


class Learner(Protocol):
    """Trains one head, or several that see the same batches.

    Attributes:
        pairs: whether batches must hold as many normal as anomalous bags, the normal ones first.
    """

    pairs: bool

    def step(self, cues: torch.Tensor, patterns: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step.

        Args:
            cues: (B, D).
            patterns: (B, T, D); maps (B, T, H, W, D) for a head that takes maps.
            labels: (B, 1 + C) float32 multi-hot.

        Returns:
            The terms of the loss before the step, each a scalar, or (R,) for R heads.
        """

    def set_rate(self, share: float) -> None:
        """Set the learning rate of the following steps, as a share of that in the settings."""

    def write(self) -> None:
        """Bring the heads up to date."""

    def state_dict(self) -> State:
        """What `load_state_dict` needs to go on."""

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""


class ModuleLearner:
    """Trains a head of any kind by autograd; a `Learner`.

    Args:
        head: is trained in place.
        training: names the optimiser and its settings.
    """

    def __init__(self, head: HeadModule, training: Training) -> None:
        self.head, self.pairs = head.train(), head.pairs
        kind = {"adagrad": torch.optim.Adagrad, "adam": torch.optim.Adam}[training.optimizer]
        self.trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
        self.clip_norm, self.learning_rate = training.clip_norm, training.learning_rate
        self.optimizer = kind(self.trained, lr=training.learning_rate, weight_decay=training.weight_decay)

    def step(self, cues: torch.Tensor, patterns: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step; see `Learner.step`.

        Where scores are nan there is no step, and the only term is a total of nan: torch's cross entropy would raise an
        error that says nothing of the training.
        """
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

    def set_rate(self, share: float) -> None:
        """Set the learning rate of the following steps, as a share of that in the settings."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * share

    def write(self) -> None:
        """Nothing to do: the head is always up to date."""

    def state_dict(self) -> State:
        """What `load_state_dict` needs to go on."""
        return {"head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
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
    """Train: in every epoch one view of every video, in an order drawn from `generator`.

    Args:
        learner: its heads are up to date whenever an epoch is yielded.
        bags: N reduced videos.
        labels: (N, 1 + C) float32 multi-hot, column 0 Normal, in the order of the bags.
        training: settings.
        generator: of orders and views; dropout draws from torch's global generator.
        first: the first epoch to train, from 1.

    Yields:
        The epoch, and the mean of every term over its bags, float64.

    Raises:
        ConfigError: the schedule of the learning rate does not fit the number of steps.
    """
    videos, views = bags.cues.shape[:2]
    each, last = _epoch_steps(training, labels, learner.pairs), epoch_count(training, labels, learner.pairs)
    schedule = Schedule(training, each, training.steps or last * each)
    zero = torch.zeros((), dtype=torch.float64)
    for epoch in range(first, last + 1):
        batches = draw_batches(labels, training.batch_bags, learner.pairs, generator)
        if training.steps:
            batches = batches[: training.steps - (epoch - 1) * each]
        view = torch.randint(views, (videos,), generator=generator)
        sums: dict[str, torch.Tensor] = {}
        for step, batch in enumerate(batches, start=(epoch - 1) * each):
            learner.set_rate(schedule.share(step))
            for name, value in learner.step(*bags.take(batch, view[batch]), labels[batch]).items():
                sums[name] = sums.get(name, zero) + value.double() * len(batch)
        learner.write()
        seen = sum(map(len, batches))
        yield epoch, {name: value / seen for name, value in sums.items()}


def epoch_count(training: Training, labels: torch.Tensor, pairs: bool) -> int:
    """Number of epochs of a training: those in the settings, or as many as its steps take, the last one cut short.

    Args:
        training: settings.
        labels: (N, 1 + C), column 0 Normal.
        pairs: whether batches hold as many normal as anomalous bags.
    """
    return math.ceil(training.steps / _epoch_steps(training, labels, pairs)) if training.steps else training.epochs


def _epoch_steps(training: Training, labels: torch.Tensor, pairs: bool) -> int:
    """Number of batches that `draw_batches` gives for one epoch."""
    bags, size = len(labels), training.batch_bags
    if pairs:
        normal = int((labels[:, 0] > 0).sum())
        bags, size = max(normal, len(labels) - normal), max(1, training.batch_bags // 2)
    return math.ceil(bags / size)


def diverged(head: HeadModule, loss: float, epoch: int, run: Run) -> PipelineError | None:
    """The error of a training that diverged; None where the epoch's loss and all weights of the head are finite."""
    broken = [name for name, value in head.state_dict().items() if not torch.isfinite(value).all()]
    if math.isfinite(loss) and not broken:
        return None
    what = (
        f"the loss of {run.head.name} is {loss}"
        if not math.isfinite(loss)
        else f"{run.head.name} holds values that are not finite, in {broken[0]},"
    )
    return PipelineError(
        f"training: {what} in epoch {epoch}, with {run.training.optimizer} and learning rate "
        f"{run.training.learning_rate:g}; lower training.learning_rate"
    )


def draw_batches(labels: torch.Tensor, batch_bags: int, pairs: bool, generator: torch.Generator) -> list[torch.Tensor]:
    """One epoch's batches, as indices of bags.

    Args:
        labels: (N, 1 + C), column 0 Normal.
        batch_bags: bags of a batch.
        pairs: every batch holds as many normal as anomalous bags, batch_bags // 2 of each (at least one), the normal
            ones first. Bags of the more frequent kind come once; those of the other kind are repeated in a new order.
        generator: of the order.

    Raises:
        ConfigError: pairs are asked for, and one of the kinds has no bags.
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
