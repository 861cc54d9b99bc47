"""Two hosts, a bucket between them, and a killer: the results must be those of one process that nobody disturbs.

    .venv/bin/python benchmarks/two_hosts.py --kills 20

The hosts are network namespaces of Linux (this needs root), which see each other and an S3 server (moto) over a bridge
and nothing else. Host one has a dask scheduler, a worker and the command, host two a worker; videos, features and
results lie in the bucket. At random moments one of them is killed with SIGKILL and started again, and the experiment is
repeated in an empty bucket until there were so many kills. Features, cues, frames, score tables and metrics of each
repetition are compared with those of one process on local folders. At the end no process may be left.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fsspec
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.hosts import ENDPOINT, MARK, SCHEDULER, Process, left_over, network
from benchmarks.results_file import command_line, machine, write_result
from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import SILENT, Manifest

BIN = Path(sys.executable).parent
RESULT = Path(__file__).parent / "results" / "two_hosts.json"
VIDEOS: dict[str, Any] = {
    "train_normal": 10,
    "train_per_class": 5,
    "test_normal": 3,
    "test_anomalous": 5,
    "train_frames": [48, 80],
    "test_frames": [150, 250],
    "classes": ["Explosion", "Fighting"],
}
SLOTS = 2  # videos that a worker has at once
DIGEST = re.compile(r"-[0-9a-f]{8,}$")
PLACE = re.compile(rb'"config_digest": "[0-9a-f]+"')
"""In metrics.json: of the configuration, which names the place of the videos."""
ENOUGH_S = 1800  # a repetition that takes longer hangs


def render(folder: Path) -> None:
    """Render the videos, and list them as a team lists its own."""
    spec = settings("", str(folder / "rendered")) | {"dataset": {"adapter": "synthetic", "name": "v", **VIDEOS}}
    recipes = Recipes(parse_experiment(spec, "the rendered videos"))
    made = load_manifest(recipes.experiment, Manifest(recipes).make(SILENT), truth=True)
    root = folder / "videos"
    for entry in made.videos:
        target = root / f"{entry.video_id}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        made.video_path(entry.video_id).rename(target)
    tables: dict[str, list[list[object]]] = {
        "videos.csv": [["video_id", "path", "split", "label"]]
        + [
            [entry.video_id, f"{entry.video_id}.mp4", entry.split, ";".join(entry.labels or ()) or "Normal"]
            for entry in made.videos
        ],
        "truth.csv": [["video_id", "label", "start_frame", "end_frame"]]
        + [[cut.video_id, cut.label, cut.start_frame, cut.end_frame] for cut in made.intervals or ()],
    }
    for name, rows in tables.items():
        with (root / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)


def settings(root: str, output: str, **machine_settings: object) -> dict[str, Any]:
    """The experiment, for a place of the videos and one of the results."""
    return {
        "experiment": "proof",
        "dataset": {
            "adapter": "csv",
            "name": "proof",
            "root": root,
            "annotations": "truth.csv",
            "classes": VIDEOS["classes"],
        },
        "backbone": {"name": "tpn_tiny", "weights": "bundled"},
        "training": {"epochs": 20},
        "machine": {"device": "cpu", "threads": 1, "decode_workers": SLOTS, **machine_settings},
        "paths": {"output": f"{output}/results", "cache": f"{output}/cache"},
    }


def checksums(experiment: dict[str, Any]) -> dict[str, str]:
    """Of all features, cues and frames, of all score tables, and of the metrics; by a name without digests."""
    found = {}
    store = FeatureStore.open(experiment["paths"]["cache"])
    for namespace in store.namespaces():
        for video_id in sorted(store.video_ids(namespace)):
            reader = store.reader(namespace, video_id)
            maps = [reader.features(view) for view in range(reader.record.shapes["features"][0])]
            parts = [array.tobytes() for array in (*maps, reader.cue(), reader.frames(), reader.times())]
            found[f"{DIGEST.sub('', namespace)}/{video_id}"] = hashlib.sha256(b"".join(parts)).hexdigest()
    system, top = fsspec.core.url_to_fs(experiment["paths"]["output"])
    for path in sorted(system.find(top)):
        folder, _, name = path.removeprefix(f"{top}/proof/").partition("/")
        if (folder.startswith("scores-") and name.startswith("frames/")) or name == "metrics.json":
            content = PLACE.sub(b"", system.cat_file(path))
            found[f"{DIGEST.sub('', folder)}/{name}"] = hashlib.sha256(content).hexdigest()
    return found


@contextmanager
def bucket_server(folder: Path) -> Iterator[None]:
    """The S3 server, outside of both hosts."""
    with (folder / "server.log").open("ab") as log:
        host, port = ENDPOINT.removeprefix("http://").split(":")
        server = subprocess.Popen([str(BIN / "moto_server"), "-H", host, "-p", port], stdout=log, stderr=log)
    system = fsspec.filesystem("s3")
    try:
        for _ in range(100):
            try:
                system.mkdir("videos")
                break
            except Exception:  # it starts
                time.sleep(0.2)
        yield
    finally:
        server.kill()
        server.wait()


def environment() -> dict[str, str]:
    """Of all processes: how they reach the bucket, and by what they are known."""
    os.environ |= {
        "AWS_ENDPOINT_URL": ENDPOINT,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "OMP_NUM_THREADS": "1",
        MARK: str(os.getpid()),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    return dict(os.environ)


class Disturbed:
    """The experiment on two hosts, whose processes are killed at random moments.

    Args:
        folder: for logs and mirrors.
        random_numbers: when and who.
    """

    def __init__(self, folder: Path, random_numbers: random.Random) -> None:
        self.kills: Counter[str] = Counter()
        self._random, self._folder, self._environment = random_numbers, folder, dict(os.environ)
        self._lasting = [
            self._process("scheduler", "one", "dask", "scheduler", "--port", SCHEDULER.rsplit(":", 1)[1]),
            *(
                self._process(
                    f"worker-{host}",
                    host,
                    *("dask", "worker", SCHEDULER, "--nthreads", str(SLOTS), "--resources", f"video={SLOTS}"),
                )
                for host in ("one", "two")
            ),
        ]

    def _process(self, role: str, host: str, program: str, *arguments: str) -> Process:
        return Process(role, host, [str(BIN / program), *arguments], self._folder, self._environment)

    def repeat(self, number: int, most_kills: int) -> dict[str, Any]:
        """Run the experiment in an empty part of the bucket; returns its settings."""
        url = f"s3://videos/run-{number}"
        experiment = settings("s3://videos/data", url, engine="dask", scheduler=SCHEDULER)
        experiment["paths"]["scratch"] = str(self._folder / f"mirror-{number}")
        config = self._folder / f"run-{number}.yaml"
        config.write_text(yaml.safe_dump(experiment), encoding="utf-8")
        command = self._process("command", "one", "luigi", "--module", "tasks", "EvaluateAll", "--config", str(config))
        until = time.monotonic() + ENOUGH_S
        command.start()
        due = time.monotonic() + self._random.uniform(3, 25)
        while True:
            for process in self._lasting:
                if not process.alive:
                    process.start()
            if (code := command.ended) is not None:
                if code == 0:
                    return experiment
                time.sleep(1)  # as a person who runs it again
                command.start()
            if self.kills.total() < most_kills and time.monotonic() >= due:
                victim = self._random.choice([*self._lasting, command])
                victim.kill()
                self.kills[victim.role] += 1
                print(f"killed {victim.role}", flush=True)
                due = time.monotonic() + self._random.uniform(3, 25)
            if time.monotonic() > until:
                raise TimeoutError(f"repetition {number} is not done after {ENOUGH_S} s; see {self._folder}")
            time.sleep(0.2)

    def end(self) -> None:
        """End the scheduler and the workers as an administrator does."""
        for process in reversed(self._lasting):
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="two-hosts-")))
        everything = environment()
        render(folder)
        local = settings(str(folder / "videos"), str(folder))
        (folder / "local.yaml").write_text(yaml.safe_dump(local), encoding="utf-8")
        alone = [str(BIN / "luigi"), "--module", "tasks", "EvaluateAll", "--config", str(folder / "local.yaml")]
        began = time.monotonic()
        subprocess.run(
            alone, check=True, cwd=folder, env=everything, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        alone_s, reference = time.monotonic() - began, checksums(local)
        stack.enter_context(network())
        stack.enter_context(bucket_server(folder))
        fsspec.filesystem("s3").put(str(folder / "videos") + "/", "videos/data/", recursive=True)
        disturbed = Disturbed(folder, random.Random(chosen.seed))
        stack.callback(disturbed.end)
        repetitions, differences = [], []
        while not repetitions or disturbed.kills.total() < chosen.kills:
            before, began = disturbed.kills.total(), time.monotonic()
            found = checksums(disturbed.repeat(len(repetitions), chosen.kills))
            differences += [name for name in reference.keys() | found.keys() if reference.get(name) != found.get(name)]
            repetitions.append({"kills": disturbed.kills.total() - before, "s": round(time.monotonic() - began, 1)})
            print(json.dumps(repetitions[-1]), f"{len(differences)} differences", flush=True)
        disturbed.end()
        left = left_over(patience_s=30)
    document = {
        "machine": machine(),
        "command": command_line(),
        "videos": sum(1 for name in reference if not name.startswith(("scores-", "evaluation-"))),
        "compared": len(reference),
        "undisturbed_on_one_machine_s": round(alone_s, 1),
        "kills": dict(sorted(disturbed.kills.items())),
        "repetitions": repetitions,
        "different": sorted(set(differences)),
        "processes_left": left,
    }
    write_result(chosen.out, document)
    print(json.dumps(document, indent=1))
    sys.exit(bool(differences or left))


if __name__ == "__main__":
    main()
