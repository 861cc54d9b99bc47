"""How fast decoders, backbone, cache and the videos' disk are, and which of them limits an extraction."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.bench import generated_maps, time_store
from pipeline.config import Experiment
from pipeline.data.decoding.messages import Job
from pipeline.errors import DecodeError
from pipeline.models.backbones import backbone_facts
from pipeline.remote import AnyPath
from pipeline.stages.common.picture import map_size, picture_size
from pipeline.stages.extraction.engine import Engine
from pipeline.stages.extraction.sources import experiment_workers
from pipeline.stages.selfcheck.clip import drawn_pictures
from pipeline.stages.selfcheck.findings import Speed, told

__all__ = ["bottleneck", "cache_speeds", "decoding_speed", "disk_speed", "model_speed"]

AHEAD = 64
CACHE_CLIPS = 64
DISK_BYTES = 256_000_000
BLOCK = 1 << 20


@dataclass
class _Counter:
    """Counts frames and drops them; a `Receiver`."""

    frames: int = 0

    def begin(self) -> None:
        """Frames that come again count again: they were decoded twice."""

    def take(self, times_s: Sequence[float], pictured: Sequence[int], pictures: np.ndarray) -> None:
        """Count the next frames."""
        self.frames += len(times_s)


def decoding_speed(experiment: Experiment, files: Sequence[AnyPath], what: str, seconds: float) -> Speed:
    """Decode files, again and again, with the configured decoders.

    Args:
        experiment: settings.
        files: videos.
        what: they are, for the report.
        seconds: how long, from the first frames on.

    Raises:
        DecodeError: none of the files can be decoded.
    """
    counter, failed = _Counter(), 0
    failure: DecodeError | None = None
    begin = last = None
    with experiment_workers(experiment) as workers:
        for ready in workers.readable(Job(path) for path in itertools.cycle(files)):
            if ready is None:  # there always is a next file
                continue
            stream = ready[1]
            try:
                stream.advance(counter, AHEAD)
            except DecodeError as error:
                failure, failed = error, failed + 1
                if not counter.frames and failed >= len(files):
                    break
                continue
            if counter.frames and begin is None:
                begin, counter.frames = time.perf_counter(), 0
            last = time.perf_counter()
            if begin is not None and counter.frames and last - begin >= seconds:
                break
        processes = workers.count
    if begin is None or last is None:
        raise failure or DecodeError("the self-check: no frame was decoded")
    rate, cores = counter.frames / max(last - begin, 1e-9), len(os.sched_getaffinity(0))
    more = f"raise machine.decode_workers, now {processes} on {cores} cores" if processes < cores else "more CPU cores"
    return Speed("decoding", rate, "frames/s", rate, f"{processes} process(es), {what}", f"{more}, or smaller videos")


def model_speed(engine: Engine, experiment: Experiment, precision: str, seconds: float) -> Speed:
    """Run the backbone on full batches of windows of pictures that lie in memory."""
    sampling, batch = experiment.test_sampling, engine.batch_clips
    length, stride = sampling.window_frames, sampling.stride_frames
    height, width = picture_size(experiment)
    pictures = list(drawn_pictures(batch * stride, width, height))

    def run() -> None:
        features = engine.frames(pictures)
        windows = [
            [features[(start * stride + step) % len(features)] for step in range(length)] for start in range(batch)
        ]
        engine.clips(windows).numpy()

    if engine.device.type == "cuda":
        run()  # the first batch sets the device up
    begin, runs = time.perf_counter(), 0
    while not runs or time.perf_counter() - begin < seconds:
        run()
        runs += 1
    rate = runs * batch / (time.perf_counter() - begin)
    what = f"{engine.network.name} on {engine.device.type} in {precision}, {batch} windows at once"
    if engine.device.type == "cuda":
        advice = "a larger machine.batch_clips, backbone.precision: auto, or several machines that share the work"
    else:
        advice = "a GPU (machine.device: auto takes one that torch sees), or several machines that share the work"
    return Speed("backbone", rate, "windows/s", rate * stride, what, advice)


def cache_speeds(experiment: Experiment, url: str) -> list[Speed]:
    """Write and read maps like those of the backbone, in the place `url`, which lies in the cache."""
    rows, columns = map_size(experiment)
    maps = generated_maps(CACHE_CLIPS)
    write_s, read_s = time_store(maps, url)
    channels = backbone_facts(experiment.backbone).channels
    per_window = rows * columns * channels * np.dtype(experiment.storage.dtype).itemsize
    speeds = []
    for name, taken, advice in (
        ("writing the cache", write_s, "paths.cache on a faster disk, or storage.dtype: float16"),
        ("reading the cache", read_s, "paths.cache on a faster disk"),
    ):
        rate = maps.nbytes / taken
        allowed = rate / per_window * experiment.test_sampling.stride_frames
        where = f"{maps.nbytes / 1e6:.0f} MB of maps before compression, {experiment.paths.cache}"
        speeds.append(Speed(name, rate / 1e6, "MB/s", allowed, where, advice))
    return speeds


def disk_speed(files: Sequence[AnyPath], seconds: float) -> Speed:
    """Read files from their disk or storage, for some seconds at most; the system is asked to forget what it keeps.

    Raises OSError.
    """
    read, begin = 0, time.perf_counter()
    for path in files:
        with path.open("rb") as stream:
            if isinstance(path, Path):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while block := stream.read(BLOCK):
                read += len(block)
                if read >= DISK_BYTES or time.perf_counter() - begin >= seconds:
                    break
        if read >= DISK_BYTES or time.perf_counter() - begin >= seconds:
            break
    rate = read / max(time.perf_counter() - begin, 1e-9) / 1e6
    what = f"{read / 1e6:.0f} MB of the files, in {files[0].parent}"
    return Speed("reading the videos", rate, "MB/s", None, what, "a copy of the videos on a disk that is faster")


def bottleneck(speeds: Sequence[Speed]) -> str:
    """Which part limits the extraction of test videos, and what helps, in a sentence; "" without a backbone's speed."""
    known = {
        speed.name: speed.frames_per_s
        for speed in speeds
        if speed.frames_per_s is not None and speed.name != "reading the cache"
    }
    if "backbone" not in known or len(known) < 2:
        return ""
    name, *others = sorted(known, key=known.__getitem__)
    rest = ", ".join(f"{other} {told(known[other])}" for other in others)
    (advice,) = (speed.advice for speed in speeds if speed.name == name)
    return (
        f"an extraction of test videos is limited by: {name}, {told(known[name])} frames/s (against {rest}). "
        f"What helps: {advice}."
    )
