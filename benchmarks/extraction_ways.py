"""The three ways to make features that benchmarks/extraction.py compares, and how much work a window is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cache import FeatureStore
from pipeline.data.decoding.decode import iter_frames, iter_raw_frames
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.windows import WindowAssembler
from pipeline.models import backbone as backbone_module
from pipeline.stages.common.malloc import heap_kept
from pipeline.stages.extraction.engine import Clip, ClipBatcher, Maps
from pipeline.stages.extraction.loop import Extractor

__all__ = ["flops", "limit", "ours", "theirs"]


class Dropped:
    """A sink that keeps nothing; a GPU goes on with the next batch while the maps of one are copied."""

    def __init__(self) -> None:
        self._coming: Maps | None = None

    def take(self, view: int, maps: Maps, rows: slice, indices: np.ndarray) -> None:
        """Wait for the maps before these, and forget them."""
        self.wait()
        self._coming = maps

    def wait(self) -> None:
        """Wait until all maps are copied."""
        if self._coming:
            self._coming.numpy()


def theirs(name: str, device: torch.device) -> Callable[[Path], int]:
    """(a): the windows of a video through mmaction2, one at a time; the way returns how many."""
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
    """(b): from the files to committed features; the way returns the number of windows.

    The decoders' processes are started before, as in a long run.
    """

    def run(video: Path) -> int:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        store, names = FeatureStore.open(folder / "cache"), [f"video-{number}" for number in range(videos)]
        outcomes = list(extractor.extract([(name, video) for name in names], "test", store, "ns", workers))
        assert all(outcome.error is None for outcome in outcomes), outcomes
        return sum(store.reader("ns", name).shape[1] for name in names)

    return run


def limit(extractor: Extractor, videos: int) -> Callable[[Path], int]:
    """(c): cropped frames in memory, features dropped; decoding the frames is not timed."""
    kept: dict[Path, list[torch.Tensor]] = {}
    engine = extractor.engine

    def run(video: Path) -> int:
        with heap_kept(engine.device):  # as extraction does
            return extracted(video)

    def extracted(video: Path) -> int:
        if video not in kept:  # in the warm-up round
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
    """FLOP per window: mmaction2's module, and ours with frames shared at stride 3."""
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
