"""Stage 1: decode videos, run the backbone, keep the full feature maps.

Every frame is decoded once, in another process, and a video of any length needs bounded memory: a training video keeps the
frames of its clips, a test video one batch of frames and a window's worth of features.
"""

from __future__ import annotations

import importlib.metadata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cache import FeatureStore, NonFiniteFeatures
from pipeline.config import Experiment
from pipeline.data.damage import Damage
from pipeline.data.decode import VideoHeader, content_sha256
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.data.sampling import WindowAssembler, plan_views, training_frames
from pipeline.data.workers import Job, VideoStream
from pipeline.errors import DecodeError
from pipeline.models.backbone import build_backbone
from pipeline.models.fast_tpn import FastTPN
from pipeline.stages.engine import Clip, ClipBatcher, Engine, check_precision, pick_device
from pipeline.stages.quarantine import Quarantine
from pipeline.stages.recipes import Progress, weights_identity
from pipeline.stages.sources import ExtractReport, check_damage, experiment_workers, find_imported, is_current
from pipeline.stages.writing import VideoSink, WriteBehind

__all__ = ["Extractor", "Outcome", "extract_split"]


@dataclass(frozen=True)
class Outcome:
    """What became of one video: the number of decoded frames, or why it could not be extracted."""

    video_id: str
    frames: int
    error: DecodeError | NonFiniteFeatures | None


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
    weights = weights_identity(experiment.backbone)
    cached = [v.video_id for v in videos if v.video_id in present and is_current(store, namespace, manifest, v, weights)]
    known = set(quarantine.ids(split)) - set(cached)
    bad = [v.video_id for v in videos if v.video_id in known]
    todo = [v for v in videos if v.video_id not in {*cached, *bad}]
    if not todo:
        return ExtractReport((), tuple(cached), tuple(bad))
    say = _Status(progress, len(cached) + len(bad), len(videos))
    say("loading the backbone")
    extractor = Extractor(experiment, say=say)
    entries = {v.video_id: v for v in todo}
    extracted = []
    with experiment_workers(experiment, decoder) as workers:
        streams = workers.streams(extractor.job(manifest.video_path(v.video_id), v.video_id, split) for v in todo)
        for outcome in extractor.extract(zip(entries, streams, strict=True), split, store, namespace, say):
            say.done += 1
            if outcome.error is None:
                extracted.append(outcome.video_id)
                continue
            entry = entries[outcome.video_id]
            quarantine.add(entry.video_id, entry.path, split, outcome.error)
            bad.append(entry.video_id)
            say(f"{entry.video_id} goes to quarantine: {outcome.error}")
    say("extracted")
    return ExtractReport(tuple(extracted), tuple(cached), tuple(bad))


class _Status:
    """A stage's progress as a function of the message alone."""

    def __init__(self, progress: Progress | None, done: int, total: int) -> None:
        self._progress, self.done, self._total = progress, done, total

    def __call__(self, message: str) -> None:
        if self._progress:
            self._progress(self.done, self._total, message)


