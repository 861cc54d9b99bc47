"""Stage 1: decode videos, run the backbone, keep the full feature maps.

Every frame is decoded once, in another process, and a video of any length needs bounded memory: a training video keeps the
frames of its clips, a test video one batch of windows. A batch is always full, the last one padded, so that a feature does not
depend on what else is in the batch.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cache import FeatureStore, NonFiniteFeatures, NotCached
from pipeline.config import Experiment
from pipeline.data.decode import VideoHeader, content_sha256
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.data.sampling import WindowAssembler, plan_views, training_frames
from pipeline.data.workers import DecodeWorkers, Job, VideoStream
from pipeline.errors import ConfigError, DecodeError
from pipeline.models.backbone import Backbone, build_backbone
from pipeline.stages.quarantine import Quarantine
from pipeline.stages.recipes import Progress

__all__ = ["ExtractReport", "Extractor", "experiment_workers", "extract_split", "frames_done", "pick_device"]


@dataclass(frozen=True)
class ExtractReport:
    """What one call did: ids written, ids found complete in the cache, and ids in quarantine, before or since."""

    extracted: tuple[str, ...]
    cached: tuple[str, ...]
    quarantined: tuple[str, ...]


@dataclass(frozen=True)
class ClipBatch:
    """Consecutive clips of one view: frames (n, L, S, S, 3) uint8 and their indices (n, L) int64."""

    view: int
    clips: np.ndarray
    indices: np.ndarray


def pick_device(name: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU.

    Raises ConfigError for a device that torch does not know, or that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"machine.device: expected auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"machine.device: {name!r} is not there; torch sees {torch.cuda.device_count()} CUDA device(s)")
    return device


def extract_split(
    experiment: Experiment,
    manifest: Manifest,
    split: str,
    videos: Sequence[VideoEntry],
    namespace: str,
    quarantine: Quarantine,
    progress: Progress | None = None,
    decoder: str = "pipeline.data.decode",
) -> ExtractReport:
    """Bring the features of `videos` (all of one split) into the cache; those already there are left alone.

    A cached video is taken as it is when its file has the recorded size and time, or else the recorded content; a file that
    changed is extracted anew and replaces the old record. A video that cannot be read goes to quarantine, and one that is
    there already is not tried again.

    Imported features are only looked for.

    Raises:
        NotCached: imported features lack a video.
        CacheError: the cache cannot be written. Videos finished before it stay there.
    """
    store = FeatureStore.open(experiment.paths.cache)
    present = store.list(namespace)
    if getattr(experiment.features, split):
        return find_imported(namespace, videos, present, quarantine.ids(split))
    cached = [v.video_id for v in videos if v.video_id in present and is_current(store, namespace, manifest, v)]
    known = set(quarantine.ids(split)) - set(cached)
    bad = [v.video_id for v in videos if v.video_id in known]
    todo = [v for v in videos if v.video_id not in {*cached, *bad}]
    if todo and progress:
        progress(len(cached), len(videos), "loading the backbone")
    extractor = Extractor(experiment) if todo else None
    extracted = []
    with experiment_workers(experiment, decoder) as workers:
        streams = workers.streams(extractor.job(manifest.video_path(v.video_id), v.video_id, split) for v in todo)
        for number, (entry, stream) in enumerate(zip(todo, streams, strict=True)):
            report = partial(frames_done, progress, len(cached) + number, len(videos), f"extracting {entry.video_id}")
            try:
                extractor.extract(stream, entry.video_id, split, store, namespace, report)
                extracted.append(entry.video_id)
            except (DecodeError, NonFiniteFeatures) as error:
                quarantine.add(entry.video_id, entry.path, split, error)
                bad.append(entry.video_id)
                if progress:
                    progress(len(cached) + number, len(videos), f"{entry.video_id} goes to quarantine: {error}")
    if progress:
        progress(len(videos), len(videos), "extracted")
    return ExtractReport(tuple(extracted), tuple(cached), tuple(bad))


def frames_done(progress: Progress | None, done: int, total: int, message: str, frames: int) -> None:
    """Tell a stage's progress about the frames of the video at hand; a partial of it is what `Extractor.extract` reports to."""
    if progress:
        progress(done, total, f"{message}, frame {frames}")


