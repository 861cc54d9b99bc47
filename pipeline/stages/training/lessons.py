"""Make weights of `tpn_small` from generated lessons (pipeline.data.synthetic.playground) alone.

    python -m pipeline.stages.training.lessons --out tpn_small.safetensors

Every channel is taught what it is to say of a cell of the feature map (pipeline.stages.training.lesson_codes): how much
moves there and how unevenly, and what things are there; nothing where nothing is. No scene, anomaly class or label of a
data set is used, and no video.

The state of an interrupted run is kept beside the weights every 100 steps; the same command goes on from there.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from pipeline.data.synthetic.playground.lesson import Lesson, draw_lesson
from pipeline.errors import PipelineError
from pipeline.models.backbone import Backbone, build_backbone
from pipeline.models.fast_convolution import part
from pipeline.stages.common.malloc import heap_kept
from pipeline.stages.training.lesson_codes import Codes

__all__ = ["Lessons", "Pretraining", "Schooling", "pretrain"]

KEEP_EVERY = 100
"""Steps between two copies of the state on disk."""
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Pretraining:
    """How to train.

    Attributes:
        backbone: its name.
        steps: of the optimiser.
        batch: clips per step, even: half of them are the other half mirrored.
        learning_rate: the peak of a one-cycle schedule.
        cycle: the steps of that schedule, at least `steps`.
        cooldown: the step from which the learning rate also falls, linearly, to 0 at the end.
        seed: of weights and lessons.
    """

    backbone: str = "tpn_small"
    steps: int = 10_000
    batch: int = 8
    learning_rate: float = 3e-3
    cycle: int = 10_000
    cooldown: int = 7500
    seed: int = 0


class Lessons(torch.utils.data.Dataset[Batch]):
    """Batches of random lessons. Each batch has a generator of its own, so that workers do not change them.

    Every lesson is in two batches that follow each other, in one of them mirrored.
    """

    def __init__(self, settings: Pretraining, start: int = 0) -> None:
        self.settings, self.start = settings, start

    def __len__(self) -> int:
        return self.settings.steps - self.start

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        step, half = self.start + index, self.settings.batch // 2
        lessons = [
            *_drawn(self.settings.seed, step, half),
            *(each.mirrored() for each in _drawn(self.settings.seed, max(0, step - 1), half)),
        ]
        images, attributes, values = (
            torch.from_numpy(np.stack([getattr(each, name) for each in lessons]))
            for name in ("images", "attributes", "values")
        )
        return images, attributes, values


@lru_cache(maxsize=2)
def _drawn(seed: int, step: int, count: int) -> tuple[Lesson, ...]:
    rng = np.random.default_rng([seed, step])
    return tuple(draw_lesson(rng) for _ in range(count))


class Schooling(nn.Module):
    """A backbone whose channels are taught what to say of every cell (`Codes`).

    The last ReLU is left to the loss: a channel that should say nothing may be anything below zero, and one that should
    say something gets a gradient from there too.

    Args:
        network: the backbone; it is trained.
        examples: a batch that gives thresholds and scales.
        seed: of `Codes`.
    """

    def __init__(self, network: Backbone, examples: Batch, seed: int) -> None:
        super().__init__()
        _, attributes, values = examples
        self.network = network
        self.codes = Codes(attributes, values, network.channels, seed)

    def forward(self, images: torch.Tensor, attributes: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar: the mean square of what channels say wrongly.

        Args:
            images: (N, L, S, S, 3) uint8.
            attributes: (N, S / 32, S / 32, len(ATTRIBUTES)) float32, 0 to 1.
            values: (N, S / 32, S / 32, len(VALUES)) float32.
        """
        wanted = self.codes(attributes, values)
        with torch.autocast("cpu", torch.bfloat16):  # nearly twice as fast on processors that have it
            said = self.network(images).float()
        errors = torch.where(wanted > 0, said, said.clamp(min=0)) - wanted
        return errors.square().mean()


