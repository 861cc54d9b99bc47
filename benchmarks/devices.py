"""How far are features of a GPU from those of the CPU on the same pictures, and how fast is each of the two?

    python benchmarks/devices.py

prints and writes benchmarks/results/devices_cuda.json. The reference is the backbone in float32 on the CPU. Both run as
in an extraction: full batches, clips that share frames, and on a GPU the recorded kernels, if the backbone allows it.
Pictures lie in memory (coarse noise that changes from frame to frame); a lap goes from them to maps on the host.
Weights are random unless a backbone has bundled ones.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, machine, write_result
from pipeline.config.features import Backbone as Settings
from pipeline.models.backbones import BackboneFacts, backbone_facts, load_backbone
from pipeline.models.weights import BUNDLED
from pipeline.stages.common.device import choose_batch
from pipeline.stages.extraction.engine import Engine

SUBJECTS = (
    "tpn_small/6",
    "tpn_slowonly_r50/6",
    "timm:vit_base_patch16_clip_224.openai/6",
    "timm:convnext_tiny/6",
    "mmaction:x3d_m_16x5x1_facebook-kinetics400-rgb/16",
    "mmaction:slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb/32",
    "mmaction:swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb/8",
)


@dataclass(frozen=True)
class Subject:
    """A backbone, its pictures and its clips.

    Attributes:
        settings, facts: of the backbone.
        size: (height, width) of the pictures.
        clip: frames of a clip; the next one begins half a clip later.
    """

    settings: Settings
    facts: BackboneFacts
    size: tuple[int, int]
    clip: int

    @classmethod
    def of(cls, text: str, size: tuple[int, int]) -> Subject:
        """Of NAME/FRAMES or NAME/FRAMES=WEIGHTS; its pictures have its own size where it takes no other."""
        before, _, weights = text.partition("=")
        name, _, clip = before.rpartition("/")
        settings = Settings(name=name, weights=weights or ("bundled" if name in BUNDLED else "random"))
        facts = backbone_facts(settings)
        return cls(settings, facts, size if facts.any_size else facts.size, int(clip))

    def pictures(self, clips: int) -> np.ndarray:
        """Of so many clips, (n, H, W, 3) uint8."""
        height, width = self.size
        shape = ((clips + 1) * self.clip // 2, -(-height // 16), -(-width // 16), 3)
        coarse = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)[:, :height, :width]

    def engine(self, device: str, precision: str) -> Engine:
        """The backbone on a device."""
        network = load_backbone(self.settings)
        network.set_precision(getattr(torch, precision))
        where = torch.device(device)
        return Engine(network, where, choose_batch(0, where), lambda message: print(message, flush=True))

    def maps(self, engine: Engine, pictures: np.ndarray) -> np.ndarray:
        """Maps (clips, rows, columns, D) float32."""
        step, found = self.clip // 2, []
        clips = len(pictures) // step - 1
        for first in range(0, clips, engine.batch_clips):
            last = min(first + engine.batch_clips, clips)
            frames = engine.frames(pictures[first * step : (last + 1) * step])
            starts = range(0, (last - first) * step, step)
            found.append(engine.clips([frames[start : start + self.clip] for start in starts]))
        return np.concatenate([each.numpy() for each in found])

    def speed(self, engine: Engine, pictures: np.ndarray, laps: int, warm_up: int) -> float:
        """Clips per second, the median of some laps after those that warm up."""
        rates = []
        for _ in range(laps + warm_up):
            start = time.perf_counter()
            found = self.maps(engine, pictures)
            rates.append(len(found) / (time.perf_counter() - start))
        return round(statistics.median(rates[warm_up:]), 1)


def against(found: np.ndarray, expected: np.ndarray) -> dict[str, float | bool]:
    """How far maps are from the expected ones, over all and cell by cell."""
    mine, theirs = (torch.from_numpy(maps).flatten(0, 2).double() for maps in (found, expected))
    cosines = cosine_similarity(mine, theirs, dim=1)
    return {
        "finite": bool(mine.isfinite().all()),
        "relative_difference": float(f"{(mine - theirs).norm() / theirs.norm():.2e}"),
        "mean_cosine": round(float(cosines.mean()), 7),
        "least_cosine": round(float(cosines.min()), 7),
    }


def measure(subject: Subject, options: argparse.Namespace) -> list[dict[str, object]]:
    """The lines of one backbone: the CPU in float32, then the GPU in each precision."""
    few = subject.pictures(options.compared)
    many = np.concatenate([few] * -(-options.clips // options.compared))
    cpu = subject.engine("cpu", "float32")
    expected = subject.maps(cpu, few)
    about = {
        "backbone": subject.settings.name,
        "weights": Path(subject.settings.weights).name,
        "picture": list(subject.size),
        "clip_frames": subject.clip,
        "map": list(expected.shape[1:]),
    }
    lines: list[dict[str, object]] = [
        about | {"device": "cpu", "precision": "float32", "clips_per_s": subject.speed(cpu, few, 2, 0)}
    ]
    for precision in options.precisions if options.device != "cpu" else ():
        engine = subject.engine(options.device, precision)
        torch.cuda.reset_peak_memory_stats()
        kind = {"device": options.device, "precision": precision}
        passes = [against(subject.maps(engine, few), expected) for _ in range(3)]  # the third one is of recordings
        lines.append(
            about
            | kind
            | passes[-1]
            | {
                "same_in_every_pass": passes[0] == passes[1] == passes[2],
                "clips_per_s": subject.speed(engine, many, options.laps, 2),
                "batch_clips": engine.batch_clips,
                "peak_gpu_mib": round(torch.cuda.max_memory_allocated() / 2**20),
            }
        )
        del engine
        torch.cuda.empty_cache()
    return lines


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), help="NAME/FRAMES of a clip[=WEIGHTS].")
    parser.add_argument("--size", default="224x384", help="HEIGHTxWIDTH of the pictures.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--compared", type=int, default=8, help="Clips that are compared.")
    parser.add_argument("--clips", type=int, default=256, help="Clips of a lap on the GPU.")
    parser.add_argument("--laps", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/devices_cuda.json"))
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    on_gpu = options.device != "cpu"
    document: dict[str, object] = {
        "command": command_line(),
        "device": torch.cuda.get_device_name(options.device) if on_gpu else "cpu",
        "machine": f"{machine()}, torch {torch.__version__}",
    }
    lines: list[dict[str, object]] = []
    for text in options.subjects:
        try:
            measured = measure(Subject.of(text, (height, width)), options)
        except RuntimeError as error:  # one backbone that fails is a finding, not the end of the others
            measured = [{"backbone": text, "error": f"{type(error).__name__}: {error}"}]
        for line in measured:
            print(line, flush=True)
        lines += measured
        write_result(options.out, document | {"lines": lines})
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
