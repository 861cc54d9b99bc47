"""How fast and how small is the cache, on feature maps that the real backbones make from real frames?

Feature maps of TPN-R50 and tpn_tiny are made once from the same clips, then written and read alternately by this cache,
zarr-python with its defaults, `.npy` and h5py (`cache.bench`). Ratios are within one round. The time to open a
namespace of many videos lazily is measured too.

    python benchmarks/cache.py [--videos FOLDER] [--formats]

Without a folder the clips are of the generated street scene. The weights of TPN-R50 are random unless a checkpoint is
given. The share of zeros, on which size and speed depend, then differs from that of trained weights, so it is reported
with the results.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import write_result
from cache import FeatureStore
from cache.bench import Way, compare
from pipeline.config import Preprocess, load_experiment
from pipeline.data.decoding.decode import iter_frames
from pipeline.models.backbone import build_backbone
from pipeline.stages.common.manifest import build_manifest, load_manifest
from pipeline.stages.common.picture import picture_fit

WINDOW, STRIDE = 6, 3  # of the test windows


class FormatWay(Way):
    """One choice of chunk, shard, order within a chunk and codec, written by zarr-python in one assignment."""

    def __init__(
        self, path: Path, chunk: int, codec: object, channel_first: bool = False, shard: int | None = None
    ) -> None:
        super().__init__(path)
        self.chunk, self.shard, self.codec, self.channel_first = chunk, shard, codec, channel_first

    def write(self, maps: np.ndarray) -> None:
        """Write the maps."""
        zarr.create_array(
            self.path,
            shape=maps.shape,
            dtype=maps.dtype,
            chunks=(self.chunk, *maps.shape[1:]),
            shards=(self.shard, *maps.shape[1:]) if self.shard else None,
            filters=[TransposeCodec(order=(0, 3, 1, 2))] if self.channel_first else None,
            compressors=[self.codec, Crc32cCodec()],
        )[...] = maps

    def read(self) -> np.ndarray:
        """Read all maps."""
        return zarr.open_array(self.path, mode="r")[...]


FORMATS = {
    "chunk 8, zstd 1": partial(FormatWay, chunk=8, codec=ZstdCodec(level=1)),
    "chunk 32, zstd 1": partial(FormatWay, chunk=32, codec=ZstdCodec(level=1)),
    "chunk 32, channel first, zstd 1": partial(FormatWay, chunk=32, codec=ZstdCodec(level=1), channel_first=True),
    "chunk 32, channel first, zstd -1": partial(FormatWay, chunk=32, codec=ZstdCodec(level=-1), channel_first=True),
    "chunk 8, channel first, zstd -1": partial(FormatWay, chunk=8, codec=ZstdCodec(level=-1), channel_first=True),
    "chunk 8 in shards of 64, channel first, zstd -1": partial(
        FormatWay, chunk=8, codec=ZstdCodec(level=-1), channel_first=True, shard=64
    ),
    "chunk 32, channel first, lz4": partial(
        FormatWay, chunk=32, codec=BloscCodec(cname="lz4", clevel=1, shuffle="noshuffle"), channel_first=True
    ),
}


def fixture_videos(folder: Path) -> list[Path]:
    """The test videos of the default experiment, rendered."""
    experiment = load_experiment("configs/fixture.yaml")
    build_manifest(experiment, folder)
    manifest = load_manifest(experiment, folder)
    return [manifest.video_path(entry.video_id) for entry in manifest.split("test")]


def windows(videos: list[Path], count: int) -> np.ndarray:
    """Consecutive windows, the same number from each video, (count, 6, 224, 224, 3) uint8."""
    clips = []
    each = -(-count // min(4, len(videos)))
    for video in videos:
        frames = []
        for frame in iter_frames(video, picture_fit(Preprocess())):
            frames.append(frame.image)
            if len(frames) == WINDOW + STRIDE * (each - 1):
                break
        clips += [np.stack(frames[start : start + WINDOW]) for start in range(0, len(frames) - WINDOW + 1, STRIDE)]
        if len(clips) >= count:
            return np.stack(clips[:count])
    raise SystemExit(f"{len(videos)} videos hold {len(clips)} windows of the {count} that are wanted")


def feature_maps(clips: np.ndarray, backbone: str, weights: str) -> np.ndarray:
    """The maps of T clips, (T, 7, 7, 2048) float16."""
    module = build_backbone(backbone, weights, seed=0)
    with torch.inference_mode():
        parts = [module(torch.from_numpy(clips[start : start + 8])).numpy() for start in range(0, len(clips), 8)]
    return np.concatenate(parts).astype(np.float16)


def seconds_to_open(videos: int) -> float:
    """How long a lazy stack of so many small videos takes, from listing to array."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore.open(folder)
        for number in range(videos):
            with store.writer("ns", f"v{number}", views=2, rows=1, columns=1, channels=8, frames_per_clip=6) as writer:
                for view in range(2):
                    writer.append(view, np.ones((8, 1, 1, 8), np.float16), np.zeros((8, 6), int))
                writer.commit({})
        FeatureStore.open(folder).stack("ns", ["v0"])  # dask is imported
        start = time.perf_counter()
        fresh = FeatureStore.open(folder)
        fresh.stack("ns", sorted(fresh.video_ids("ns")))
        return time.perf_counter() - start


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, help="Folder of videos (default: the generated scene).")
    parser.add_argument("--weights", default="random", help="Of TPN-R50: random, or a checkpoint.")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--formats", action="store_true", help="Also other choices of chunk, shard, order and codec.")
    parser.add_argument("--lazy-videos", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cache.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        videos = sorted(options.videos.rglob("*.mp4")) if options.videos else fixture_videos(Path(scratch) / "manifest")
        clips = windows(videos, options.clips)
    result = {
        "machine": {
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ("zarr", "numcodecs", "numpy", "h5py", "dask")},
        "frames": "videos of a folder" if options.videos else "generated street scene",
        "clips": options.clips,
        "repeats": options.repeats,
        "maps": {},
    }
    for backbone, weights in (("tpn_slowonly_r50", options.weights), ("tpn_tiny", "bundled")):
        maps = feature_maps(clips, backbone, weights)
        with tempfile.TemporaryDirectory() as folder:
            rows = compare(maps, folder, options.repeats, more=FORMATS if options.formats else None)
        facts = {
            "weights": Path(weights).name,
            "zeros": round(float((maps == 0).mean()), 3),
            "ways": [asdict(row) for row in rows],
        }
        result["maps"][backbone] = facts
        print(f"{backbone}, {facts['weights']} weights, {facts['zeros']:.0%} zeros")
        print("| way | write MB/s | read MB/s | bytes per clip | of raw | files | write | read |")
        print("|---|---|---|---|---|---|---|---|")
        for row in rows:
            cells = [row.way, f"{row.write_mb_s:.0f}", f"{row.read_mb_s:.0f}", f"{row.bytes_per_clip:,}"]
            cells += [f"{row.share_of_raw:.2f}", str(row.files), f"{row.write_ratio:.2f}", f"{row.read_ratio:.2f}"]
            print(f"| {' | '.join(cells)} |")
    result["lazy"] = {"videos": options.lazy_videos, "seconds_to_open": round(seconds_to_open(options.lazy_videos), 2)}
    print(f"a namespace of {options.lazy_videos} videos is opened lazily in {result['lazy']['seconds_to_open']} s")
    write_result(options.out, result)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
