"""How videos become features: decoders, the backbone and the writers at work on several videos at once.

Every frame is decoded once, in another process, and a video of any length needs bounded memory: a training video keeps
the frames of its clips, a test video one batch of frames and a window's worth of features. Which videos are extracted
is decided elsewhere (`extract`, beside this), so the loop serves any caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cache import FeatureStore, NonFiniteFeatures
from pipeline.config import Experiment
from pipeline.data.decoding.pool import DecodeWorkers, Job, VideoStream
from pipeline.data.sampling import training_frames
from pipeline.errors import DecodeError, DecoderKilled
from pipeline.models.backbone import build_backbone
from pipeline.models.fast_tpn import FastTPN
from pipeline.progress import Say
from pipeline.stages.common.device import check_precision, choose_batch, choose_precision, pick_device
from pipeline.stages.common.malloc import heap_kept
from pipeline.stages.extraction.engine import Clip, ClipBatcher, Engine
from pipeline.stages.extraction.feeding import ViewFeed, WindowFeed
from pipeline.stages.extraction.provenance import provenance
from pipeline.stages.extraction.sources import check_damage
from pipeline.stages.extraction.writing import VideoSink, WriteBehind

__all__ = ["Extractor", "Outcome"]

WRITERS = 4

Watch = Callable[[str, int], None]


def _nothing(*told: object) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Outcome:
    """What became of one video: the number of decoded frames, what damage has cost, or why it could not be
    extracted."""

    video_id: str
    frames: int
    error: DecodeError | NonFiniteFeatures | None
    loss: str | None = None


@dataclass(frozen=True)
class _UnderWay:
    """A video whose frames are coming."""

    sink: VideoSink
    feed: WindowFeed | ViewFeed


class Extractor:
    """A loaded backbone that turns video files into committed features.

    Attributes:
        engine: the backbone on its device.
        precision: what it computes in.

    Args:
        experiment: settings.
        network: in place of the experiment's backbone; with `frames` and `clips` as FastTPN has them.
        say: told what the user should know.

    Raises:
        ConfigError: a device that is not there, or a precision it does not have.
        WeightsError: see `build_backbone`.
    """

    def __init__(self, experiment: Experiment, network: FastTPN | None = None, say: Say = lambda message: None) -> None:
        self.experiment = experiment
        machine, settings = experiment.machine, experiment.backbone
        if machine.threads:
            torch.set_num_threads(machine.threads)
        device = pick_device(machine.device)
        self.precision = choose_precision(settings.precision, device)
        check_precision(self.precision, device)
        if network is None:
            network = FastTPN(build_backbone(settings.name, settings.weights, seed=settings.seed))
            network.set_precision(getattr(torch, self.precision))
        self.engine = Engine(network, device, choose_batch(machine.batch_clips, device), say, compiled=machine.compile)

    def job(self, path: Path, video_id: str, split: str) -> Job:
        """What a decoder must do for a video: all frames of a test video, those of its clips of a training video."""
        if split == "test":
            return Job(path)
        return Job(path, partial(training_frames, video_id=video_id, **self.experiment.train_sampling.model_dump()))

    def extract(
        self,
        videos: Iterable[tuple[str, Path]],
        split: str,
        store: FeatureStore,
        namespace: str,
        workers: DecodeWorkers,
        say: Say = _nothing,
        watch: Watch = _nothing,
    ) -> Iterator[Outcome]:
        """Extract videos, (id, path) each, and commit them; a video's outcome comes as soon as it is settled.

        As many videos as there are decoders are under way at once. Batches reach across them, and writing runs behind
        the model, so a video's outcome comes when others are under way, and a short video's before that of a long one
        before it. A video whose decoder was killed from outside is tried once more when all others are done, with one
        decoder and no other video under way; its outcome comes last.

        Args:
            videos: which; not in the store's namespace already.
            split: `test` for windows, `train` for views.
            store: where the features go.
            namespace: under which name.
            workers: what decodes.
            say: told what the user should know.
            watch: told a video's id and the number of its frames decoded so far.

        Raises CacheError when the cache cannot be written.
        """
        paths: dict[str, Path] = {}

        def noted() -> Iterator[tuple[str, Path]]:
            for video_id, path in videos:
                paths[video_id] = path
                yield video_id, path

        killed = []
        for outcome in self._extract(noted(), split, store, namespace, workers, say, watch):
            if isinstance(outcome.error, DecoderKilled):
                say(f"{outcome.video_id} is tried again, alone, when the others are done: {outcome.error}")
                killed.append(outcome.video_id)
            else:
                yield outcome
        for video_id in killed:
            with workers.alone() as one:
                yield from self._extract([(video_id, paths[video_id])], split, store, namespace, one, say, watch)

    def _extract(
        self,
        videos: Iterable[tuple[str, Path]],
        split: str,
        store: FeatureStore,
        namespace: str,
        workers: DecodeWorkers,
        say: Say,
        watch: Watch,
    ) -> Iterator[Outcome]:
        """Extract every video once."""
        ids: list[str] = []

        def jobs() -> Iterator[Job]:
            for video_id, path in videos:
                ids.append(video_id)
                yield self.job(path, video_id, split)

        batcher = ClipBatcher(self.engine, self._map_dtype(split))
        under_way: dict[int, _UnderWay] = {}
        with ExitStack() as stack:
            stack.enter_context(heap_kept(self.engine.device))
            lanes = [stack.enter_context(WriteBehind()) for _ in range(min(WRITERS, workers.count))]
            try:
                for number, stream in workers.readable(jobs()):
                    if number not in under_way:
                        sink = self._sink(ids[number], split, store, namespace, lanes[number % len(lanes)])
                        under_way[number] = self._under_way(sink, split, batcher)
                    self._advance(under_way[number], stream, split, batcher, say, watch)
                    for settled in [n for n, video in under_way.items() if video.sink.settled.is_set()]:
                        yield _outcome(under_way.pop(settled).sink)
                batcher.flush()
                for number in sorted(under_way):
                    under_way[number].sink.settled.wait()
                    yield _outcome(under_way.pop(number).sink)
            finally:
                for video in under_way.values():
                    video.sink.give_up(GeneratorExit("the extraction was broken off"))

    def _map_dtype(self, split: str) -> torch.dtype:
        """The type in which maps leave the device: that of the cache, where they are not averaged first."""
        averaged = split == "train" and self.experiment.train_sampling.clips_per_segment > 1
        return torch.float32 if averaged else getattr(torch, self.experiment.storage.dtype)

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

    def _under_way(self, sink: VideoSink, split: str, batcher: ClipBatcher) -> _UnderWay:
        def queue(clip: Clip) -> None:
            sink.queued += 1
            batcher.add(sink, clip)

        if split == "train":
            return _UnderWay(sink, ViewFeed(self.engine, self.experiment.train_sampling, sink.video_id, queue))
        return _UnderWay(sink, WindowFeed(self.engine, self.experiment.test_sampling, queue))

    def _advance(
        self, video: _UnderWay, stream: VideoStream, split: str, batcher: ClipBatcher, say: Say, watch: Watch
    ) -> None:
        """Take what a video's decoder has sent and queue its clips; a video that cannot be decoded is given up."""
        sink, feed = video.sink, video.feed
        try:
            stream.advance(feed, self.engine.batch_frames)
            watch(sink.video_id, len(feed.times))
            if stream.finished:
                feed.end()
                self._finish(video, stream, split, say)
            error = sink.error  # a batch of this video that could not be written: no need to decode the rest
        except DecodeError as failure:
            error = failure
        if error:
            stream.close()
            batcher.drop(sink)
            sink.give_up(error)

    def _finish(self, video: _UnderWay, stream: VideoStream, split: str, say: Say) -> None:
        """Everything is queued. Raises DecodeError for more damage than is kept."""
        header, frames = stream.header(), len(video.feed.times)
        if loss := check_damage(header, frames, stream.damage, self.experiment.decoding):
            video.sink.loss = loss
            say(f"{video.sink.video_id} is damaged and kept: {loss}")
        origin = stream.job.path, header, frames, stream.damage
        facts = partial(provenance, self.experiment, self.engine, self.precision, split, *origin)
        video.sink.finish(np.asarray(video.feed.times, dtype=np.float64), facts)


def _outcome(sink: VideoSink) -> Outcome:
    """What became of a settled video. Raises what is not the video's own fault."""
    if sink.error is None or isinstance(sink.error, DecodeError | NonFiniteFeatures):
        return Outcome(sink.video_id, sink.frames, sink.error, sink.loss)
    raise sink.error
