"""How fast does the end-to-end stage train, compared with a plain loop?

Both run alternately on the same generated videos:

plain: mmaction2's module, the equations written out (X~ in full and its cosines), float32, videos decoded in the loop.
ours:  what `gig finetune` runs: fast form, reduction without X~, decoding ahead in worker processes.

    python benchmarks/finetune.py --backbone tpn_tiny --bags 16 --repeats 3

writes benchmarks/results/finetune_<backbone>_<device>.json. --checkpointing adds ours with activations computed twice.
On a GPU the peak memory of each way is reported too, with its own weights and optimiser state but not those of the
other ways.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy, cosine_similarity

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, write_result
from pipeline.config import Experiment, Run, parse_experiment
from pipeline.data.decoding.decode import iter_frames
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.manifest import Manifest
from pipeline.data.sampling import epoch_clips
from pipeline.models.backbone import build_backbone
from pipeline.models.heads import build_head
from pipeline.models.live import LiveModel, unfreeze
from pipeline.models.reduction import kept_cells
from pipeline.stages.common.device import pick_device
from pipeline.stages.common.manifest import build_manifest, load_manifest
from pipeline.stages.extraction.sources import experiment_workers
from pipeline.stages.finetuning.clips import Ahead, ClipSource
from pipeline.stages.finetuning.optimisation import accumulate, make_optimizer

CLASSES, CLIPS = 3, 8  # clips per bag


def plain_loss(maps: torch.Tensor, head: torch.nn.Module, label: torch.Tensor, run: Run) -> torch.Tensor:
    """Equations 1 to 14 of one bag, written out. maps (T, H, W, D), label (1 + C,)."""
    cue = maps.amax(dim=(0, 1, 2))  # eq. 1
    enhanced = torch.sigmoid(cue) * maps + maps  # eq. 2
    video = torch.sigmoid(head.phi1(head.dropout(cue)))[1:].max()  # eq. 3
    flat = enhanced.flatten(1, 2)
    relation = cosine_similarity(flat, cue.expand_as(flat), dim=-1)  # eq. 5
    chosen = relation.topk(kept_cells(run.head.k, relation.shape[1]), dim=1).indices
    vectors = flat.gather(1, chosen[..., None].expand(-1, -1, flat.shape[-1])).mean(dim=1)  # eq. 6
    scores = torch.sigmoid(head.phi2(head.dropout(vectors)))  # eq. 7
    consensus = scores.topk(run.head.p, dim=0).values.mean(dim=0)  # eq. 8
    anomalous = 1 - label[0]
    loss = binary_cross_entropy(video, anomalous) + run.head.lambda1 * binary_cross_entropy(
        consensus[1:].max(), anomalous
    )
    loss = loss + run.head.lambda2 * binary_cross_entropy(consensus, label)  # eqs. 4, 10, 11, 12
    return loss + run.head.lambda3 * scores[:, 1:].amax(dim=1).sum()  # eqs. 13, 14


class Plain:
    """The straightforward loop."""

    def __init__(
        self, experiment: Experiment, manifest: Manifest, labels: dict[str, torch.Tensor], device: torch.device
    ) -> None:
        self.experiment, self.manifest, self.labels, self.device = experiment, manifest, labels, device
        settings = experiment.backbone
        self.network = build_backbone(settings.name, settings.weights)
        unfreeze(self.network, experiment.finetune.unfreeze)
        self.head = build_head("gig", channels=2048, classes=CLASSES)
        self.network.to(device)
        self.head.to(device)
        parameters = [p for p in (*self.network.parameters(), *self.head.parameters()) if p.requires_grad]
        self.optimizer = torch.optim.Adagrad(parameters, lr=1e-5)

    def epoch(self, video_ids: list[str], number: int) -> None:
        """One pass over the videos."""
        run, shape = self.experiment.run("gig"), self.experiment.train_sampling.model_dump(exclude={"views", "seed"})
        size = self.experiment.finetune.batch_bags
        for start in range(0, len(video_ids), size):
            batch = video_ids[start : start + size]
            self.optimizer.zero_grad()
            for video_id in batch:
                pictures = [frame.image for frame in iter_frames(self.manifest.video_path(video_id))]
                plan, flipped = epoch_clips(len(pictures), video_id=video_id, epoch=number, seed=0, **shape)
                clips = np.stack([np.stack([pictures[i] for i in clip]) for clip in plan[:, 0]])
                clips = np.ascontiguousarray(clips[:, :, :, ::-1]) if flipped else clips
                maps = self.network(torch.from_numpy(clips).to(self.device))
                (plain_loss(maps, self.head, self.labels[video_id].to(self.device), run) / len(batch)).backward()
            self.optimizer.step()
        self.optimizer.zero_grad()


class Ours:
    """The same passes with the parts of `gig finetune`."""

    def __init__(
        self,
        experiment: Experiment,
        manifest: Manifest,
        labels: dict[str, torch.Tensor],
        device: torch.device,
        workers: DecodeWorkers,
        checkpointing: bool,
    ) -> None:
        self.experiment, self.labels = experiment, labels
        settings, tuning = experiment.backbone, experiment.finetune
        network = build_backbone(settings.name, settings.weights)
        unfreeze(network, tuning.unfreeze)
        head, precision = build_head("gig", channels=2048, classes=CLASSES), getattr(torch, tuning.precision)
        k = experiment.head.k
        self.model = LiveModel(network, head, None, k, precision=precision, checkpointing=checkpointing).to(device)
        self.optimizer = make_optimizer(self.model, tuning)
        self.source = ClipSource(experiment, manifest, workers)

    def epoch(self, video_ids: list[str], number: int) -> None:
        """One pass over the videos."""
        device, size = next(self.model.parameters()).device, self.experiment.finetune.batch_bags
        clips = Ahead(self.source.epoch(video_ids, number), device)
        for start in range(0, len(video_ids), size):
            batch = video_ids[start : start + size]
            self.optimizer.zero_grad()
            accumulate(
                self.model,
                clips,
                batch,
                self.labels,
                self.model.head.loss_settings,
                batch=len(batch),
                draw=f"0 {number}",
                at_once=self.experiment.machine.finetune_bags,
            )
            self.optimizer.step()
        self.optimizer.zero_grad()


def allocated(device: torch.device) -> int:
    """Bytes of a GPU in use, from which its peak counts anew; 0 for a CPU."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def settings(arguments: argparse.Namespace, unfrozen: str) -> Experiment:
    """An experiment that fine-tunes these parts of the backbone on generated videos."""
    dataset = {
        "adapter": "synthetic",
        "name": "bench",
        "classes": ["Explosion", "Fighting", "Accident"],
        "train_normal": arguments.bags - 3,
        "train_per_class": 1,
        "test_normal": 1,
        "test_anomalous": 1,
        "train_frames": [60, 80],
        "test_frames": [20, 20],
    }
    finetune = {
        "enabled": True,
        "unfreeze": unfrozen,
        "precision": arguments.precision,
        "backbone_learning_rate": 1e-5,
    }
    weights = "bundled" if arguments.backbone == "tpn_tiny" else "random"
    return parse_experiment(
        {
            "experiment": "bench",
            "dataset": dataset,
            "backbone": {"name": arguments.backbone, "weights": weights},
            "finetune": finetune,
            "machine": {"device": arguments.device, "finetune_bags": arguments.bags_at_once},
        }
    )


