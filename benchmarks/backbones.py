"""What do backbones cost: time per frame of video beside TPN of the paper, size of the cache, and shape of the maps?

    python benchmarks/backbones.py

prints the table of docs/backbones.md and writes benchmarks/results/backbones.json. Pictures lie in memory; nothing
is decoded or written. The cost of a frame of video is that of its own step, and its share of the clips' step: a
window of 6 frames begins every 3 frames, as in the paper; a backbone that takes no clips of 6 frames gets the nearest
length it takes. Backbones run one after the other in each round, in one thread; a ratio is of two CPU times of the same
round, its median over rounds. Weights are random unless a backbone has bundled ones: speed and sizes do not depend on
them. What bundled ones see, benchmarks/fixture_seeds.py measures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, machine, write_result
from pipeline.config.features import Backbone as Settings
from pipeline.models.backbones import BackboneFacts, VideoBackbone, backbone_facts, load_backbone
from pipeline.models.weights import BUNDLED

REFERENCE = "tpn_slowonly_r50"
NAMES = (
    "tpn_small",
    "tpn_tiny",
    "timm:vit_base_patch16_clip_224.openai",
    "timm:vit_small_patch16_224",
    "timm:convnext_tiny",
    "timm:resnet50",
    "timm:mobilenetv3_large_100",
)
CLIP, STRIDE, FPS = 6, 3, 25
"""Frames of a window and from one to the next; frames per second of the video whose cache is computed."""


@dataclass(frozen=True)
class Subject:
    """A backbone to measure.

    Attributes:
        settings: its name and weights.
        facts: of it.
        network: loaded.
        clip: frames of a window.
    """

    settings: Settings
    facts: BackboneFacts
    network: VideoBackbone
    clip: int

    @classmethod
    def load(cls, name: str) -> Subject:
        """With bundled weights, or random ones."""
        settings = Settings(name=name, weights="bundled" if name in BUNDLED else "random")
        facts = backbone_facts(settings)
        longest = facts.longest_clip or CLIP
        return cls(settings, facts, load_backbone(settings), max(facts.shortest_clip, min(CLIP, longest)))

    def cpu_seconds(self) -> float:
        """CPU seconds per frame of video."""
        pictures = torch.randint(0, 256, (self.clip, *self.facts.size, 3), dtype=torch.uint8)
        with torch.inference_mode():
            start = time.process_time()
            frames = self.network.frames(pictures)
            between = time.process_time()
            self.network.clips(frames[:, None])
            end = time.process_time()
        return (between - start) / self.clip + (end - between) / STRIDE


def line(subject: Subject, own: list[float], reference: list[float]) -> dict[str, object]:
    """One line of the table.

    Args:
        subject: the backbone.
        own, reference: CPU seconds per frame in each round, of it and of the reference.
    """
    rows, columns = subject.facts.map_size(*subject.facts.size)
    ratios = [mine / theirs for mine, theirs in zip(own, reference, strict=True)]
    return {
        "backbone": subject.settings.name,
        "weights": subject.settings.weights,
        "picture": list(subject.facts.size),
        "clip_frames": subject.clip,
        "map": [rows, columns],
        "channels": subject.facts.channels,
        "frames_per_s": round(1 / statistics.median(own), 1),
        "time_to_reference": round(statistics.median(ratios), 4),
        "time_to_reference_range": [round(min(ratios), 4), round(max(ratios), 4)],
        "gb_per_hour": round(3600 * FPS / STRIDE * rows * columns * subject.facts.channels * 2 / 1e9, 2),
    }


def markdown(lines: list[dict]) -> str:
    """The table of the docs."""
    header = ("backbone", "picture", "map", "frames/s", "time : TPN R50", "GB per hour")
    rows = [header, ("---",) * len(header)]
    for one in lines:
        low, high = one["time_to_reference_range"]
        rows.append(
            (
                f"`{one['backbone']}`",
                " x ".join(map(str, one["picture"])),
                " x ".join(map(str, (*one["map"], one["channels"]))),
                f"{one['frames_per_s']:g}",
                f"{one['time_to_reference']:.3g} ({low:.3g} to {high:.3g})",
                f"{one['gb_per_hour']:g}",
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", nargs="+", default=list(NAMES), help=f"Backbones besides {REFERENCE}.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/backbones.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    subjects = [Subject.load(name) for name in dict.fromkeys([REFERENCE, *options.names])]
    for subject in subjects:
        subject.cpu_seconds()  # the first call is slower
    rounds = [[subject.cpu_seconds() for subject in subjects] for _ in range(options.rounds)]
    times = [list(column) for column in zip(*rounds, strict=True)]
    lines = [line(subject, own, times[0]) for subject, own in zip(subjects, times, strict=True)]
    facts = {"clip_frames": CLIP, "stride_frames": STRIDE, "fps": FPS, "threads": 1, "rounds": options.rounds}
    document = {"command": command_line(), "machine": machine(), "torch": torch.__version__, **facts}
    write_result(options.out, document | {"backbones": lines})
    print(markdown(lines))
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
