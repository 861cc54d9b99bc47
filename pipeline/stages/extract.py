"""Stage 1: decode videos, run the backbone, keep the full feature maps.

Every frame is decoded once and a video of any length needs bounded memory: a training video keeps the frames of its clips, a
test video one batch of windows. A batch is always full, the last one padded, so that a feature does not depend on what else is
in the batch.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cache import FeatureStore
from pipeline.config import Experiment
from pipeline.data.decode import content_sha256, iter_frames, read_header
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.data.sampling import WindowAssembler, view_generator, view_indices
from pipeline.errors import DecodeError
from pipeline.models.backbone import Backbone, build_backbone
from pipeline.stages.recipes import Progress

__all__ = ["ExtractReport", "Extractor", "extract_split", "pick_device"]


@dataclass(frozen=True)
class ExtractReport:
    """What one call did: ids written, and ids found complete in the cache."""

    extracted: tuple[str, ...]
    cached: tuple[str, ...]


@dataclass(frozen=True)
class ClipBatch:
    """Consecutive clips of one view: frames (n, L, S, S, 3) uint8 and their indices (n, L) int64."""

    view: int
    clips: np.ndarray
    indices: np.ndarray


def pick_device(name: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def extract_split(
    experiment: Experiment,
    manifest: Manifest,
    split: str,
    videos: Sequence[VideoEntry],
    namespace: str,
    progress: Progress | None = None,
) -> ExtractReport:
    """Bring the features of `videos` (all of one split) into the cache; those already there are left alone.

    A cached video is taken as it is when its file has the recorded size and time, or else the recorded content; a file that
    changed is extracted anew and replaces the old record.

    Raises:
        DecodeError: a video cannot be read. Videos finished before it stay in the cache.
    """
    store = FeatureStore.open(experiment.paths.cache)
    present = store.list(namespace)
    cached = [v.video_id for v in videos if v.video_id in present and is_current(store, namespace, manifest, v)]
    todo = [v for v in videos if v.video_id not in set(cached)]
    extractor = Extractor(experiment) if todo else None
    for number, entry in enumerate(todo):
        if progress:
            progress(len(cached) + number, len(videos), f"extracting {entry.video_id}")
        extractor.extract(manifest.video_path(entry.video_id), entry.video_id, split, store, namespace)
    if progress:
        progress(len(videos), len(videos), "extracted")
    return ExtractReport(tuple(v.video_id for v in todo), tuple(cached))


def is_current(store: FeatureStore, namespace: str, manifest: Manifest, entry: VideoEntry) -> bool:
    """Whether the cached features were made of the file as it is now."""
    source = store.record(namespace, entry.video_id).provenance["source"]
    path = manifest.video_path(entry.video_id)
    if path.is_file():
        facts = path.stat()
        if (source["bytes"], source["mtime_ns"]) == (facts.st_size, facts.st_mtime_ns):
            return True
    return path.exists() and content_sha256(path) == source["sha256"]


class Extractor:
    """A loaded backbone that turns video files into committed features."""

    def __init__(self, experiment: Experiment, backbone: Backbone | None = None) -> None:
        self.experiment = experiment
        if experiment.machine.threads:
            torch.set_num_threads(experiment.machine.threads)
        settings = experiment.backbone
        self.device = pick_device(experiment.machine.device)
        self.backbone = backbone or build_backbone(settings.name, settings.weights, seed=settings.seed)
        self.backbone.to(self.device)

    def extract(self, path: Path, video_id: str, split: str, store: FeatureStore, namespace: str) -> int:
        """Extract one video and commit it. Returns the number of frames decoded. Raises DecodeError."""
        sampling = self.experiment.train_sampling if split == "train" else self.experiment.test_sampling
        views, length = 1, getattr(sampling, "window_frames", 0)
        averaged = 1
        if split == "train":
            views, averaged = sampling.views, sampling.clips_per_segment
            length = sampling.clip_frames * averaged
        cells = self.experiment.preprocess.crop // 32
        times: list[float] = []
        batches = self._views(path, video_id, times) if split == "train" else self._windows(path, times)
        with store.writer(
            namespace,
            video_id,
            views=views,
            rows=cells,
            columns=cells,
            channels=self.backbone.channels,
            frames_per_clip=length,
            dtype=self.experiment.storage.dtype,
        ) as writer:
            for batch in batches:
                maps = self._run(batch.clips)
                maps = maps.reshape(-1, averaged, *maps.shape[1:]).mean(axis=1)
                writer.append(batch.view, maps, batch.indices.reshape(len(maps), length))
            writer.set_times(np.asarray(times, dtype=np.float64))
            writer.commit(self._provenance(path, split, len(times)))
        return len(times)

    def _run(self, clips: np.ndarray) -> np.ndarray:
        """Feature maps (n, H, W, D) float32 of clips (n, L, S, S, 3) uint8, in full batches."""
        size = self.experiment.machine.batch_clips
        outputs = []
        with torch.inference_mode():
            for start in range(0, len(clips), size):
                batch = clips[start : start + size]
                padding = np.repeat(batch[-1:], size - len(batch), axis=0)
                full = torch.from_numpy(np.concatenate([batch, padding])).to(self.device)
                outputs.append(self.backbone(full)[: len(batch)].float().cpu().numpy())
        return np.concatenate(outputs)

    def _frames(self, path: Path) -> Iterator:
        shape = self.experiment.preprocess
        return iter_frames(path, short_side=shape.short_side, crop=shape.crop)

    def _windows(self, path: Path, times: list[float]) -> Iterator[ClipBatch]:
        """Windows of a test video in full batches, while it is being decoded."""
        sampling = self.experiment.test_sampling
        assembler = WindowAssembler(
            window_frames=sampling.window_frames,
            stride_frames=sampling.stride_frames,
            interval_frames=sampling.interval_frames,
        )
        ready: list = []
        size = self.experiment.machine.batch_clips

        def batch(items: list) -> ClipBatch:
            return ClipBatch(0, np.stack([np.stack(images) for _, images in items]), np.stack([i for i, _ in items]))

        for frame in self._frames(path):
            times.append(frame.time_s)
            ready += assembler.push(frame.image)
            while len(ready) >= size:
                yield batch(ready[:size])
                ready = ready[size:]
        if not times:
            raise DecodeError(f"{path}: no frame could be decoded")
        ready += assembler.finish()
        for start in range(0, len(ready), size):
            yield batch(ready[start : start + size])

    def _views(self, path: Path, video_id: str, times: list[float]) -> Iterator[ClipBatch]:
        """The clips of a training video, one batch a view; planned on the packet count, again if the decoder differs."""
        expected = max(1, read_header(path).packets)
        while True:
            plans = self._plan(video_id, expected)
            needed = set(np.concatenate([plan.ravel() for plan in plans]).tolist())
            kept: dict[int, np.ndarray] = {}
            times.clear()
            for index, frame in enumerate(self._frames(path)):
                times.append(frame.time_s)
                if index in needed:
                    kept[index] = frame.image
            if not times:
                raise DecodeError(f"{path}: no frame could be decoded")
            if len(times) == expected:
                break
            expected = len(times)
        for view, plan in enumerate(plans):
            clips = np.stack([np.stack([kept[i] for i in clip]) for clip in plan.reshape(-1, plan.shape[-1])])
            if view % 2:
                clips = clips[:, :, :, ::-1]
            yield ClipBatch(view, np.ascontiguousarray(clips), plan.reshape(-1, plan.shape[-1]))

    def _plan(self, video_id: str, n_frames: int) -> list[np.ndarray]:
        """Frame indices (T, clips per segment, L) of every view."""
        sampling = self.experiment.train_sampling
        return [
            view_indices(
                n_frames,
                segments=sampling.segments,
                clip_frames=sampling.clip_frames,
                interval_frames=sampling.interval_frames,
                clips_per_segment=sampling.clips_per_segment,
                generator=view_generator(sampling.seed, video_id, view),
            )
            for view in range(sampling.views)
        ]

    def _provenance(self, path: Path, split: str, decoded: int) -> dict:
        """What the commit record says of a video's origin: enough to make its features again."""
        header = read_header(path)
        facts = path.stat()
        experiment = self.experiment
        sampling = experiment.train_sampling if split == "train" else experiment.test_sampling
        return {
            "source": {
                "path": path.name,
                "bytes": header.bytes,
                "mtime_ns": facts.st_mtime_ns,
                "sha256": content_sha256(path),
                "packets": header.packets,
                "decoded_frames": decoded,
                "fps": header.fps,
                "width": header.width,
                "height": header.height,
            },
            "backbone": {
                "name": self.backbone.name,
                "weights": experiment.backbone.weights,
                "weights_sha256": self.backbone.weights_sha256,
            },
            "preprocess": experiment.preprocess.model_dump(),
            "sampling": sampling.model_dump(),
            "split": split,
            "device": self.device.type,
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "mmaction2", "av", "numpy")},
        }
