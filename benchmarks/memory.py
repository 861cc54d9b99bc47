"""How much memory does a long video need, from the file to its scores, in addition to the model?

A stub replaces the backbone (it keeps the corners of the pictures, and its maps have the full size, 7 x 7 x 2048), so
the measurement covers decoding, resizing, batching, writing and scoring. For every length a separate process extracts
one H.264 video with the paper's windows (6 frames, every 3) and scores it. A long video is a short one repeated: the
same packets with shifted times. Reported are the peak of the process above what it held before the video was opened,
and all memory of the decoders' processes.

    python benchmarks/memory.py --size 1920x1080 --frames 10000 100000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.videos import make_video
from cache import FeatureStore
from pipeline.config import Experiment, Scoring, load_experiment
from pipeline.config.features import TestSampling
from pipeline.config.machine import Paths
from pipeline.models.reduction import Standardizer
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.sources import experiment_workers
from pipeline.stages.scoring.score import score_video
from pipeline.stages.training.saved_heads import TrainedHead, make_head

CLASSES, SHORT_FRAMES, BITS_PER_PIXEL = ("a", "b", "c"), 250, 0.13


class Stub(torch.nn.Module):
    """Replaces a backbone: maps of full size whose level follows the frames."""

    name, channels, weights_sha256, recordable = "stub", 2048, "stub", False

    def __init__(self) -> None:
        super().__init__()
        self.pattern = torch.rand(1, 7, 7, 2048, generator=torch.Generator().manual_seed(0))

    def frames(self, images: torch.Tensor) -> torch.Tensor:
        """(n, S, S, 3) -> (n, 3, 16, 16)."""
        return images[:, :16, :16].permute(0, 3, 1, 2).float()

    def clips(self, frames: torch.Tensor) -> torch.Tensor:
        """(L, n, 3, 16, 16) -> (n, 7, 7, 2048)."""
        level = frames.mean(dim=(0, 2, 3, 4))[:, None, None, None]
        return torch.relu(level * self.pattern - level / 2)


def experiment(folder: Path) -> Experiment:
    """The paper's windows on a CPU, with all outputs in the folder."""
    paths = Paths(output=str(folder / "out"), cache=str(folder / "cache"))
    fixture = load_experiment(Path(__file__).parent.parent / "configs/fixture.yaml")
    return fixture.model_copy(update={"paths": paths, "test_sampling": TestSampling()})


def long_video(path: Path, width: int, height: int, frames: int) -> None:
    """Write a video of so many frames that repeats after `SHORT_FRAMES`."""
    short = path.with_name(f"short-{path.name}")
    make_video(short, width, height, min(frames, SHORT_FRAMES), BITS_PER_PIXEL)
    with av.open(str(short)) as source, av.open(str(path), "w") as target:
        given = source.streams.video[0]
        stream = target.add_stream_from_template(given)
        packets = [packet for packet in source.demux(given) if packet.size]
        step = round(1 / (given.time_base * given.average_rate))
        for number in range(frames):
            rounds, index = divmod(number, len(packets))
            shift = rounds * step * len(packets)
            packet = av.Packet(bytes(packets[index]))
            packet.pts, packet.dts = packets[index].pts + shift, packets[index].dts + shift
            packet.time_base, packet.is_keyframe, packet.stream = given.time_base, packets[index].is_keyframe, stream
            target.mux(packet)
    short.unlink()


def peak(process: int | str = "self") -> int:
    """Peak memory of a process, bytes."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())[1]) * 1024


def one(video: Path, folder: Path) -> dict:
    """Extract and score a video in this process; returns the memory and time that it took."""
    settings = experiment(folder)
    store, extractor = FeatureStore.open(settings.paths.cache), Extractor(settings, Stub())
    before, started = peak(), time.monotonic()
    with experiment_workers(settings) as workers:
        (outcome,) = extractor.extract([("long", video)], "test", store, "ns", workers)
        decoders = [peak(process.pid) for process in workers.processes()]
    if outcome.error:
        raise outcome.error
    extracted = time.monotonic()
    run = settings.run("gig")
    head = make_head(run.head, run.training, Stub.channels, len(CLASSES)).eval()
    statistics = Standardizer(torch.zeros(Stub.channels), torch.ones(Stub.channels), 0.0)
    scores = score_video(store, "ns", "long", TrainedHead(head, run.head, statistics, CLASSES), Scoring())
    return {
        "frames": outcome.frames,
        "rows": len(scores.frames),
        "windows": len(scores.windows),
        "process_bytes": peak() - before,
        "decoders_bytes": decoders,
        "total_MiB": (peak() - before + sum(decoders)) / 2**20,
        "extraction_s": extracted - started,
        "scoring_s": time.monotonic() - extracted,
    }


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1920x1080", help="Width x height.")
    parser.add_argument("--frames", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--video", type=Path, help="Measure this one video in this process.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.json"))
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    if options.video:
        with tempfile.TemporaryDirectory(prefix="memory-") as scratch:
            print(json.dumps(one(options.video, Path(scratch))))
        return
    found = []
    with tempfile.TemporaryDirectory(prefix="memory-") as scratch:
        for frames in options.frames:
            video = Path(scratch) / f"{frames}.mp4"
            long_video(video, width, height, frames)
            command = [sys.executable, __file__, "--video", str(video)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found.append({"video_MiB": video.stat().st_size / 2**20} | json.loads(output.splitlines()[-1]))
            print(json.dumps(found[-1]), flush=True)
            video.unlink()
    facts = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    document = {"size": [width, height], "videos": found} | facts
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
