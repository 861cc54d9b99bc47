"""How far are features from those in float32, and how long do they take, by precision and kind of kernel?

The reference are features of mmaction2's module in float32 on the same device. Weights are random, pictures are coarse
noise.

    python benchmarks/precision.py --device cuda

prints and writes benchmarks/results/precision_<device>.json. Fused kernels exist only on CUDA. Half precisions on a CPU
may be emulated, which is slow.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, write_result
from pipeline.models.backbone import build_backbone
from pipeline.models.fast_convolution import FastConvolution
from pipeline.models.fast_tpn import FastTPN
from pipeline.stages.extraction.engine import _exact


def everywhere(convolution: FastConvolution, maps: torch.Tensor) -> bool:
    """Use fused kernels in every precision; extraction uses them only in bfloat16."""
    return convolution.groups == 1


def nowhere(convolution: FastConvolution, maps: torch.Tensor) -> bool:
    """Use plain kernels."""
    return False


def milliseconds(call: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, repeats: int) -> float:
    """The median time of some calls, after two warm-up calls."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call(inputs)
        if inputs.is_cuda:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times[2:]), 2)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="tpn_slowonly_r50", choices=["tpn_slowonly_r50", "tpn_tiny"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--clips", type=int, default=32, help="Clips of consecutive frames; there are three times as many frames."
    )
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16", "float16"])
    options = parser.parse_args()
    device = torch.device(options.device)
    coarse = np.random.default_rng(0).integers(0, 256, (3 * options.clips, 14, 14, 3), dtype=np.uint8)
    pictures = torch.from_numpy(np.kron(coarse, np.ones((1, 16, 16, 1), np.uint8))).to(device)
    network = build_backbone(options.backbone, "random").to(device)
    kinds = ("plain", "fused") if device.type == "cuda" else ("plain",)
    windows = torch.stack([pictures[index : index + 6] for index in range(options.clips)])
    lines = []
    with torch.inference_mode(), _exact(device):
        expected = torch.cat([network(window[None]) for window in windows]).flatten(0, 2).double()
        for precision in options.precisions:
            fast = FastTPN(network).to(device)
            fast.set_precision(getattr(torch, precision))
            for kind in kinds:
                with patch.object(FastConvolution, "_fused", everywhere if kind == "fused" else nowhere):
                    frames = fast.frames(pictures)
                    clips = torch.stack([frames[index : index + options.clips] for index in range(6)])
                    found = fast.clips(clips).flatten(0, 2).double()
                    lines.append(
                        {
                            "precision": precision,
                            "kernels": kind,
                            "relative_difference": float(f"{(found - expected).norm() / expected.norm():.2e}"),
                            "least_cosine": round(float(cosine_similarity(found, expected, dim=1).min()), 7),
                            "early_layers_ms": milliseconds(fast.frames, pictures, options.repeats),
                            "late_layers_ms": milliseconds(fast.clips, clips, options.repeats),
                        }
                    )
                    print(lines[-1], flush=True)
    document = {
        "command": command_line(),
        "backbone": options.backbone,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "frames": len(pictures),
        "clips": options.clips,
        "lines": lines,
    }
    out = Path(__file__).parent / "results" / f"precision_{device.type}.json"
    write_result(out, document)


if __name__ == "__main__":
    main()