def time_epochs(
    makers: dict[str, Callable[[], Plain | Ours]], video_ids: list[str], repeats: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Clips per second of every repeated epoch, and peak bytes on a GPU, of each way; the first epoch is a warm-up."""
    ways, resident, peaks = {}, {}, {}
    for name, make in makers.items():
        before = allocated(device)
        ways[name] = make()
        resident[name] = allocated(device) - before
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, way in ways.items():
            others = allocated(device) - resident[name]
            started = time.perf_counter()
            way.epoch(video_ids, number)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
                peaks[name] = torch.cuda.max_memory_allocated(device) - others
            if number:
                rates[name].append(len(video_ids) * CLIPS / (time.perf_counter() - started))
    return rates, peaks


def measure(arguments: argparse.Namespace, unfrozen: str, folder: Path) -> dict:
    """The speed of all ways with these parts of the backbone trained."""
    experiment, device = settings(arguments, unfrozen), pick_device(arguments.device)
    if not (folder / "manifest").is_dir():
        build_manifest(experiment, folder / "manifest")
    manifest = load_manifest(experiment, folder / "manifest")
    entries = manifest.split("train")
    labels = {v.video_id: torch.from_numpy(manifest.video_labels(v)) for v in entries}
    with experiment_workers(experiment) as workers:
        ours = partial(Ours, experiment, manifest, labels, device, workers)
        makers: dict[str, Callable[[], Plain | Ours]] = {
            "plain": partial(Plain, experiment, manifest, labels, device),
            "ours": partial(ours, checkpointing=False),
        }
        if arguments.checkpointing:
            makers["ours_checkpointing"] = partial(ours, checkpointing=True)
        rates, peaks = time_epochs(makers, [v.video_id for v in entries], arguments.repeats, device)
    clips_per_step = CLIPS * experiment.finetune.batch_bags
    ratios = [ours / plain for ours, plain in zip(rates["ours"], rates["plain"], strict=True)]
    return {
        "unfreeze": unfrozen,
        "clips_per_s": {name: round(statistics.median(values), 3) for name, values in rates.items()},
        "steps_per_s": {name: round(statistics.median(values) / clips_per_step, 4) for name, values in rates.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(value, 3) for value in ratios],
        "peak_gpu_bytes": peaks or None,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="tpn_tiny", choices=["tpn_tiny", "tpn_slowonly_r50"])
    parser.add_argument("--bags", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--bags-at-once", type=int, default=1)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--unfreeze", nargs="+", default=["neck", "last_stage+neck", "all"])
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        lines = [measure(arguments, parts, Path(folder)) for parts in arguments.unfreeze]
    machine = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    result = {
        "command": command_line(),
        "machine": machine,
        "torch": torch.__version__,
        "backbone": arguments.backbone,
        "bags": arguments.bags,
        "precision": arguments.precision,
        "bags_at_once": arguments.bags_at_once,
        "checkpointing": arguments.checkpointing,
        "lines": lines,
    }
    out = arguments.out or Path(__file__).parent / "results" / f"finetune_{arguments.backbone}_{device.type}.json"
    write_result(out, result)
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
