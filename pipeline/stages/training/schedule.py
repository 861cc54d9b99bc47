"""The learning rate of every step of a training.

It is a function of the step alone, so that a resumed training goes on with the rates that it would have had. With w
steps of warm-up and a cosine over S steps, step t (from 0) has the share

    (t + 1) / w                              in the warm-up, t < w
    (1 + cos(pi (t - w) / (S - w))) / 2      after it

of the learning rate. Without warm-up that is SGDR's cosine without restarts (Loshchilov, Hutter, ICLR 2017), which
`torch.optim.lr_scheduler.CosineAnnealingLR` computes.
"""

from __future__ import annotations

import math

from pipeline.config import Training
from pipeline.errors import ConfigError

__all__ = ["Schedule"]


class Schedule:
    """The learning rate of a training's steps, as a share of `training.learning_rate`.

    Args:
        training: settings.
        epoch_steps: steps of a whole epoch.
        steps: steps of the training.

    Raises:
        ConfigError: the warm-up takes all steps, or the cosine is at zero before the training ends.
    """

    def __init__(self, training: Training, epoch_steps: int, steps: int) -> None:
        self.warmup, self.epoch_steps = training.warmup_steps, epoch_steps
        self.cosine, self.by_epoch = training.schedule != "constant", training.schedule == "cosine_by_epoch"
        self.end = training.schedule_epochs * epoch_steps if training.schedule_epochs else steps
        if self.warmup >= steps:
            raise ConfigError(
                f"training.warmup_steps: expected fewer than the {steps} steps of this training, got {self.warmup}"
            )
        if self.end < steps:
            raise ConfigError(
                f"training.schedule_epochs: expected at least the {steps} steps of this training, got "
                f"{training.schedule_epochs} epochs of {epoch_steps} steps"
            )

    def share(self, step: int) -> float:
        """Share of the learning rate in a step, counted from 0 over the whole training; in [0, 1]."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if not self.cosine:
            return 1.0
        at = step - step % self.epoch_steps if self.by_epoch else step
        return (1 + math.cos(math.pi * max(0, at - self.warmup) / (self.end - self.warmup))) / 2
