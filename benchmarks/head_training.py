"""How much is saved by training a frozen head on reduced bags?

Three ways to train the GIG head on one cache of maps (videos x 2 views x 8 segments x 7 x 7 x 2048, float16, synthetic
values):

- plain: every step reads the maps of its bags from the cache and computes the literal equations on them (X~ in full),
  forward and backward;
- reduced: `reduce_bags` once, then `fit_head`, as the pipeline does for one run; the runs of an ablation share the
  reduction;
- stacked: `reduce_bags` once, then `fit_jointly` of 32 settings of the lambdas, as `gig ablate` does; each run is
  charged a 32nd.

The ways alternate, each in a separate process on one thread, and medians over the repeats are reported, with the peak
memory. Times are CPU seconds of that process after torch's optimisers are imported, so that other work on the machine
matters little. The plain way is measured over some steps and extrapolated to all steps of the epochs; the others run in
full. `benchmarks/sweep.py` times `gig ablate` as a whole.

    python benchmarks/head_training.py --videos 128 --epochs 100 --plain-steps 16 --repeats 5
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import write_result
from cache import FeatureStore
from pipeline.config import Run
from pipeline.models.heads.gig import GIGHead
from pipeline.stages.training.joint import fit_jointly
from pipeline.stages.training.reduce import reduce_bags
from pipeline.stages.training.train import fit_head

SEGMENTS, SIDE, CHANNELS, VIEWS, CLASSES, BATCH, K = 8, 7, 2048, 2, 12, 8, 8
STACK = 32


def fill(folder: Path, videos: int) -> None:
    """Write a cache of maps of which half of the values are zero."""
    store, generator = FeatureStore.open(folder), np.random.default_rng(0)
    for number in range(videos):
        shape = {"views": VIEWS, "rows": SIDE, "columns": SIDE, "channels": CHANNELS, "frames_per_clip": 6}
        with store.writer("maps", f"v{number:05d}", **shape) as writer:
            for view in range(VIEWS):
                maps = np.maximum(generator.standard_normal((SEGMENTS, SIDE, SIDE, CHANNELS), dtype=np.float32), 0)
                writer.append(view, maps, np.zeros((SEGMENTS, 6), np.int64))
            writer.commit({})


def labels_of(videos: int) -> torch.Tensor:
    """Labels (videos, 1 + C): half of the videos are normal, the others of the classes in turn."""
    labels = torch.zeros(videos, 1 + CLASSES)
    for i in range(videos):
        labels[i, 0 if i % 2 == 0 else 1 + (i // 2) % CLASSES] = 1
    return labels


def plain(folder: Path, steps: int) -> dict:
    """Seconds per step of the literal equations on maps read from the cache."""
    store, generator = FeatureStore.open(folder), torch.Generator().manual_seed(0)
    ids = sorted(store.video_ids("maps"))
    labels, head = labels_of(len(ids)), GIGHead(CHANNELS, CLASSES).train()
    optimizer = torch.optim.Adagrad(head.parameters(), lr=1e-3)
    seconds = []
    for _ in range(steps):
        start = time.process_time()
        batch = torch.randperm(len(ids), generator=generator)[:BATCH]
        view = torch.randint(VIEWS, (BATCH,), generator=generator)
        maps = [store.reader("maps", ids[i]).features(v) for i, v in zip(batch.tolist(), view.tolist(), strict=True)]
        x = torch.from_numpy(np.stack(maps)).float()
        cue = x.amax(dim=(1, 2, 3))  # eq. 1
        enhanced = torch.sigmoid(cue)[:, None, None, None] * x + x  # eq. 2
        relation = torch.nn.functional.cosine_similarity(enhanced, cue[:, None, None, None], dim=-1)  # eq. 5
        flat = enhanced.flatten(2, 3)
        chosen = relation.flatten(2, 3).topk(K, dim=-1).indices
        patterns = flat.gather(2, chosen[..., None].expand(-1, -1, -1, CHANNELS)).mean(dim=2)  # eq. 6
        loss = head.loss(head(cue, patterns), labels[batch])["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.process_time() - start)
    return {"seconds_a_step": statistics.median(seconds)}


def reduced(folder: Path, epochs: int) -> dict:
    """Seconds of the pipeline's way for one run."""
    store = FeatureStore.open(folder)
    ids = sorted(store.video_ids("maps"))
    run = Run.model_validate({"head": {"k": K}, "training": {"epochs": epochs}})
    start = time.process_time()
    bags = reduce_bags(store, "maps", ids, run.head, None)
    middle = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        fit_head(bags, labels_of(len(ids)), run, CLASSES, Path(scratch), checkpoint_epochs=epochs)
    return {"reduction_s": middle - start, "epochs_s": time.process_time() - middle}