class Extractor:
    """A loaded backbone that turns video files into committed features.

    Args:
        experiment: settings.
        network: in place of the experiment's backbone; with `frames` and `clips` as FastTPN has them.
        say: told what the user should know.

    Raises:
        ConfigError: a device that is not there, or a precision it does not have.
        WeightsError: see `build_backbone`.
    """

    def __init__(
        self, experiment: Experiment, network: FastTPN | None = None, say: Callable[[str], None] = lambda message: None
    ) -> None:
        self.experiment = experiment
        machine, settings = experiment.machine, experiment.backbone
        if machine.threads:
            torch.set_num_threads(machine.threads)
        device = pick_device(machine.device)
        check_precision(settings.precision, device)
        if network is None:
            network = FastTPN(build_backbone(settings.name, settings.weights, seed=settings.seed))
            network.set_precision(getattr(torch, settings.precision))
        self.engine = Engine(network, device, machine.batch_clips, say)

    def job(self, path: Path, video_id: str, split: str) -> Job:
        """What a decoder must do for a video: all frames of a test video, those of its clips of a training video."""
        if split == "test":
            return Job(path)
        return Job(path, partial(training_frames, video_id=video_id, **self.experiment.train_sampling.model_dump()))

    def extract(
        self,
        videos: Iterable[tuple[str, VideoStream]],
        split: str,
        store: FeatureStore,
        namespace: str,
        say: Callable[[str], None] = lambda message: None,
    ) -> Iterator[Outcome]:
        """Extract videos, by id, one after the other and commit them.

        Batches reach across videos and writing runs behind the model, so a video's outcome comes when others are under way.

        Raises:
            CacheError: the cache cannot be written.
        """
        batcher = ClipBatcher(self.engine)
        under_way: deque[VideoSink] = deque()
        with WriteBehind() as behind:
            try:
                for video_id, stream in videos:
                    sink = self._sink(video_id, split, store, namespace, behind)
                    under_way.append(sink)
                    self._feed(sink, stream, split, batcher, say)
                    while under_way and under_way[0].settled.is_set():
                        yield _outcome(under_way.popleft())
                batcher.flush()
                while under_way:
                    under_way[0].settled.wait()
                    yield _outcome(under_way.popleft())
            finally:
                for sink in under_way:
                    sink.give_up(GeneratorExit("the extraction was broken off"))

    def _sink(self, video_id: str, split: str, store: FeatureStore, namespace: str, behind: WriteBehind) -> VideoSink:
        train, test = self.experiment.train_sampling, self.experiment.test_sampling
        averaged = train.clips_per_segment if split == "train" else 1
        cells = self.experiment.preprocess.crop // 32
        writer = store.writer(
            namespace,
            video_id,
            views=train.views if split == "train" else 1,
            rows=cells,
            columns=cells,
            channels=self.engine.network.channels,
            frames_per_clip=train.clip_frames * averaged if split == "train" else test.window_frames,
            dtype=self.experiment.storage.dtype,
        )
        return VideoSink(video_id, writer, averaged, behind)

    def _feed(self, sink: VideoSink, stream: VideoStream, split: str, batcher: ClipBatcher, say: Callable[[str], None]) -> None:
        """Decode a video and queue its clips; a video that cannot be decoded is given up."""
        times: list[float] = []

        def report(frames: int) -> None:
            say(f"extracting {sink.video_id}, frame {frames}")

        report(0)
        try:
            header = stream.header()
            clips = self._views(stream, sink.video_id, times, report) if split == "train" else self._windows(stream, times, report)
            for clip in clips:
                if sink.error:
                    break
                sink.queued += 1
                batcher.add(sink, clip)
        except DecodeError as error:
            batcher.drop(sink)
            sink.give_up(error)
            return
        if sink.error:  # a batch of this video could not be written: no need to decode the rest
            batcher.drop(sink)
            sink.give_up(sink.error)
            return
        try:
            if loss := check_damage(header, len(times), stream.damage, self.experiment.decoding):
                say(f"{sink.video_id} is damaged and kept: {loss}")
        except DecodeError as error:
            batcher.drop(sink)
            sink.give_up(error)
            return
        facts = partial(self._provenance, stream.job.path, header, split, len(times), stream.damage)
        sink.finish(np.asarray(times, dtype=np.float64), facts)

    def _windows(self, stream: VideoStream, times: list[float], report: Callable[[int], None]) -> Iterator[Clip]:
        """Windows of a test video, while it is being decoded; every frame goes through the early layers once."""
        assembler = WindowAssembler(**self.experiment.test_sampling.model_dump())
        images: list[np.ndarray] = []

        def windows() -> Iterator[Clip]:
            for features in self.engine.frames(images):
                for indices, window in assembler.push(features):
                    yield Clip(0, tuple(window), indices)
            images.clear()
            report(len(times))

        for frame in stream.frames():
            times.append(frame.time_s)
            images.append(frame.image)
            if len(images) >= self.engine.batch_clips:
                yield from windows()
        if images:
            yield from windows()
        for indices, window in assembler.finish():
            yield Clip(0, tuple(window), indices)

    def _views(self, stream: VideoStream, video_id: str, times: list[float], report: Callable[[int], None]) -> Iterator[Clip]:
        """The clips of a training video, view by view."""
        found, pictures = stream.collect(report)
        times += found
        for view, plan in enumerate(plan_views(len(times), video_id=video_id, **self.experiment.train_sampling.model_dump())):
            numbers = np.unique(plan)
            images = [np.ascontiguousarray(pictures[i][:, ::-1]) if view % 2 else pictures[i] for i in numbers]
            features = dict(zip(numbers.tolist(), self.engine.frames(images), strict=True))
            for indices in plan.reshape(-1, plan.shape[-1]):
                yield Clip(view, tuple(features[i] for i in indices.tolist()), indices)

    def _provenance(self, path: Path, header: VideoHeader, split: str, decoded: int, damage: Damage) -> dict:
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
                "declared_frames": header.declared,
                "decoded_frames": decoded,
                "damage": asdict(damage) if damage else None,
                "fps": header.fps,
                "width": header.width,
                "height": header.height,
            },
            "backbone": {
                "name": self.engine.network.name,
                "weights": experiment.backbone.weights,
                "weights_sha256": self.engine.network.weights_sha256,
                "precision": experiment.backbone.precision,
                "batch_clips": self.engine.batch_clips,
            },
            "decoding": experiment.decoding.model_dump(),
            "preprocess": experiment.preprocess.model_dump(),
            "sampling": sampling.model_dump(),
            "split": split,
            "device": self.engine.device.type,
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "mmaction2", "av", "numpy")},
        }


def _outcome(sink: VideoSink) -> Outcome:
    """What became of a settled video. Raises what is not the video's own fault."""
    if sink.error is None or isinstance(sink.error, DecodeError | NonFiniteFeatures):
        return Outcome(sink.video_id, sink.frames, sink.error)
    raise sink.error
