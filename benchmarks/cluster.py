"""What does a dask cluster cost?

    python benchmarks/cluster.py worker

compares one dask worker with the local engine: both extract the same generated videos with the bundled small backbone,
in turn, with as many decoders. Starting the cluster and loading the backbone are not timed: the clock runs from the
moment the first video is asked for. The ratio is that of windows per second, the median over the rounds.

    python benchmarks/cluster.py scale

gives 10,000 tasks to 64 simulated workers, which sleep, and cuts the connection of 10 % of the workers on the way. It
reports the share of the ideal (the seconds slept, divided by the slot-seconds that there were from the first task to
the last), the processor time of scheduler and client per task, and their memory. Scheduler, workers and client are
processes of their own.

Both write benchmarks/results/cluster_<what>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.cluster_stub import Sleeping, serve_workers
from benchmarks.results_file import command_line, machine, write_result
from benchmarks.videos import make_video
from cache import FeatureStore
from pipeline.cluster import LocalWorkers, Task, connected, run_tasks
from pipeline.config import Experiment, parse_experiment
from pipeline.data.entries import VideoEntry
from pipeline.data.manifest import Manifest
from pipeline.progress import silent
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.on_cluster import cluster_extraction
from pipeline.stages.extraction.sources import experiment_workers

SPREAD = 0.8
"""Of the lengths of tasks, which are distributed log-normally."""
TICKS = os.sysconf("SC_CLK_TCK")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("what", choices=["worker", "scale"])
    add("--videos", type=int, default=0, help="Default: 8 of `worker`, 10000 of `scale`.")
    add("--windows", type=int, default=60, help="Of each video of `worker`.")
    add("--repeats", type=int, default=5)
    add("--workers", type=int, default=64)
    add("--slots", type=int, default=2)
    add("--seconds", type=float, default=4.0, help="Mean length of a task of `scale`.")
    add("--killed", type=float, default=0.1, help="Share of the workers.")
    add("--serve", help=argparse.SUPPRESS)  # address of the scheduler, for the process with the workers
    return parser.parse_args()


# One worker against the local engine


def compare(options: argparse.Namespace) -> dict[str, object]:
    """Windows per second of both, in turn."""
    count = options.videos or 8
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [f"video-{number}" for number in range(count)]
        make_video(folder / "video.mp4", 340, 256, 3 * options.windows + 3, 0.13)
        entries = [
            VideoEntry(one, "video.mp4", "test", (), None, 340, 256, 30.0, 3 * options.windows + 3, 1) for one in names
        ]
        manifest = Manifest(folder, ("none",), tuple(entries), None)
        experiment = _settings(folder)
        extractor = Extractor(experiment)
        rates: dict[str, list[float]] = {"local": [], "dask": []}
        with (
            experiment_workers(experiment) as workers,
            cluster_extraction(
                experiment, manifest, "test", entries, "dask", "pipeline.data.decoding.decode", silent, silent
            ) as extract,
        ):
            store = FeatureStore.open(experiment.paths.cache)
            for repeat in range(options.repeats + 1):  # the first round warms up
                clock = _Clock(names, folder / "video.mp4")
                ways = {
                    "local": lambda clock=clock: extractor.extract(clock.asked(), "test", store, "local", workers),
                    "dask": lambda clock=clock: extract(clock.asked()),
                }
                for way in ("local", "dask") if repeat % 2 else ("dask", "local"):
                    outcomes = list(ways[way]())
                    seconds = time.monotonic() - clock.begun
                    assert all(outcome.error is None for outcome in outcomes), outcomes
                    windows = sum(store.reader(way, one).shape[1] for one in names)
                    if repeat:
                        rates[way].append(windows / seconds)
                        print(f"{way}: {windows / seconds:.1f} windows/s", flush=True)
    ratios = [there / here for here, there in zip(rates["local"], rates["dask"], strict=True)]
    return {
        "videos": count,
        "windows_per_video": options.windows,
        "windows_per_s": {way: [round(rate, 2) for rate in found] for way, found in rates.items()},
        "ratio_dask_over_local": {"median": round(statistics.median(ratios), 3), "all": [round(r, 3) for r in ratios]},
    }


class _Clock:
    """Begins when the first video is asked for."""

    def __init__(self, names: Sequence[str], video: Path) -> None:
        self._names, self._video = names, video
        self.begun = 0.0

    def asked(self) -> Iterator[tuple[str, Path]]:
        """(id, path) of all videos."""
        self.begun = time.monotonic()
        for name in self._names:
            yield name, self._video


def _settings(folder: Path) -> Experiment:
    return parse_experiment(
        {
            "experiment": "benchmark",
            "dataset": {"adapter": "csv", "name": "none", "root": str(folder), "classes": ["none"]},
            "backbone": {"name": "tpn_tiny", "weights": "bundled"},
            "machine": {"device": "cpu", "engine": "dask", "decode_workers": 2, "threads": 1},
            "paths": {"output": str(folder), "cache": f"{folder}/cache"},
        }
    )


# Many workers


def scale(options: argparse.Namespace) -> dict[str, object]:
    """Many tasks on many workers that sleep."""
    count = options.videos or 10_000
    chance = random.Random(0)
    lengths = sorted((chance.lognormvariate(0, SPREAD) for _ in range(count)), reverse=True)
    lengths = [options.seconds * length * count / sum(lengths) for length in lengths]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "scheduler.json"
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1"]
        scheduler = subprocess.Popen(
            [*command, "--no-dashboard", "--scheduler-file", str(file)], stderr=subprocess.DEVNULL
        )
        try:
            while not file.exists() or not file.read_text():
                time.sleep(0.1)
            return _measured(options, lengths, scheduler.pid, json.loads(file.read_text())["address"])
        finally:
            scheduler.kill()
            scheduler.wait()


def _measured(options: argparse.Namespace, lengths: list[float], scheduler: int, address: str) -> dict[str, object]:
    count, slots = options.workers, options.slots
    serving = [sys.executable, __file__, "scale", "--serve", address, "--workers", str(count), "--slots", str(slots)]
    workers = subprocess.Popen(
        serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    kills = [len(lengths) * (2 + number) // 20 for number in range(int(options.killed * count))]  # from a tenth on
    started, alive, capacity = 0.0, count, 0.0
    killed_at: list[int] = []

    def tasks() -> Iterator[Task]:
        nonlocal started
        started = time.monotonic()
        for number, seconds in enumerate(lengths):
            yield Task(f"made-windows-1234abcd/{number}", seconds)  # dask remembers names up to the first - for ever

    said: list[str] = []
    seen: set[str] = set()
    try:
        assert workers.stdout is not None
        assert workers.stdin is not None
        assert workers.stdout.readline().strip() == "ready"
        with connected(address, "video", 60, lambda: LocalWorkers([], 1)) as connection:
            before = _cpu_s(scheduler), _cpu_s(os.getpid())
            memory = _rss_mib(scheduler), _rss_mib(os.getpid())
            last = 0.0
            for number, end in enumerate(run_tasks(connection, Sleeping, {}, tasks(), say=said.append)):
                assert end.error is None, end
                seen.add(end.task.key)
                now = time.monotonic()
                capacity += alive * slots * (now - (last or started))
                last = now
                if kills and number >= kills[0]:
                    kills.pop(0)
                    alive -= 1
                    print(alive, file=workers.stdin, flush=True)
                    killed_at.append(number)
                if number % 200 == 0:
                    print(number, f"{now - started:.0f} s", f"{sum(lengths):.0f} s asked", flush=True)
            cpu = _cpu_s(scheduler) - before[0], _cpu_s(os.getpid()) - before[1]
    finally:
        workers.kill()
        workers.wait()
    assert len(seen) == len(lengths)
    return {
        "workers": count,
        "slots": slots,
        "tasks": len(lengths),
        "mean_task_s": options.seconds,
        "longest_task_s": round(lengths[0], 1),
        "workers_killed_after_tasks": killed_at,
        "seconds": round(last - started, 1),
        "share_of_ideal": round(sum(lengths) / capacity, 3),
        "scheduler_ms_per_task": round(1e3 * cpu[0] / len(lengths), 2),
        "client_ms_per_task": round(1e3 * cpu[1] / len(lengths), 2),
        "scheduler_mib": {"before": memory[0], "peak": _peak_mib(scheduler)},
        "client_mib": {
            "before": memory[1],
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        },
        "warnings": len(said),
    }


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"process {pid} says nothing of {key}")


def _rss_mib(pid: int) -> int:
    return _status(pid, "VmRSS")


def _peak_mib(pid: int) -> int:
    return _status(pid, "VmHWM")


def main() -> None:
    """Run, print and write."""
    options = read_options()
    if options.serve:
        serve_workers(options.serve, options.workers, options.slots)
        return
    found = compare(options) if options.what == "worker" else scale(options)
    document = {"command": command_line(), "machine": machine(), **found}
    print(json.dumps(document, indent=1))
    out = Path("benchmarks/results") / f"cluster_{options.what}.json"
    write_result(out, document)
    print(f"written to {out}")


if __name__ == "__main__":
    main()