def find_imported(namespace: str, videos: Sequence[VideoEntry], present: set[str], quarantined: Sequence[str]) -> ExtractReport:
    """The report of a split whose features were imported. Raises NotCached naming the videos they lack."""
    ids = [video.video_id for video in videos if video.video_id not in quarantined]
    if missing := [video_id for video_id in ids if video_id not in present]:
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise NotCached(f"{namespace}: expected imported features of {len(ids)} videos, {len(missing)} are not there: {names}")
    return ExtractReport((), tuple(ids), tuple(sorted(quarantined)))


def experiment_workers(experiment: Experiment, decoder: str = "pipeline.data.decode") -> DecodeWorkers:
    """Decoder processes as the experiment's machine and preprocessing sections have them."""
    machine, shape = experiment.machine, experiment.preprocess
    return DecodeWorkers(
        machine.decode_workers, machine.decode_timeout_s, short_side=shape.short_side, crop=shape.crop, decoder=decoder
    )


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

    def job(self, path: Path, video_id: str, split: str) -> Job:
        """What a decoder must do for a video: all frames of a test video, those of its clips of a training video."""
        if split == "test":
            return Job(path)
        return Job(path, partial(training_frames, video_id=video_id, **self.experiment.train_sampling.model_dump()))

    def extract(
        self,
        stream: VideoStream,
        video_id: str,
        split: str,
        store: FeatureStore,
        namespace: str,
        report: Callable[[int], None] | None = None,
    ) -> int:
        """Extract one video and commit it. Returns the number of frames decoded.

        `report` is told the number of frames decoded so far.

        Raises:
            DecodeError: it cannot be decoded.
            CacheError: its features are not finite or cannot be written.
        """
        path = stream.job.path
        if report:
            report(0)
        header = stream.header()
        sampling = self.experiment.train_sampling if split == "train" else self.experiment.test_sampling
        views, length = 1, getattr(sampling, "window_frames", 0)
        averaged = 1
        if split == "train":
            views, averaged = sampling.views, sampling.clips_per_segment
            length = sampling.clip_frames * averaged
        cells = self.experiment.preprocess.crop // 32
        times: list[float] = []
        batches = self._views(stream, video_id, times, report) if split == "train" else self._windows(stream, times)
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
                if report:
                    report(len(times))
            writer.set_times(np.asarray(times, dtype=np.float64))
            writer.commit(self._provenance(path, header, split, len(times)))
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

    def _windows(self, stream: VideoStream, times: list[float]) -> Iterator[ClipBatch]:
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

        for frame in stream.frames():
            times.append(frame.time_s)
            ready += assembler.push(frame.image)
            while len(ready) >= size:
                yield batch(ready[:size])
                ready = ready[size:]
        ready += assembler.finish()
        for start in range(0, len(ready), size):
            yield batch(ready[start : start + size])

    def _views(
        self, stream: VideoStream, video_id: str, times: list[float], report: Callable[[int], None] | None = None
    ) -> Iterator[ClipBatch]:
        """The clips of a training video, one batch a view."""
        found, pictures = stream.collect(report)
        times += found
        for view, plan in enumerate(plan_views(len(times), video_id=video_id, **self.experiment.train_sampling.model_dump())):
            clips = np.stack([np.stack([pictures[i] for i in clip]) for clip in plan.reshape(-1, plan.shape[-1])])
            if view % 2:
                clips = clips[:, :, :, ::-1]
            yield ClipBatch(view, np.ascontiguousarray(clips), plan.reshape(-1, plan.shape[-1]))

    def _provenance(self, path: Path, header: VideoHeader, split: str, decoded: int) -> dict:
        """What the commit record says of a video's origin: enough to make its features again."""
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
