"""The training loop of the end-to-end stage.

All that is random follows from (seed, epoch, video). So an interrupted training continues from its last checkpoint and
ends with the same weights, and the number of decoder processes and the grouping of bags change nothing but rounding.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from pipeline.config import Experiment, Run
from pipeline.config.heads import GigHead
from pipeline.errors import PipelineError
from pipeline.models.live import LiveModel
from pipeline.progress import Progress
from pipeline.stages.common.checkpoints import latest_checkpoint, save_checkpoint, unfit_checkpoint
from pipeline.stages.finetuning.clips import Ahead, ClipSource
from pipeline.stages.finetuning.optimisation import accumulate, learning_rate_factor, make_optimizer, restore, trained
from pipeline.stages.finetuning.team import Team
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.train import TERMS
from pipeline.stages.training.validation import LiveValidation, loss_settings

__all__ = ["CHECKPOINTS", "FineTuning", "LabelledVideos", "State"]

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class LabelledVideos:
    """The training videos, divided.

    Attributes:
        fitting: ids of the videos to fit, sorted.
        validation: ids of the validation split, sorted; empty without one.
        labels: (1 + C,) float32 by id, of all of them.
    """

    fitting: tuple[str, ...]
    validation: tuple[str, ...]
    labels: dict[str, torch.Tensor]


@dataclass
class State:
    """How far a training is; part of a checkpoint.

    Attributes:
        epoch: the present one, from 1.
        done: its steps done.
        steps: all steps done.
        sums: of the loss terms in the present epoch.
        history: mean loss terms of the epochs done.
        best: the best weights on the validation split so far, by name.
    """

    epoch: int = 1
    done: int = 0
    steps: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 0.0))
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] | None = None


class FineTuning:
    """One training: the loop, and what it carries from step to step.

    Args:
        experiment: settings.
        run: that is fine-tuned; its head is `gig`.
        model: is trained, on its device.
        data: the videos.
        source: decodes them.
        folder: of the checkpoints.
        member: this process among those that train together.
        progress: told the steps done.
        board: for TensorBoard events; None in processes that write none.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: Run,
        model: LiveModel,
        data: LabelledVideos,
        source: ClipSource,
        folder: Path,
        member: Team,
        progress: Progress | None,
        board: SummaryWriter | None,
    ) -> None:
        assert isinstance(run.head, GigHead), "the configuration refuses to fine-tune other heads"
        self.settings, self.machine, self.run = experiment.finetune, experiment.machine, run
        self.loss_settings = loss_settings(run.head)
        self.model, self.data, self.source = model, data, source
        self.folder, self.member, self.progress, self.board = folder, member, progress, board
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, self.settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.settings.precision == "float16")
        self.validation: LiveValidation | None = None
        if data.validation:
            self.validation = LiveValidation(torch.stack([data.labels[v] for v in data.validation]), run.head)
        self.steps_per_epoch = math.ceil(len(data.fitting) / self.settings.batch_bags)
        self.state = State()
        self._steps_here, self._seconds = 0, 0.0

    @property
    def steps_per_s(self) -> float | None:
        """Speed of the steps that this process took, waiting for decoders included; None when there were none."""
        return self._steps_here / self._seconds if self._steps_here else None

    def run_all(self) -> None:
        """Train all epochs, or until early stopping; then load the best weights into the model."""
        self._resume()
        if self.validation and not self.validation.aucs:
            self._validate(self.validation)
        while self.state.epoch <= self.settings.epochs and not self._exhausted():
            self._epoch()
        if self.state.best:
            restore(self.model, self.state.best)
        self.model.eval()

    def _epoch(self) -> None:
        """Train on every video once; a resumed epoch begins at the step of its checkpoint."""
        state = self.state
        self.model.head.train()
        batches = self._batches()[state.done :]
        mine = [video_id for batch in batches for video_id in self.member.share(batch)]
        clips = Ahead(self.source.epoch(mine, state.epoch), self.device)
        for batch in batches:
            started = time.monotonic()
            sums = self._step(batch, clips)
            state.sums = {term: value + sums[term] for term, value in state.sums.items()}
            state.done, state.steps = state.done + 1, state.steps + 1
            self._steps_here, self._seconds = self._steps_here + 1, self._seconds + time.monotonic() - started
            if state.steps % self.machine.checkpoint_steps == 0 and state.done < self.steps_per_epoch:
                self._save()
            self._report(f"fine-tuning, epoch {state.epoch}, loss {sums['total'] / len(batch):.4f}")
        self._end_epoch()

    def _batches(self) -> list[list[str]]:
        """The videos of every step of the present epoch, in the epoch's own order."""
        fitting, size = self.data.fitting, self.settings.batch_bags
        order = np.random.default_rng([self.settings.seed, self.state.epoch]).permutation(len(fitting))
        return [[fitting[i] for i in order[start : start + size]] for start in range(0, len(order), size)]

    def _step(self, batch: Sequence[str], clips: Ahead) -> dict[str, float]:
        """One step of the optimiser, with the other processes. Returns the loss terms summed over the batch."""
        state, settings, member = self.state, self.settings, self.member
        factor = learning_rate_factor(state.steps, settings, settings.epochs * self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self.optimizer.zero_grad()
        own = accumulate(
            self.model,
            clips,
            member.share(batch),
            self.data.labels,
            self.loss_settings,
            batch=len(batch),
            draw=f"{settings.seed} {state.epoch}",
            at_once=self.machine.finetune_bags,
            scaler=self.scaler,
            empty=self.source.empty,
        )
        everyones = member.gather(own)
        sums = {term: sum(each[term] for each in everyones) for term in TERMS}
        if not math.isfinite(sums["total"]):
            raise PipelineError(
                f"fine-tuning: the loss is {sums['total']} in epoch {state.epoch}; lower the learning rates"
            )
        member.sum_gradients(trained(self.model).values())
        self.scaler.unscale_(self.optimizer)
        if settings.clip_norm:
            for group in self.optimizer.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return sums

    def _end_epoch(self) -> None:
        """Note the epoch's losses, judge the model and save."""
        state = self.state
        means = {term: value / len(self.data.fitting) for term, value in state.sums.items()}
        state.history.append(means)
        broken = [name for name, value in trained(self.model).items() if not torch.isfinite(value).all()]
        if broken:
            raise PipelineError(
                f"fine-tuning: {broken[0]} holds values that are not finite after epoch {state.epoch}; "
                "lower the learning rates"
            )
        state.epoch, state.done, state.sums = state.epoch + 1, 0, dict.fromkeys(TERMS, 0.0)
        if self.validation:
            self._validate(self.validation)
        self._plot(len(state.history), means)
        self._save()

    def _validate(self, validation: LiveValidation) -> None:
        """Encode the validation clips, a part in each process, and judge the model; all processes judge the same."""
        self._report("fine-tuning, validation split")
        mine = self.member.share(self.data.validation)
        parts: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        with torch.no_grad():
            for video_id, views in zip(mine, self.source.views(mine), strict=True):
                empty = self.source.empty([video_id])
                found = [
                    self.model.reduce(self.model.maps(torch.from_numpy(view[None]).to(self.device), empty))
                    for view in views
                ]
                cues, patterns = (torch.cat(kind).cpu() for kind in zip(*found, strict=True))
                parts[video_id] = cues, patterns
        everyones = {video_id: pair for part in self.member.gather(parts) for video_id, pair in part.items()}
        cues, patterns = (torch.stack([everyones[v][kind] for v in self.data.validation]) for kind in (0, 1))
        bags = Bags(self.data.validation, cues, patterns)
        if validation.judge(bags, copy.deepcopy(self.model.head).cpu().eval()):
            self.state.best = {name: value.detach().cpu().clone() for name, value in trained(self.model).items()}

    def _exhausted(self) -> bool:
        """Whether early stopping ends the training."""
        patience, best_epoch = self.settings.patience_epochs, self.validation.best_epoch if self.validation else None
        if not patience or self.validation is None or best_epoch is None:
            return False
        return len(self.validation.aucs) - 1 - best_epoch >= patience

    def _report(self, message: str) -> None:
        if self.progress:
            self.progress(self.state.steps, self.settings.epochs * self.steps_per_epoch, message)

    def _save(self) -> None:
        if self.member.rank:
            return
        state = {
            "state": vars(self.state),
            "weights": {name: value.detach() for name, value in trained(self.model).items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "validation": {"aucs": self.validation.aucs, "losses": self.validation.losses} if self.validation else None,
        }
        save_checkpoint(self.folder / CHECKPOINTS, self.state.steps, state, self.machine.keep_checkpoints)

    def _resume(self) -> None:
        """Load the newest readable checkpoint, if there is one."""
        found = latest_checkpoint(self.folder / CHECKPOINTS, torch.device("cpu"))
        if found is None:
            return
        try:
            self.state = State(**found["state"])
            restore(self.model, found["weights"])
            self.optimizer.load_state_dict(found["optimizer"])
            self.scaler.load_state_dict(found["scaler"])
            if self.validation:
                judged = found["validation"]
                self.validation.aucs, self.validation.losses = judged["aucs"], judged["losses"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise unfit_checkpoint(self.folder / CHECKPOINTS, error) from error
        for epoch, means in enumerate(self.state.history, start=1):
            self._plot(epoch, means)

    def _plot(self, epoch: int, means: dict[str, float]) -> None:
        """Write an epoch to TensorBoard."""
        if self.board is None:
            return
        for term, value in means.items():
            self.board.add_scalar(f"loss/{term}", value, epoch)
        if self.validation:
            self.board.add_scalar("validation/video_auc", self.validation.aucs[epoch], epoch)
            self.board.add_scalar("validation/loss", self.validation.losses[epoch], epoch)