def pretrain(settings: Pretraining, state: Path | None = None, workers: int = 1) -> Backbone:
    """Train a small backbone from random weights. The same settings give the same weights on one machine.

    Args:
        settings: what to train and how.
        state: where the state of the run is kept and taken up again, or None.
        workers: processes that draw; they do not change the result.

    Returns:
        The network in evaluation mode.

    Raises:
        PipelineError: the loss or a weight is not finite, or the state is of other settings.
    """
    torch.manual_seed(settings.seed)
    network = build_backbone(settings.backbone, "random", seed=settings.seed)
    network.requires_grad_(True)
    last = vars(part(network.neck, "pyramid_fusion", nn.Module))
    last["with_activation"] = False
    school = Schooling(network, _examples(settings), settings.seed)
    optimizer = torch.optim.AdamW(school.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.cycle, pct_start=0.1
    )
    parts = {"school": school, "optimizer": optimizer, "schedule": schedule}
    done = _take_up(state, settings, parts)
    school.train()
    batches = torch.utils.data.DataLoader(
        Lessons(settings, start=done), batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None
    )
    mean: float | None = None
    for step, batch in enumerate(progress := tqdm(batches, unit="step", initial=done, total=settings.steps), done + 1):
        loss = school(*batch)
        if not math.isfinite(float(loss.detach())):
            raise PipelineError(
                f"pretraining: the loss is {float(loss.detach())} in step {step}; lower the learning rate, "
                f"{settings.learning_rate:g}"
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(school.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        left = (settings.steps - step) / max(1, settings.steps - settings.cooldown)
        for group in optimizer.param_groups:
            group["lr"] = schedule.get_last_lr()[0] * min(1.0, left)
        mean = float(loss.detach()) if mean is None else 0.98 * mean + 0.02 * float(loss.detach())
        progress.set_description(f"loss {mean:.4f}", refresh=False)
        if state and step % KEEP_EVERY == 0:
            _keep(state, settings, parts, step)
    if not all(torch.isfinite(parameter).all() for parameter in school.parameters()):
        raise PipelineError(
            f"pretraining: the weights are not finite at the end; lower the learning rate, {settings.learning_rate:g}"
        )
    last["with_activation"] = True
    network.requires_grad_(False)
    network.eval()
    return network


def _examples(settings: Pretraining) -> Batch:
    """Lessons that are not trained on, which give `Codes` thresholds and scales."""
    return Lessons(replace(settings, batch=96, seed=settings.seed + 1_000_000))[0]


def _keep(state: Path, settings: Pretraining, parts: dict, step: int) -> None:
    partial = state.with_name(f"{state.name}.partial")
    torch.save(
        {"settings": asdict(settings), "step": step} | {name: part.state_dict() for name, part in parts.items()},
        partial,
    )
    os.replace(partial, state)


def _take_up(state: Path | None, settings: Pretraining, parts: dict) -> int:
    """Load the state of an interrupted run, if there is one; returns how many steps it has made."""
    if state is None or not state.exists():
        return 0
    kept = torch.load(state, weights_only=True)
    if kept["settings"] != asdict(settings):
        raise PipelineError(
            f"{state}: expected the state of a run with {asdict(settings)}, got {kept['settings']}; delete it"
        )
    for name, each in parts.items():
        each.load_state_dict(kept[name])
    return int(kept["step"])


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where to write the weights."
)
@click.option("--backbone", default=Pretraining.backbone, show_default=True)
@click.option("--steps", default=Pretraining.steps, show_default=True)
@click.option("--batch", default=Pretraining.batch, show_default=True, help="Clips per step.")
@click.option("--learning-rate", default=Pretraining.learning_rate, show_default=True)
@click.option("--cycle", default=Pretraining.cycle, show_default=True, help="Steps of the one-cycle schedule.")
@click.option("--cooldown", default=Pretraining.cooldown, show_default=True, help="Step from which it also falls to 0.")
@click.option("--seed", default=Pretraining.seed, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that draw; they do not change the result.")
def main(out: Path, workers: int, **options: str | float) -> None:
    """Train the weights of a small backbone and write them as float16 safetensors."""
    settings = Pretraining(**options)  # type: ignore[arg-type]  # click gives them the types of the defaults
    state = out.with_name(f"{out.name}.state")
    with heap_kept(torch.device("cpu")):
        network = pretrain(settings, state, workers)
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    recipe = asdict(settings) | {"data": "pipeline.data.synthetic.playground", "torch": torch.__version__}
    save_file(tensors, out, metadata={"recipe": json.dumps(recipe)})
    state.unlink(missing_ok=True)
    click.echo(f"{out}: {out.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
