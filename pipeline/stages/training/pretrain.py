"""Make the bundled weights of `tpn_tiny`, trained on moving shapes (pipeline.data.synthetic.shapes), not Kinetics.

    python -m pipeline.stages.training.pretrain --out tpn_tiny.safetensors

One linear read-out learns which attributes every cell holds, another one which the whole clip holds, from the mean over
cells. Both are dropped at the end. No anomaly class, scene or label of the data sets is used.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from tqdm import tqdm

from pipeline.data.synthetic.shapes import ATTRIBUTES, shape_clip
from pipeline.errors import PipelineError
from pipeline.models.backbone import Backbone, build_backbone

__all__ = ["pretrain"]


class ShapeBatches(torch.utils.data.Dataset[tuple[np.ndarray, np.ndarray, np.ndarray]]):
    """Batches of random clips. Each batch has its own generator, so that workers do not change them."""

    def __init__(self, steps: int, batch: int, seed: int) -> None:
        self.steps, self.batch, self.seed = steps, batch, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, step])
        clips = [shape_clip(rng) for _ in range(self.batch)]
        return (
            np.stack([each.images for each in clips]),
            np.stack([each.cells for each in clips]),
            np.stack([each.clip for each in clips]),
        )


def pretrain(steps: int, batch: int, learning_rate: float, seed: int) -> Backbone:
    """Train `tpn_tiny` from random weights. The same arguments give the same weights on one machine.

    Args:
        steps: of the optimiser.
        batch: clips per step.
        learning_rate: the peak of a one-cycle schedule.
        seed: of weights and clips.

    Returns:
        The network in evaluation mode.

    Raises:
        PipelineError: the loss or a weight is not finite.
    """
    torch.manual_seed(seed)
    network = build_backbone("tpn_tiny", "random", seed=seed)
    network.requires_grad_(True)
    network.train()
    cell_readout = nn.Linear(network.channels, len(ATTRIBUTES))
    clip_readout = nn.Linear(network.channels, len(ATTRIBUTES))
    parameters = [*network.parameters(), *cell_readout.parameters(), *clip_readout.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    batches = torch.utils.data.DataLoader(ShapeBatches(steps, batch, seed), batch_size=None, num_workers=0)
    weight = torch.tensor(8.0)  # most cells hold nothing
    for clips, cells, clip in (progress := tqdm(batches, unit="step")):
        maps = network(clips)
        on_cells = bce(cell_readout(maps), cells, pos_weight=weight)
        on_clips = bce(clip_readout(maps.mean(dim=(1, 2))), clip)
        loss = on_cells + 0.5 * on_clips
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        if not math.isfinite(float(loss.detach())):
            raise PipelineError(
                f"pretraining: the loss is {float(loss.detach())}; lower the learning rate, {learning_rate:g}"
            )
        optimizer.step()
        schedule.step()
        progress.set_description(
            f"cells {float(on_cells.detach()):.3f} clips {float(on_clips.detach()):.3f}", refresh=False
        )
    if not all(torch.isfinite(parameter).all() for parameter in parameters):
        raise PipelineError(
            f"pretraining: the weights are not finite at the end; lower the learning rate, {learning_rate:g}"
        )
    network.eval()
    return network


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where to write the weights."
)
@click.option("--steps", default=800, show_default=True)
@click.option("--batch", default=16, show_default=True, help="Clips per step.")
@click.option("--learning-rate", default=3e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(out: Path, steps: int, batch: int, learning_rate: float, seed: int) -> None:
    """Train the stand-in weights of tpn_tiny and write them as float16 safetensors."""
    network = pretrain(steps, batch, learning_rate, seed)
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    recipe = {
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "seed": seed,
        "data": "pipeline.data.synthetic.shapes",
        "torch": torch.__version__,
    }
    save_file(tensors, out, metadata={"recipe": json.dumps(recipe)})
    click.echo(f"{out}: {out.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
