"""How much memory does a backbone need for the clips of one batch, by the number of frames of a clip?

For every backbone and number of frames a separate process loads the backbone with random weights and runs one batch of
random pictures through both steps on the CPU. Reported is the peak of the process above what it held with the backbone
loaded, per clip of the batch.

    python benchmarks/clip_memory.py --clips 4 --side 224 \
        tpn_slowonly_r50=6 mmaction:i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb=8,32
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, machine, write_result
from pipeline.config.features import Backbone
from pipeline.models.backbones import load_backbone

RESULTS = Path(__file__).parent / "results"


def resident_mb(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process, MB."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) * 1024 / 1e6


def measure(name: str, frames: int, clips: int, side: int) -> None:
    """Run one batch and print the MB per clip and of the weights."""
    network = load_backbone(Backbone(name=name, weights="random"))
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()) / 1e6
    network.facts.check_clip(frames)
    loaded = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak from here on
    pictures = torch.randint(0, 256, (frames * clips, side, side, 3), dtype=torch.uint8)
    with torch.inference_mode():
        network.clips(network.frames(pictures).unflatten(0, (frames, clips)))
    peak = resident_mb("VmHWM") - loaded
    print(json.dumps({"mb_per_clip": round(peak / clips), "weights_mb": round(weights)}))


def main() -> None:
    """Run, print and write benchmarks/results/clip_memory.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbones", nargs="+", help="name=frames[,frames]")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--side", type=int, default=224, help="of the pictures, pixels")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, frames = options.backbones[0].rsplit("=", 1)
        measure(name, int(frames), options.clips, options.side)
        return
    rows = []
    for item in options.backbones:
        name, lengths = item.rsplit("=", 1)
        for frames in map(int, lengths.split(",")):
            command = [sys.executable, __file__, f"{name}={frames}", "--one"]
            command += ["--clips", str(options.clips), "--side", str(options.side)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            row = {"backbone": name, "frames": frames, **json.loads(done.stdout.splitlines()[-1])}
            rows.append(row)
            print(
                f"{name}  {frames} frames  {row['mb_per_clip']} MB per clip, weights {row['weights_mb']} MB", flush=True
            )
    result = {
        "command": command_line(),
        "machine": machine(),
        "clips": options.clips,
        "side": options.side,
        "rows": rows,
    }
    write_result(RESULTS / "clip_memory.json", result)


if __name__ == "__main__":
    main()
