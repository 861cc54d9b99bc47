"""How fast are features made, against mmaction2's own way and against our limit? All three alternate in one run.

(a) mmaction2: its Resize, CenterCrop and FormatShape on the six frames of one window, `extract_feat(stage='neck')` of its
    recogniser, a window at a time. It is given decoded frames, each decoded once, which its own tool would not do.
(b) this pipeline: from the file to committed features in the cache.
(c) the limit: the fast form on cropped frames that lie in memory, nothing decoded, nothing written.

    python benchmarks/extraction.py --windows 25 --repeats 3

writes benchmarks/results/extraction_<backbone>_<device>.json. The video is generated noise over a moving pattern at a bit rate that
surveillance cameras have; (b) decodes it on the cores that the model uses, (c) does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import av
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))

from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.data.decode import iter_frames, iter_raw_frames
from pipeline.data.sampling import WindowAssembler
from pipeline.models import backbone as backbone_module
from pipeline.stages.engine import Clip, ClipBatcher, Maps
from pipeline.stages.extract import Extractor
from pipeline.stages.heap import heap_kept
from pipeline.stages.sources import experiment_workers


class Dropped:
    """A sink that keeps nothing."""

    def take(self, view: int, maps: Maps, rows: slice, indices: np.ndarray) -> None:
        """Let the maps go, when they are there."""
        maps.numpy()


def make_video(path: Path, width: int, height: int, frames: int, bits_per_pixel: float) -> None:
    """H.264, 30 frames/s, of a drifting pattern under noise."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 12, (8, height, width, 1))
    y, x = np.mgrid[:height, :width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = int(30 * width * height * bits_per_pixel)
        for index in range(frames):
            wave = np.stack([np.sin((x + shift * index) / 23) + np.sin((y - shift * index) / 31) for shift in (1, 2, 3)], axis=-1)
            image = np.clip(128 + 45 * wave + noise[index % 8], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def theirs(name: str, device: torch.device) -> Callable[[Path], int]:
    """(a): windows of a video through mmaction2, one at a time; returns how many."""
    from mmaction.datasets.transforms import CenterCrop, FormatShape, Resize

    recognizer = backbone_module._build_recognizer(name).to(device)
    recognizer.eval()
    transforms = [Resize(scale=(-1, 256)), CenterCrop(crop_size=224), FormatShape(input_format="NCTHW")]
    preprocess = recognizer.data_preprocessor

    def run(video: Path) -> int:
        windows, count = WindowAssembler(window_frames=6, stride_frames=3, interval_frames=1), 0

        def features(images: list[np.ndarray]) -> None:
            item = {"imgs": images, "num_clips": 1, "clip_len": 6, "modality": "RGB"}
            for transform in transforms:
                item = transform(item)
            data = preprocess({"inputs": [torch.from_numpy(item["imgs"])], "data_samples": None})
            maps = recognizer.extract_feat(data["inputs"], stage="neck")[0]
            maps.float().cpu().numpy()

        with torch.inference_mode():
            for frame in iter_raw_frames(video):
                for _, images in windows.push(frame.image):
                    features(images)
                    count += 1
            for _, images in windows.finish():
                features(images)
                count += 1
        return count

    return run


def ours(extractor: Extractor, folder: Path) -> Callable[[Path], int]:
    """(b): from the file to committed features; returns the windows."""

    def run(video: Path) -> int:
        store = FeatureStore.open(folder / "cache")
        with experiment_workers(extractor.experiment) as workers:
            (outcome,) = extractor.extract([("video", video)], "test", store, "ns", workers)
        assert outcome.error is None, outcome.error
        windows = store.reader("ns", "video").shape[1]
        store.withdraw("ns", "video")
        return windows

    return run


def limit(extractor: Extractor) -> Callable[[Path], int]:
    """(c): cropped frames in memory, features dropped; the frames are decoded outside the clock."""
    kept: dict[Path, list[np.ndarray]] = {}

    def run(video: Path) -> int:
        if video not in kept:
            kept.clear()
            kept[video] = [frame.image for frame in iter_frames(video)]
            return 0
        batcher, sink, count = ClipBatcher(extractor.engine), Dropped(), 0
        assembler = WindowAssembler(window_frames=6, stride_frames=3, interval_frames=1)
        size = extractor.engine.batch_clips
        for start in range(0, len(kept[video]), size):
            for features in extractor.engine.frames(kept[video][start : start + size]):
                for indices, window in assembler.push(features):
                    batcher.add(sink, Clip(0, tuple(window), indices))
                    count += 1
        for indices, window in assembler.finish():
            batcher.add(sink, Clip(0, tuple(window), indices))
            count += 1
        batcher.flush()
        return count

    return run


def flops(extractor: Extractor, name: str) -> dict[str, float]:
    """FLOP a window: mmaction2's module, and ours with frames shared at stride 3."""
    network, device = extractor.engine.network, extractor.engine.device
    clip = torch.zeros(1, 6, 224, 224, 3, dtype=torch.uint8, device=device)
    found = {}
    with torch.inference_mode():
        module = backbone_module.build_backbone(name, "random").to(device)
        with FlopCounterMode(display=False) as counter:
            module(clip)
        found["mmaction2"] = float(counter.get_total_flops())
        with FlopCounterMode(display=False) as counter:
            frames = network.frames(clip[0])
        early = counter.get_total_flops() / 6
        with FlopCounterMode(display=False) as counter:
            network.clips(frames[:, None])
        found["ours"] = float(3 * early + counter.get_total_flops())
    return found


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="tpn_slowonly_r50", choices=["tpn_slowonly_r50", "tpn_tiny"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--windows", type=int, default=25, help="Windows of the video.")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", default=["340x256", "1920x1080"])
    parser.add_argument("--bits-per-pixel", type=float, default=0.13, help="Of the video; 0.13 is 8 Mbit/s at 1080p, 30 frames/s.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        experiment = parse_experiment(
            {
                "experiment": "benchmark",
                "dataset": {"adapter": "csv", "name": "none", "root": scratch, "classes": ["none"]},
                "backbone": {"name": options.backbone, "weights": "random", "precision": options.precision},
                "machine": {"device": options.device, "batch_clips": options.batch},
                "paths": {"output": scratch, "cache": f"{scratch}/cache"},
            }
        )
        extractor = Extractor(experiment)
        per_window = flops(extractor, options.backbone)
        ways = {
            "a_mmaction2": theirs(options.backbone, extractor.engine.device),
            "b_ours": ours(extractor, folder),
            "c_limit": limit(extractor),
        }
        results = [measure(ways, per_window, size, folder, options) for size in options.sizes]
    document = {
        "command": f"python benchmarks/extraction.py {' '.join(sys.argv[1:])}".strip(),
        "backbone": options.backbone,
        "precision": options.precision,
        "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}",
        "gflop_per_window": {way: round(value / 1e9, 2) for way, value in per_window.items()},
        "sizes": results,
    }
    out = options.out or Path("benchmarks/results") / f"extraction_{options.backbone}_{options.device.split(':')[0]}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


def measure(
    ways: dict[str, Callable[[Path], int]], per_window: dict[str, float], size: str, folder: Path, options: argparse.Namespace
) -> dict:
    """All three ways on a video of one size, alternating; medians."""
    width, height = map(int, size.split("x"))
    frames = 3 * options.windows + 3
    video = folder / f"{size}.mp4"
    make_video(video, width, height, frames, options.bits_per_pixel)
    device = torch.device(options.device)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(options.repeats + 1):  # the first round warms up
        for name, way in ways.items():
            start = time.monotonic()
            with heap_kept(device) if name == "c_limit" else nullcontext():  # as extraction has it
                windows = way(video)
            if options.device.startswith("cuda"):
                torch.cuda.synchronize()
            if repeat:
                assert windows == options.windows, (name, windows)
                times[name].append(time.monotonic() - start)
                print(f"{size} {name}: {times[name][-1]:.2f} s", flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    line = {
        "size": size,
        "mbit_per_s": round(8e-6 * video.stat().st_size * 30 / frames, 2),
        "frames": frames,
        "windows": options.windows,
        "seconds": {n: [round(t, 3) for t in v] for n, v in times.items()},
    }
    for name, seconds in medians.items():
        work = per_window["mmaction2" if name == "a_mmaction2" else "ours"]
        line[name] = {
            "windows_per_s": round(options.windows / seconds, 2),
            "video_frames_per_s": round(frames / seconds, 2),
            "gflop_per_s": round(options.windows * work / seconds / 1e9, 1),
        }
    line["ratio_a_over_b_time"] = round(medians["a_mmaction2"] / medians["b_ours"], 2)
    line["ratio_b_over_c_speed"] = round(medians["c_limit"] / medians["b_ours"], 3)
    line["peak_memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(line))
    return line


if __name__ == "__main__":
    main()
