"""How long does an ablation of 100 settings of the GIG head take on a cache of CitySCENE's size?

The data set is made up: 2,077 training videos of 2 views x 8 segments and 100 test videos, whose maps (7 x 7 x 2048,
float16) are noise, with the direction of a class added in a few cells. Then `gig ablate` runs as a user would run it,
from the manifest to the table: 2 values of k, 5 of p, 5 of lambda2, 2 of lambda3, 100 epochs each, and the epoch chosen
on a validation split. Times are wall-clock times.

    python benchmarks/sweep.py --workers 2
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, machine, write_result
from cache import FeatureStore

SEGMENTS, VIEWS, SIDE, CHANNELS, FRAMES, WINDOWS, STRIDE = 8, 2, 7, 2048, 6, 40, 3
CLASSES = [f"Class{i:02d}" for i in range(12)]
GRID = {
    "head.k": [4, 8],
    "head.p": [1, 2, 3, 4, 6],
    "head.lambda2": [0.0, 0.25, 0.5, 1.0, 2.0],
    "head.lambda3": [0.0, 0.1],
}


def make_data(folder: Path, training: int, test: int) -> None:
    """videos.csv, annotations.csv, a small file for every video, and the cache."""
    generator = np.random.default_rng(0)
    noise = np.maximum(generator.standard_normal((4096, CHANNELS), dtype=np.float32), 0)
    directions = np.maximum(generator.standard_normal((len(CLASSES), CHANNELS), dtype=np.float32), 0)
    store, listed, intervals = (
        FeatureStore.open(folder / "cache"),
        ["video_id,path,split,label"],
        ["video_id,label,start_frame,end_frame"],
    )
    _video(folder / "one.mp4", WINDOWS * STRIDE + FRAMES - STRIDE)
    for number in range(training + test):
        video_id, split = f"v{number:05d}", "train" if number < training else "test"
        kind = None if number % 2 else number // 2 % len(CLASSES)
        shutil.copy(folder / "one.mp4", folder / f"{video_id}.mp4")
        listed.append(f"{video_id},{video_id}.mp4,{split},{'Normal' if kind is None else CLASSES[kind]}")
        views, steps = (VIEWS, SEGMENTS) if split == "train" else (1, WINDOWS)
        shape = {"views": views, "rows": SIDE, "columns": SIDE, "channels": CHANNELS, "frames_per_clip": FRAMES}
        with store.writer(f"maps-{split}", video_id, **shape) as writer:
            for view in range(views):
                maps = noise[generator.integers(len(noise), size=(steps, SIDE, SIDE))]
                if kind is not None:
                    maps[steps // 2 : steps // 2 + steps // 4, 3, 2:5] += directions[kind]
                starts = STRIDE * np.arange(steps)[:, None]
                writer.append(view, maps, starts + np.arange(FRAMES))
            writer.set_times(np.arange(steps * STRIDE + FRAMES - STRIDE) / 30)
            writer.commit({})
        if kind is not None and split == "test":
            intervals.append(f"{video_id},{CLASSES[kind]},{STRIDE * (steps // 2)},{STRIDE * (steps // 2 + steps // 4)}")
    (folder / "videos.csv").write_text("\n".join(listed) + "\n", encoding="utf-8")
    (folder / "annotations.csv").write_text("\n".join(intervals) + "\n", encoding="utf-8")


def _video(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


def write_configs(folder: Path, epochs: int) -> Path:
    """The experiment and the ablation; returns the latter's path."""
    base = {
        "experiment": "sweep",
        "dataset": {
            "adapter": "csv",
            "name": "made_up",
            "root": str(folder),
            "annotations": "annotations.csv",
            "classes": CLASSES,
        },
        "backbone": {"name": "tpn_slowonly_r50", "weights": "random"},  # not loaded: features are imported
        "features": {"train": "maps-train", "test": "maps-test"},
        "training": {"epochs": epochs},
        "selection": {"validation_share": 0.2},
        "paths": {"output": str(folder / "var"), "cache": str(folder / "cache")},
        "machine": {"device": "cpu"},
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
    path = folder / "sweep.yaml"
    path.write_text(
        yaml.safe_dump({"name": "sweep", "base": str(folder / "base.yaml"), "grid": GRID}), encoding="utf-8"
    )
    return path


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", type=int, default=2077)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--scratch", type=Path, help="Where the cache of about 6 GB goes; the system's temporary folder by default."
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sweep.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sweep-", dir=options.scratch) as scratch:
        folder = Path(scratch)
        make_data(folder, options.training, options.test)
        size = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
        print(f"cache of {options.training} + {options.test} videos: {size / 2**30:.1f} GiB", flush=True)
        ablation = write_configs(folder, options.epochs)
        gig = str(Path(sys.executable).with_name("gig"))
        command = [gig, "ablate", "--config", str(ablation), "--workers", str(options.workers)]
        start = time.monotonic()
        subprocess.run(command, check=True, cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL)
        minutes = (time.monotonic() - start) / 60
        (results,) = (folder / "var" / "sweep").glob("ablation-*/results.csv")
        settings = len(results.read_text(encoding="utf-8").splitlines()) - 1
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    document = {
        "command": command_line(),
        "machine": f"{machine()}, torch {torch.__version__}",
        "training_videos": options.training,
        "test_videos": options.test,
        "epochs": options.epochs,
        "settings": settings,
        "cache_gib": round(size / 2**30, 2),
        "workers": options.workers,
        "wall_min": round(minutes, 1),
        "cpu_min": round((used.ru_utime + used.ru_stime) / 60, 1),
        "largest_process_peak_mib": round(used.ru_maxrss / 1024),
    }
    write_result(options.out, document)
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
