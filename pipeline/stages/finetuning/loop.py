"""The training loop of the end-to-end stage.

Whatever is random follows from (seed, epoch, video), so a training that was broken off goes on from its last checkpoint
to the same weights, and neither decoder processes nor the grouping of bags decide anything but rounding.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from pipeline.config import Experiment, Finetune, Run
from pipeline.errors import PipelineError
from pipeline.models.live import LiveModel
from pipeline.models.losses import vs_loss
from pipeline.progress import Progress
from pipeline.stages.common.checkpoints import latest_checkpoint, save_checkpoint, unfit_checkpoint
from pipeline.stages.finetuning.clips import Ahead, ClipSource
from pipeline.stages.finetuning.team import Team
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.train import TERMS
from pipeline.stages.training.validation import LiveValidation, loss_settings

__all__ = ["CHECKPOINTS", "FineTuning", "LabelledVideos", "accumulate", "learning_rate_factor", "make_optimizer"]

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class LabelledVideos:
    """Ids of the videos to fit and of the validation split, both sorted, and all labels (1 + C,) float32 by id."""

    fitting: tuple[str, ...]
    validation: tuple[str, ...]
    labels: dict[str, torch.Tensor]


@dataclass
class State:
    """Where a training stands. `done` counts the steps of the epoch under way, `sums` are its loss terms so far."""

    epoch: int = 1
    done: int = 0
    steps: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 0.0))
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] | None = None


class FineTuning:
    """One training: the loop and what it carries from step to step."""

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
        self.settings, self.machine, self.run = experiment.finetune, experiment.machine, run
        self.model, self.data, self.source = model, data, source
        self.folder, self.member, self.progress, self.board = folder, member, progress, board
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, self.settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.settings.precision == "float16")
        labels = torch.stack([data.labels[v] for v in data.validation]) if data.validation else None
        self.validation = LiveValidation(labels, run.head) if data.validation else None
        self.steps_an_epoch = math.ceil(len(data.fitting) / self.settings.batch_bags)
        self.state = State()
        self._steps_here, self._seconds = 0, 0.0

    @property
    def steps_per_s(self) -> float | None:
        """Speed of the steps that this process took, waiting for decoders included; None when there were none."""
        return self._steps_here / self._seconds if self._steps_here else None

    def run_all(self) -> None:
        """All epochs, or as many as early stopping leaves; then the best weights are in the model."""
        self._resume()
        if self.validation and not self.validation.aucs:
            self._validate()
        while self.state.epoch <= self.settings.epochs and not self._exhausted():
            self._epoch()
        if self.state.best:
            _restore(self.model, self.state.best)
        self.model.eval()

    def _epoch(self) -> None:
        """Every video once: clips, losses, gradients of the batch, and a step, from the step on where a checkpoint
        stands."""
        state, settings, member = self.state, self.settings, self.member
        self.model.head.train()
        order = np.random.default_rng([settings.seed, state.epoch]).permutation(len(self.data.fitting))
        names = [self.data.fitting[i] for i in order]
        batches = [names[i : i + settings.batch_bags] for i in range(0, len(names), settings.batch_bags)][state.done :]
        bags = self.source.epoch([v for batch in batches for v in member.share(batch)], state.epoch)
        clips = Ahead(bags, self.device)
        for batch in batches:
            started = time.monotonic()
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * learning_rate_factor(
                    state.steps, settings, settings.epochs * self.steps_an_epoch
                )
            self.optimizer.zero_grad()
            sums = accumulate(
                self.model,
                clips,
                member.share(batch),
                self.data.labels,
                self.run,
                batch=len(batch),
                draw=f"{settings.seed} {state.epoch}",
                at_once=self.machine.finetune_bags,
                scaler=self.scaler,
            )
            sums = {term: sum(part[term] for part in member.gather(sums)) for term in TERMS}
            if not math.isfinite(sums["total"]):
                raise PipelineError(
                    f"fine-tuning: the loss is {sums['total']} in epoch {state.epoch}; lower the learning rates"
                )
            member.sum_gradients(trained(self.model).values())
            self.scaler.unscale_(self.optimizer)
            for group in self.optimizer.param_groups if settings.clip_norm else ():
                torch.nn.utils.clip_grad_norm_(group["params"], settings.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            state.sums = {term: value + sums[term] for term, value in state.sums.items()}
            state.done, state.steps = state.done + 1, state.steps + 1
            self._steps_here, self._seconds = self._steps_here + 1, self._seconds + time.monotonic() - started
            if state.steps % self.machine.checkpoint_steps == 0 and state.done < self.steps_an_epoch:
                self._save()
            self._report(f"fine-tuning, epoch {state.epoch}, loss {sums['total'] / len(batch):.4f}")
        means = {term: value / len(names) for term, value in state.sums.items()}
        state.history.append(means)
        broken = [name for name, value in trained(self.model).items() if not torch.isfinite(value).all()]
        if broken:
            raise PipelineError(
                f"fine-tuning: {broken[0]} holds values that are not finite after epoch {state.epoch}; lower the learning rates"
            )
        state.epoch, state.done, state.sums = state.epoch + 1, 0, dict.fromkeys(TERMS, 0.0)
        if self.validation:
            self._validate()
        if self.board:
            _plot(self.board, len(state.history), means, self.validation)
        self._save()

    def _validate(self) -> None:
        """Encode the validation clips, each process a part, and judge the model; all processes come to the same
        judgement."""
        self._report("fine-tuning, validation split")
        mine = self.member.share(self.data.validation)
        parts = {}
        with torch.no_grad():
            for video_id, views in zip(mine, self.source.views(mine), strict=True):
                found = [
                    self.model.reduce(self.model.maps(torch.from_numpy(view[None]).to(self.device))) for view in views
                ]
                parts[video_id] = tuple(torch.cat(kind).cpu() for kind in zip(*found, strict=True))
        everything = {video_id: pair for part in self.member.gather(parts) for video_id, pair in part.items()}
        cues, patterns = (torch.stack([everything[v][kind] for v in self.data.validation]) for kind in (0, 1))
        if self.validation.judge(
            Bags(self.data.validation, cues, patterns), copy.deepcopy(self.model.head).cpu().eval()
        ):
            self.state.best = {name: value.detach().cpu().clone() for name, value in trained(self.model).items()}

    def _exhausted(self) -> bool:
        patience = self.settings.patience_epochs
        return bool(patience) and len(self.validation.aucs) - 1 - self.validation.best_epoch >= patience

    def _report(self, message: str) -> None:
        if self.progress:
            self.progress(self.state.steps, self.settings.epochs * self.steps_an_epoch, message)

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
        found = latest_checkpoint(self.folder / CHECKPOINTS, torch.device("cpu"))
        if found is None:
            return
        try:
            self.state = State(**found["state"])
            _restore(self.model, found["weights"])
            self.optimizer.load_state_dict(found["optimizer"])
            self.scaler.load_state_dict(found["scaler"])
            if self.validation:
                self.validation.aucs, self.validation.losses = (
                    found["validation"]["aucs"],
                    found["validation"]["losses"],
                )
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise unfit_checkpoint(self.folder / CHECKPOINTS, error) from error
        for epoch, means in enumerate(self.state.history if self.board else (), start=1):
            _plot(self.board, epoch, means, self.validation)


def accumulate(
    model: LiveModel,
    clips: Ahead,
    video_ids: Sequence[str],
    labels: Mapping[str, torch.Tensor],
    run: Run,
    *,
    batch: int,
    draw: str,
    at_once: int = 1,
    scaler: torch.amp.GradScaler | None = None,
) -> dict[str, float]:
    """Add the gradients of some bags of a batch to the parameters, a few bags at a time.

    Args:
        model: what is trained.
        clips: the bags, in the order of `video_ids`; while a GPU computes, the next ones are made, beyond `video_ids`
            too.
        video_ids: of these bags.
        labels: (1 + C,) float32 by id.
        run: its head's settings weigh the loss.
        batch: bags of the whole batch, over which the loss is a mean.
        draw: with a video's id, the seed of its dropout.
        at_once: bags in memory together.
        scaler: of the loss, for float16.

    Returns:
        Sums of the loss terms over these bags.
    """
    device = next(model.parameters()).device
    sums = dict.fromkeys(TERMS, 0.0)
    for i in range(0, len(video_ids), at_once):
        some = video_ids[i : i + at_once]
        wanted = torch.stack([labels[v] for v in some]).to(device)  # waits for a GPU, so it comes first
        outputs = model.outputs(clips.take(len(some)), [f"{draw} {v}" for v in some])
        settings = loss_settings(run.head)
        terms = [
            vs_loss(output.video_logits, output.segment_logits, label[None], settings)
            for output, label in zip(outputs, wanted, strict=True)
        ]
        totals = [term.total for term in terms]
        loss = sum(totals[1:], start=totals[0]) / batch
        (scaler.scale(loss) if scaler else loss).backward()
        clips.prepare(at_once)
        found = torch.stack([torch.stack([getattr(t, term).detach() for t in terms]).sum() for term in TERMS]).tolist()
        sums = {term: sums[term] + value for term, value in zip(TERMS, found, strict=True)}
    return sums


def make_optimizer(model: LiveModel, settings: Finetune) -> torch.optim.Optimizer:
    """The optimiser of everything that is trained: one group for the backbone and one for the head; `peak` is its
    learning rate."""
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "peak": peak, "lr": peak}
        for module, peak in (
            (model.network, settings.backbone_learning_rate),
            (model.head, settings.head_learning_rate),
        )
    ]
    kind = {"adagrad": torch.optim.Adagrad, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(groups, weight_decay=settings.weight_decay)


def learning_rate_factor(step: int, settings: Finetune, steps: int) -> float:
    """Share of the peak learning rate in a step, counted from 0, of all `steps`: linear warm-up, then constant or half
    a cosine."""
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)))


def trained(model: LiveModel) -> dict[str, torch.nn.Parameter]:
    """What is trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _restore(model: LiveModel, weights: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.copy_(weights[name])


def _plot(board: SummaryWriter, epoch: int, means: dict[str, float], validation: LiveValidation | None) -> None:
    for term, value in means.items():
        board.add_scalar(f"loss/{term}", value, epoch)
    if validation:
        board.add_scalar("validation/video_auc", validation.aucs[epoch], epoch)
        board.add_scalar("validation/loss", validation.losses[epoch], epoch)
