"""How long does it take to find out that everything is extracted already?

Two thousand copies of a tiny video are listed in a CSV data set, and their features (of the smallest shape there is)
are put into the cache, with records like those of the extraction. Then two things are timed, each in a fresh process:
Luigi's question whether the features' shard is complete, and the extraction itself, which compares every record with
its file.

    python benchmarks/recognise.py

writes benchmarks/results/recognise.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, machine, write_result
from cache import FeatureStore
from pipeline.config import load_experiment
from pipeline.data.decoding.decode import content_sha256
from pipeline.stages.common.manifest import build_manifest
from pipeline.stages.common.outputs import make_folder
from pipeline.stages.common.recipes import Recipes

ROOT = Path(__file__).parent.parent
# Imports are outside the clock: they take as long for one video.
CLOCK = """
import sys, time
import pipeline.stages.extraction.extract
from pipeline.config import load_experiment
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.recipes import Recipes
from tasks import ExtractShard

config, question = sys.argv[1:]
start = time.monotonic()
if question == "task":
    assert ExtractShard(config=config, split="test", shard=0, shards=1).complete()
else:
    recipes = Recipes(load_experiment(config))
    manifest = load_manifest(recipes.experiment, recipes.manifest_folder)
    videos, namespace = manifest.split("test"), recipes.namespace("test")
    report = pipeline.stages.extraction.extract.extract_split(
        recipes.experiment, manifest, "test", videos, namespace, recipes.quarantine
    )
    assert len(report.cached) == len(videos), report
print(time.monotonic() - start)
"""


def make_data_set(folder: Path, videos: int) -> Path:
    """Write a CSV data set of copies of one video; returns the path of its configuration."""
    (folder / "data").mkdir()
    first = folder / "data" / "v0000.mp4"
    with av.open(str(first), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for index in range(6):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * index, np.uint8), format="rgb24"))
            )
        container.mux(stream.encode(None))
    lines = ["video_id,path,split,label,source"]
    for number in range(videos):
        lines.append(f"v{number:04d},v{number:04d}.mp4,test,{'Fighting' if number % 2 else 'Normal'},")
        if number:
            shutil.copyfile(first, folder / "data" / f"v{number:04d}.mp4")
    for number, label in enumerate(("Fighting", "Normal")):
        lines.append(f"t{number},t{number}.mp4,train,{label},")
        shutil.copyfile(first, folder / "data" / f"t{number}.mp4")
    (folder / "data" / "videos.csv").write_text("\n".join(lines) + "\n")
    dataset = {
        "adapter": "csv",
        "name": "many",
        "root": str(folder / "data"),
        "classes": ["Fighting"],
        "whole_video_anomalous": True,
    }
    config = {
        "experiment": "recognise",
        "dataset": dataset | {"annotations": None},
        "backbone": {"name": "tpn_tiny", "weights": "bundled"},
        "paths": {"output": str(folder / "var"), "cache": str(folder / "cache")},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(config))
    return folder / "experiment.yaml"


def commit(config: Path, namespace: str, weights: str, sha256: str, video_id: str) -> None:
    """Put the features of one window into the cache, as if they had been extracted."""
    experiment = load_experiment(config)
    facts = (experiment.dataset.root / f"{video_id}.mp4").stat()
    source = {"bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns, "sha256": sha256, "decoded_frames": 6}
    sections = {name: getattr(experiment, name).model_dump() for name in ("decoding", "preprocess", "test_sampling")}
    store = FeatureStore.open(experiment.paths.cache)
    with store.writer(namespace, video_id, views=1, rows=1, columns=1, channels=8, frames_per_clip=6) as writer:
        writer.append(0, np.zeros((1, 1, 1, 8), np.float32), np.arange(6)[None])
        writer.set_times(np.arange(6) / 10)
        writer.commit({"source": source, "backbone": {"weights_sha256": weights}} | sections)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/recognise.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        config = make_data_set(Path(scratch), options.videos)
        recipes = Recipes(load_experiment(config))
        make_folder(recipes.manifest_folder, lambda folder: build_manifest(recipes.experiment, folder))
        namespace, ids = recipes.namespace("test"), [f"v{number:04d}" for number in range(options.videos)]
        sha256 = content_sha256(recipes.experiment.dataset.root / "v0000.mp4")
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(commit, config, namespace, recipes.weights_digest, sha256), ids, chunksize=50))
        marker = recipes.features_marker("test", 0, 1)
        marker.parent.mkdir(parents=True)
        marker.write_text(json.dumps({"namespace": namespace, "video_ids": ids}))
        seconds = {}
        for question in ("task", "extraction"):
            command = [sys.executable, "-c", CLOCK, str(config), question]
            runs = [
                subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
                for _ in range(options.repeats)
            ]
            seconds[question] = [round(float(run.stdout.split()[-1]), 3) for run in runs]
    document = {
        "command": command_line(),
        "machine": machine(),
        "videos": options.videos,
        "seconds": seconds,
        "median_s": {question: statistics.median(values) for question, values in seconds.items()},
    }
    write_result(options.out, document)
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
