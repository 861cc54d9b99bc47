"""How fast are features made, against mmaction2's own way and against our limit? All three alternate in one run.

(a) mmaction2: its Resize, CenterCrop and FormatShape on the six frames of one window, `extract_feat(stage='neck')` of
its
    recogniser, a window at a time. It is given decoded frames, each decoded once, which its own tool would not do.
(b) this pipeline: from the file to committed features in the cache.
(c) the limit: the fast form on cropped frames that lie in memory, nothing decoded, nothing written.

    python benchmarks/extraction.py --windows 25 --repeats 3

writes benchmarks/results/extraction_<backbone>_<device>.json. The video is generated noise over a moving pattern at a
bit rate that surveillance cameras have; (b) decodes it on the cores that the model uses, (c) does not. With --videos,
(b) and (c) get that many copies of it, as there are many decoders and each reads one video; (a) gets one. With --files,
the same is done with real videos, which are easier to decode than noise. On a GPU the kernels of (c) are profiled as
well, and its FLOP/s compared with those of a large matrix product in the same precision. With --turns 1 the three take
turns of a second instead of whole runs, which a CPU whose speed wavers needs (benchmarks/turns.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.gpu import ceiling, kernels
from benchmarks.turns import Lap, Turns, alternate, serve
from benchmarks.videos import make_video
from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.data.decoding.decode import iter_frames, iter_raw_frames, read_header
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.windows import WindowAssembler, window_indices
from pipeline.models import backbone as backbone_module
from pipeline.stages.common.malloc import heap_kept
from pipeline.stages.extraction.engine import Clip, ClipBatcher, Maps
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.sources import experiment_workers


class Dropped:
    """A sink that keeps nothing, and lets a GPU go on with the next batch while the maps of one come."""

    def __init__(self) -> None:
        self._coming: Maps | None = None

    def take(self, view: int, maps: Maps, rows: slice, indices: np.ndarray) -> None:
        """Let the maps before these go, when they are there."""
        self.wait()
        self._coming = maps

    def wait(self) -> None:
        """All have come."""
        if self._coming:
            self._coming.numpy()


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


def ours(extractor: Extractor, workers: DecodeWorkers, folder: Path, videos: int) -> Callable[[Path], int]:
    """(b): from the files to committed features; returns the windows. The decoders' processes are there, as in a long
    run."""

    def run(video: Path) -> int:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        store, names = FeatureStore.open(folder / "cache"), [f"video-{number}" for number in range(videos)]
        outcomes = list(extractor.extract([(name, video) for name in names], "test", store, "ns", workers))
        assert all(outcome.error is None for outcome in outcomes), outcomes
        return sum(store.reader("ns", name).shape[1] for name in names)

    return run


def limit(extractor: Extractor, videos: int) -> Callable[[Path], int]:
    """(c): cropped frames in memory, features dropped; the frames are decoded outside the clock."""
    kept: dict[Path, list[torch.Tensor]] = {}
    engine = extractor.engine

    def run(video: Path) -> int:
        with heap_kept(engine.device):  # as extraction has it
            return extracted(video)

    def extracted(video: Path) -> int:
        if video not in kept:  # in the round that warms up
            kept.clear()
            images = [frame.image for frame in iter_frames(video)]
            batches = [
                images[start : start + engine.batch_frames] for start in range(0, len(images), engine.batch_frames)
            ]
            kept[video] = [engine.room(images[0].shape)[: len(batch)] for batch in batches]
            for room, batch in zip(kept[video], batches, strict=True):
                np.stack(batch, out=room.numpy())
        batcher, sink, count = ClipBatcher(engine, torch.float16), Dropped(), 0
        for _ in range(videos):
            assembler = WindowAssembler(window_frames=6, stride_frames=3, interval_frames=1)
            for room in kept[video]:
                for features in engine.frames(room):
                    for indices, window in assembler.push(features):
                        batcher.add(sink, Clip(0, tuple(window), indices))
                        count += 1
            for indices, window in assembler.finish():
                batcher.add(sink, Clip(0, tuple(window), indices))
                count += 1
        batcher.flush()
        sink.wait()
        return count

    return run


def flops(extractor: Extractor, name: str) -> dict[str, float]:
    """FLOP a window: mmaction2's module, and ours with frames shared at stride 3."""
    network, device = extractor.engine.network, extractor.engine.device
    clip = torch.zeros(1, 6, 224, 224, 3, dtype=torch.uint8, device=device)
    found = {}
    with torch.no_grad():  # in inference mode a GPU has fused kernels, which are not counted
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
    parser.add_argument(
        "--windows", type=int, nargs="+", default=[25], help="Windows of the video, once or for each size."
    )
    parser.add_argument("--batch", type=int, default=0, help="Clips at once; 0: as extraction chooses.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--videos", type=int, default=1, help="Copies of the video for (b) and (c).")
    parser.add_argument("--ways", nargs="+", default=["a_mmaction2", "b_ours", "c_limit"], help="Which of the three.")
    parser.add_argument("--compile", action="store_true", help="(b) and (c) with torch.compile.")
    parser.add_argument("--sizes", nargs="*", default=["340x256", "1920x1080"], help="Of generated videos.")
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="Further videos, whole.")
    parser.add_argument(
        "--bits-per-pixel", type=float, default=0.13, help="Of the video; 0.13 is 8 Mbit/s at 1080p, 30 frames/s."
    )
    parser.add_argument(
        "--turns", type=float, default=0, help="Seconds a turn, on a CPU; 0: one whole run after the other."
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)  # the way that this process of --turns is
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(scratch)
        experiment = parse_experiment(
            {
                "experiment": "benchmark",
                "dataset": {"adapter": "csv", "name": "none", "root": scratch, "classes": ["none"]},
                "backbone": {"name": options.backbone, "weights": "random", "precision": options.precision},
                "machine": {"device": options.device, "batch_clips": options.batch, "compile": options.compile},
                "paths": {"output": scratch, "cache": f"{scratch}/cache"},
            }
        )
        extractor = Extractor(experiment)
        workers = stack.enter_context(experiment_workers(experiment))
        makers = {
            "a_mmaction2": lambda: theirs(options.backbone, extractor.engine.device),
            "b_ours": lambda: ours(extractor, workers, folder, options.videos),
            "c_limit": lambda: limit(extractor, options.videos),
        }
        if options.serve:
            serve(makers[options.serve]())
            return
        if options.turns:
            command = [sys.executable, __file__, *sys.argv[1:], "--serve"]
            laps = stack.enter_context(Turns({name: [*command, name] for name in options.ways}, options.turns))
        else:
            ways = {name: makers[name]() for name in options.ways}
            laps = partial(alternate, ways)
        per_window = flops(extractor, options.backbone)
        on_gpu = extractor.engine.device.type == "cuda"
        matrix_product = ceiling(extractor.engine.device, getattr(torch, extractor.precision)) if on_gpu else None
        lengths = options.windows * (len(options.sizes) if len(options.windows) == 1 else 1)
        results = []
        for size, windows in zip(options.sizes, lengths, strict=True):
            video = folder / f"{size}.mp4"
            make_video(video, *map(int, size.split("x")), 3 * windows + 3, options.bits_per_pixel)
            results.append(measure(laps, per_window, video, size, options, matrix_product))
        results += [measure(laps, per_window, file, file.name, options, matrix_product) for file in options.files]
    document = {
        "command": f"python benchmarks/extraction.py {' '.join(sys.argv[1:])}".strip(),
        "backbone": options.backbone,
        "precision": options.precision,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "matrix_product_tflop_per_s": round(matrix_product / 1e12, 1) if on_gpu else None,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}",
        "gflop_per_window": {way: round(value / 1e9, 2) for way, value in per_window.items()},
        "sizes": results,
    }
    out = (
        options.out or Path("benchmarks/results") / f"extraction_{options.backbone}_{options.device.split(':')[0]}.json"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


def measure(
    laps: Callable[[Path], dict[str, Lap]],
    per_window: dict[str, float],
    video: Path,
    label: str,
    options: argparse.Namespace,
    matrix_product: float | None,
) -> dict:
    """All ways on one video; medians, of ratios those of the rounds'."""
    header, frames = read_header(video), sum(1 for _ in iter_frames(video, wanted=()))
    windows = len(window_indices(frames, window_frames=6, stride_frames=3, interval_frames=1))
    device = torch.device(options.device)
    times: dict[str, list[float]] = {name: [] for name in options.ways}
    copies = {name: 1 if name == "a_mmaction2" else options.videos for name in options.ways}
    for repeat in range(options.repeats + 1):  # the first round warms up
        found = laps(video)
        for name, (seconds, made, _) in found.items():
            assert made == windows * copies[name], (name, made)
            if repeat:
                times[name].append(seconds)
                print(f"{label} {name}: {seconds:.2f} s", flush=True)
    line = {
        "video": label,
        "size": f"{header.width}x{header.height}",
        "mbit_per_s": round(8e-6 * header.bytes * header.fps / frames, 2),
        "frames": frames,
        "windows": windows,
        "seconds": {n: [round(t, 3) for t in v] for n, v in times.items()},
    }
    rates = {}
    for name in options.ways:
        rates[name] = windows * copies[name] / statistics.median(times[name])
        work = rates[name] * per_window["mmaction2" if name == "a_mmaction2" else "ours"]
        line[name] = {
            "windows_per_s": round(rates[name], 2),
            "video_frames_per_s": round(rates[name] * frames / windows, 2),
            "gflop_per_s": round(work / 1e9, 1),
        }
        if matrix_product:
            line[name]["share_of_matrix_product"] = round(work / matrix_product, 3)
    for ratio, way in (("ratio_a_over_b_time", "a_mmaction2"), ("ratio_b_over_c_speed", "c_limit")):
        if {way, "b_ours"} <= set(rates):
            rounds = zip(times[way], times["b_ours"], strict=True)
            line[ratio] = round(
                copies["b_ours"] / copies[way] * statistics.median(theirs / ours for theirs, ours in rounds), 3
            )
    line["peak_memory_mib"] = {name: peak for name, (_, _, peak) in found.items()}
    if device.type == "cuda":
        line["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
        if options.ways[-1:] == ["c_limit"] and isinstance(laps, partial):
            line["c_limit"]["profile"] = kernels(lambda: laps.args[0]["c_limit"](video))
    print(json.dumps(line))
    return line


if __name__ == "__main__":
    main()