def stacked(folder: Path, epochs: int) -> dict:
    """Seconds of many settings trained jointly."""
    store = FeatureStore.open(folder)
    ids = sorted(store.video_ids("maps"))
    runs = [
        Run.model_validate({"head": {"k": K, "lambda3": i / STACK}, "training": {"epochs": epochs}})
        for i in range(STACK)
    ]
    start = time.process_time()
    bags = reduce_bags(store, "maps", ids, runs[0].head, None)
    middle = time.process_time()
    fit_jointly(bags, labels_of(len(ids)), runs, CLASSES)
    return {"reduction_s": middle - start, "epochs_s": time.process_time() - middle}


def alone(way: str, *arguments: object) -> dict:
    """Run one way in a process of its own."""
    command = [sys.executable, __file__, "--way", way, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--plain-steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="For the processes of their own.")
    parser.add_argument("--way", choices=["plain", "reduced", "stacked"], help="For the processes of their own.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/head_training.json"))
    options = parser.parse_args()
    if options.way:
        torch.set_num_threads(1)
        torch.optim.Adagrad([torch.zeros(1, requires_grad=True)])  # the first one imports a good deal of torch
        found = {
            "plain": lambda: plain(options.cache, options.plain_steps),
            "reduced": lambda: reduced(options.cache, options.epochs),
            "stacked": lambda: stacked(options.cache, options.epochs),
        }[options.way]()
        print(json.dumps(found | {"peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    with tempfile.TemporaryDirectory(prefix="head-training-") as scratch:
        fill(Path(scratch), options.videos)
        print(f"cache of {options.videos} videos written", flush=True)
        found: dict[str, list[dict]] = {"plain": [], "reduced": [], "stacked": []}
        for _ in range(options.repeats):
            for way, results in found.items():
                settings = ["--plain-steps", options.plain_steps] if way == "plain" else ["--epochs", options.epochs]
                results.append(alone(way, "--cache", scratch, *settings))
                print(way, json.dumps(results[-1]), flush=True)
    steps = options.epochs * -(-options.videos // BATCH)
    size = {"videos": options.videos, "views": VIEWS, "segments": SEGMENTS, "map": [SIDE, SIDE, CHANNELS]}
    document = {"size": size | {"epochs": options.epochs, "steps": steps, "stack": STACK}, "repeats": options.repeats}
    for way, results in found.items():
        document[way] = {name: statistics.median(each[name] for each in results) for name in results[0]}
    plain_s, alone_, stack = steps * document["plain"]["seconds_a_step"], document["reduced"], document["stacked"]
    document["plain"]["seconds"] = plain_s
    document["ratios"] = {
        "run_on_a_shared_reduction": plain_s / alone_["epochs_s"],
        "run_with_its_reduction": plain_s / (alone_["reduction_s"] + alone_["epochs_s"]),
        "run_of_a_stack_with_its_share_of_the_reduction": plain_s * STACK / (stack["reduction_s"] + stack["epochs_s"]),
    }
    document["machine"] = platform.processor() or platform.machine()
    document |= {"cores": os.cpu_count(), "torch": torch.__version__, "load_before": os.getloadavg()[0]}
    write_result(options.out, document)
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
