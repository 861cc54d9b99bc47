"""How fast are features made, compared with mmaction2 and with what the backbone alone could do?

Three ways run alternately on the same videos:

(a) mmaction2: its Resize, CenterCrop and FormatShape on the six frames of one window, and `extract_feat(stage='neck')`
    of its recogniser, one window at a time. It gets frames that are decoded once each, which its own tool would not do.
(b) this pipeline: from the file to committed features in the cache.
(c) the limit: the fast form on cropped frames that lie in memory; nothing is decoded and nothing written.

    python benchmarks/extraction.py --windows 25 --repeats 3

writes benchmarks/results/extraction_<backbone>_<device>.json. The video is generated: noise over a moving pattern, with
the bit rate of a surveillance camera. (b) decodes it on the same cores that the model uses, (c) does not. With --videos
(b) and (c) get that many copies of it, since each decoder reads one video; (a) gets one. With --files real videos are
measured too; they are easier to decode than noise. On a GPU the kernels of (c) are also profiled, and its FLOP/s are
compared with those of a large matrix product in the same precision. With --turns 1 the three run in alternating
one-second slices while the others are paused, which a CPU whose speed varies needs (benchmarks/turns.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.extraction_ways import flops, limit, ours, theirs
from benchmarks.gpu import ceiling, kernels
from benchmarks.results_file import command_line, machine, write_result
from benchmarks.turns import Lap, Turns, Way, alternate, serve
from benchmarks.videos import make_video
from pipeline.config import Experiment, parse_experiment
from pipeline.data.decoding.decode import iter_frames, read_header
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.windows import window_indices
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.sources import experiment_workers

Laps = Callable[[Path], dict[str, Lap]]
"""Runs all ways on one video."""

WORK = {"a_mmaction2": "mmaction2", "b_ours": "ours", "c_limit": "ours"}
"""Way -> whose FLOP per window it needs."""


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--backbone", default="tpn_slowonly_r50", choices=["tpn_slowonly_r50", "tpn_tiny"])
    add("--precision", default="float32", choices=["float32", "bfloat16", "float16"])
    add("--device", default="cpu")
    add("--windows", type=int, nargs="+", default=[25], help="Windows of the video: one number, or one per size.")
    add("--batch", type=int, default=0, help="Clips per batch; 0: as extraction chooses.")
    add("--repeats", type=int, default=3)
    add("--videos", type=int, default=1, help="Copies of the video for (b) and (c).")
    add("--ways", nargs="+", default=["a_mmaction2", "b_ours", "c_limit"], help="Which of the three.")
    add("--compile", action="store_true", help="(b) and (c) with torch.compile.")
    add("--sizes", nargs="*", default=["340x256", "1920x1080"], help="Sizes of generated videos.")
    add("--files", type=Path, nargs="*", default=[], help="Further videos, measured whole.")
    add("--bits-per-pixel", type=float, default=0.13, help="Bit rate; 0.13 is 8 Mbit/s at 1080p, 30 frames/s.")
    add("--turns", type=float, default=0, help="Seconds per slice, on a CPU; 0: one whole run after the other.")
    add("--serve", help=argparse.SUPPRESS)  # the way that a process of --turns runs
    add("--out", type=Path)
    return parser.parse_args()


def settings(options: argparse.Namespace, folder: Path) -> Experiment:
    """An experiment whose outputs go to the folder."""
    return parse_experiment(
        {
            "experiment": "benchmark",
            "dataset": {"adapter": "csv", "name": "none", "root": str(folder), "classes": ["none"]},
            "backbone": {"name": options.backbone, "weights": "random", "precision": options.precision},
            "machine": {"device": options.device, "batch_clips": options.batch, "compile": options.compile},
            "paths": {"output": str(folder), "cache": f"{folder}/cache"},
        }
    )


def make_way(name: str, options: argparse.Namespace, extractor: Extractor, workers: DecodeWorkers, folder: Path) -> Way:
    """One of the three ways."""
    if name == "a_mmaction2":
        return theirs(options.backbone, extractor.engine.device)
    if name == "b_ours":
        return ours(extractor, workers, folder, options.videos)
    return limit(extractor, options.videos)


def measure_all(
    options: argparse.Namespace,
    laps: Laps,
    per_window: dict[str, float],
    matrix_product: float | None,
    folder: Path,
) -> list[dict]:
    """All ways on every generated video and every file."""
    results = []
    lengths = options.windows * (len(options.sizes) if len(options.windows) == 1 else 1)
    for size, windows in zip(options.sizes, lengths, strict=True):
        video = folder / f"{size}.mp4"
        make_video(video, *map(int, size.split("x")), 3 * windows + 3, options.bits_per_pixel)
        results.append(measure(laps, per_window, video, size, options, matrix_product))
    return results + [measure(laps, per_window, file, file.name, options, matrix_product) for file in options.files]


def main() -> None:
    """Run, print and write."""
    options = read_options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        experiment = settings(options, folder)
        extractor = Extractor(experiment)
        workers = stack.enter_context(experiment_workers(experiment))
        if options.serve:
            serve(make_way(options.serve, options, extractor, workers, folder))
            return
        laps: Laps
        if options.turns:
            command = [sys.executable, __file__, *sys.argv[1:], "--serve"]
            laps = stack.enter_context(Turns({name: [*command, name] for name in options.ways}, options.turns))
        else:
            ways = {name: make_way(name, options, extractor, workers, folder) for name in options.ways}
            laps = partial(alternate, ways)
        per_window = flops(extractor, options.backbone)
        on_gpu = extractor.engine.device.type == "cuda"
        matrix_product = ceiling(extractor.engine.device, getattr(torch, extractor.precision)) if on_gpu else None
        results = measure_all(options, laps, per_window, matrix_product, folder)
    document = {
        "command": command_line(),
        "backbone": options.backbone,
        "precision": options.precision,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "matrix_product_tflop_per_s": round(matrix_product / 1e12, 1) if matrix_product else None,
        "machine": f"{machine()}, torch {torch.__version__}",
        "gflop_per_window": {way: round(value / 1e9, 2) for way, value in per_window.items()},
        "sizes": results,
    }
    name = f"extraction_{options.backbone}_{options.device.split(':')[0]}.json"
    out = options.out or Path("benchmarks/results") / name
    write_result(out, document)
    print(f"written to {out}")


def measure(
    laps: Laps,
    per_window: dict[str, float],
    video: Path,
    label: str,
    options: argparse.Namespace,
    matrix_product: float | None,
) -> dict:
    """All ways on one video: medians over the rounds, also of the ratios within each round."""
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
    rates = {name: windows * copies[name] / statistics.median(times[name]) for name in options.ways}
    for name, rate in rates.items():
        line[name] = speed(rate, rate * frames / windows, per_window[WORK[name]], matrix_product)
    for ratio, way in (("ratio_a_over_b_time", "a_mmaction2"), ("ratio_b_over_c_speed", "c_limit")):
        if {way, "b_ours"} <= set(rates):
            rounds = [theirs / ours for theirs, ours in zip(times[way], times["b_ours"], strict=True)]
            line[ratio] = round(copies["b_ours"] / copies[way] * statistics.median(rounds), 3)
    line["peak_memory_mib"] = {name: peak for name, (_, _, peak) in found.items()}
    if device.type == "cuda":
        line["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
        if options.ways[-1:] == ["c_limit"] and isinstance(laps, partial):
            line["c_limit"]["profile"] = kernels(lambda: laps.args[0]["c_limit"](video))
    print(json.dumps(line))
    return line


def speed(windows_per_s: float, frames_per_s: float, flop: float, matrix_product: float | None) -> dict:
    """The speed of a way whose windows cost so many FLOP each."""
    line = {
        "windows_per_s": round(windows_per_s, 2),
        "video_frames_per_s": round(frames_per_s, 2),
        "gflop_per_s": round(windows_per_s * flop / 1e9, 1),
    }
    if matrix_product:
        line["share_of_matrix_product"] = round(windows_per_s * flop / matrix_product, 3)
    return line


if __name__ == "__main__":
    main()
