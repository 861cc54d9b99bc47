"""How videos become features: decoders, the backbone and the writers at work on several videos at once.

Every frame is decoded once, in another process, and a video of any length needs bounded memory: a training video keeps
the frames of its clips, a test video one batch of frames and a window's worth of features. Which videos are extracted
is decided elsewhere (`extract`, beside this), so the loop serves any caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch

from cache import FeatureStore
from pipeline.config import Experiment
from pipeline.data.decoding.pool import DecodeWorkers, Job, VideoStream
from pipeline.data.sampling import training_frames
from pipeline.errors import DecodeError, DecoderKilled
from pipeline.models.backbones import VideoBackbone, load_backbone
from pipeline.progress import Say, silent
from pipeline.remote import AnyPath
from pipeline.stages.common.device import check_precision, choose_batch, choose_precision, pick_device
from pipeline.stages.common.malloc import heap_kept
from pipeline.stages.common.picture import check_backbone, fit_of, map_size
from pipeline.stages.extraction.engine import Clip, ClipBatcher, Engine
from pipeline.stages.extraction.feeding import ViewFeed, WindowFeed
from pipeline.stages.extraction.outcomes import ActiveVideo, Outcome, finished, outcome_of
from pipeline.stages.extraction.provenance import provenance
from pipeline.stages.extraction.sources import check_damage
from pipeline.stages.extraction.writing import VideoSink, WriteBehind

__all__ = ["Extractor", "Watch"]

WRITERS = 4

Watch = Callable[[str, int], None]


class Extractor:
    """A loaded backbone that turns video files into committed features.

    Args:
        experiment: settings.
        network: used instead of the experiment's backbone, in the experiment's precision.
        say: told what the user should know.
        device: used instead of the first that `machine.device` names; a GPU is that of `use_device`, to have it alone.

    Attributes:
        engine: the backbone on its device.
        precision: number format in which it computes.

    Raises:
        ConfigError: the device is not there, or does not have the precision.
        WeightsError: see `load_backbone`.
    """

    def __init__(
        self,
        experiment: Experiment,
        network: VideoBackbone | None = None,
        say: Say = silent,
        device: torch.device | None = None,
    ) -> None:
        self.experiment = experiment
        machine, settings = experiment.machine, experiment.backbone
        if machine.threads:
            torch.set_num_threads(machine.threads)
        first = pick_device(machine.device)
        device = device or first
        self.precision = choose_precision(settings.precision, first)  # as in the name of the features' namespace
        check_precision(self.precision, device)
        for note in check_backbone(experiment):
            say(note)
        if network is None:
            network = load_backbone(settings)
            network.set_precision(getattr(torch, self.precision))
        self.engine = Engine(network, device, choose_batch(machine.batch_clips, device), say, compiled=machine.compile)

    def job(self, path: AnyPath, video_id: str, split: str) -> Job:
        """What a decoder must do for a video: all frames of a test video, of a training video those of its clips."""
        if split == "test":
            return Job(path)
        return Job(path, partial(training_frames, video_id=video_id, **self.experiment.train_sampling.model_dump()))

    def extract(
        self,
        videos: Iterable[tuple[str, AnyPath]],
        split: str,
        store: FeatureStore,
        namespace: str,
        workers: DecodeWorkers,
        say: Say = silent,
        watch: Watch = silent,
    ) -> Iterator[Outcome]:
        """Extract videos and commit them.

        As many videos as there are decoders are worked on at once: batches are filled from all of them, and writing
        runs behind the model. A video's outcome is yielded as soon as it is known, so a short video may come before a
        long one that was begun earlier. A video whose decoder was killed from outside is tried once more, alone, after
        all others; its outcome comes last.

        Args:
            videos: (id, path) of videos that are not in the store's namespace.
            split: `test` for windows, `train` for views.
            store: the cache.
            namespace: its part to which the features go.
            workers: decoders.
            say: told what the user should know.
            watch: told a video's id and the number of its frames decoded so far.

        Yields:
            One outcome per video.

        Raises:
            CacheError: the cache cannot be written.
        """
        paths: dict[str, AnyPath] = {}

        def noted() -> Iterator[tuple[str, AnyPath]]:
            for video_id, path in videos:
                paths[video_id] = path
                yield video_id, path

        killed = []
        for outcome in self.extract_once(noted(), split, store, namespace, workers, say, watch):
            if isinstance(outcome.error, DecoderKilled):
                say(f"{outcome.video_id} is tried again, alone, when the others are done: {outcome.error}")
                killed.append(outcome.video_id)
            else:
                yield outcome
        for video_id in killed:
            with workers.alone() as one:
                yield from self.extract_once([(video_id, paths[video_id])], split, store, namespace, one, say, watch)

    def extract_once(
        self,
        videos: Iterable[tuple[str, AnyPath] | None],
        split: str,
        store: FeatureStore,
        namespace: str,
        workers: DecodeWorkers,
        say: Say,
        watch: Watch,
    ) -> Iterator[Outcome]:
        """As `extract`, without a second try; and the videos can come from others while some are in progress.

        `videos` may say None, as often as it likes: there is none at the moment. When all others are decoded by then,
        they are finished without waiting for more, and their outcomes are yielded.
        """
        ids: list[str] = []

        def jobs() -> Iterator[Job | None]:
            for video in videos:
                if video is None:
                    yield None
                    continue
                video_id, path = video
                ids.append(video_id)
                yield self.job(path, video_id, split)

        batcher = ClipBatcher(self.engine, self._map_dtype(split))
        active: dict[int, ActiveVideo] = {}
        with ExitStack() as stack:
            stack.enter_context(heap_kept(self.engine.device))
            threads = [stack.enter_context(WriteBehind()) for _ in range(min(WRITERS, workers.count))]
            try:
                for readable in workers.readable(jobs()):
                    if readable is None:
                        yield from finished(batcher, active)
                        continue
                    number, stream = readable
                    if number not in active:
                        thread = threads[number % len(threads)]
                        sink = self._sink(ids[number], split, store, namespace, thread, self._empty(stream))
                        active[number] = ActiveVideo(sink, self._feed(sink, split, batcher))
                    self._advance(active[number], stream, split, batcher, say, watch)
                    for settled in [n for n, video in active.items() if video.sink.settled.is_set()]:
                        yield outcome_of(active.pop(settled).sink)
                yield from finished(batcher, active)
            finally:
                for video in active.values():
                    video.sink.give_up(GeneratorExit("the extraction was broken off"))

    def _map_dtype(self, split: str) -> torch.dtype:
        """The type in which maps leave the device: that of the cache, where they are not averaged first."""
        averaged = split == "train" and self.experiment.train_sampling.clips_per_segment > 1
        return torch.float32 if averaged else getattr(torch, self.experiment.storage.dtype)

    def _empty(self, stream: VideoStream) -> Callable[[], np.ndarray] | None:
        """What gives the cells in which a video has only the padding of a letterbox."""
        fit, (rows, columns) = fit_of(self.experiment), map_size(self.experiment)
        if fit.kind != "letterbox":
            return None

        def cells() -> np.ndarray:
            header = stream.header()
            return fit.empty_cells(header.width, header.height, rows, columns)

        return cells

    def _sink(
        self,
        video_id: str,
        split: str,
        store: FeatureStore,
        namespace: str,
        behind: WriteBehind,
        empty: Callable[[], np.ndarray] | None,
    ) -> VideoSink:
        train, test = self.experiment.train_sampling, self.experiment.test_sampling
        averaged = train.clips_per_segment if split == "train" else 1
        rows, columns = map_size(self.experiment)
        writer = store.writer(
            namespace,
            video_id,
            views=train.views if split == "train" else 1,
            rows=rows,
            columns=columns,
            channels=self.engine.network.channels,
            frames_per_clip=train.clip_frames * averaged if split == "train" else test.window_frames,
            dtype=self.experiment.storage.dtype,
        )
        return VideoSink(video_id, writer, averaged, behind, empty)

    def _feed(self, sink: VideoSink, split: str, batcher: ClipBatcher) -> WindowFeed | ViewFeed:
        """Where the frames of a video go: they become clips, which wait in the batcher for the sink."""

        def queue(clip: Clip) -> None:
            sink.queued += 1
            batcher.add(sink, clip)

        if split == "train":
            return ViewFeed(self.engine, self.experiment.train_sampling, sink.video_id, queue)
        return WindowFeed(self.engine, self.experiment.test_sampling, queue)

    def _advance(
        self, video: ActiveVideo, stream: VideoStream, split: str, batcher: ClipBatcher, say: Say, watch: Watch
    ) -> None:
        """Take what a video's decoder has sent and queue its clips; a video that cannot be decoded is given up."""
        sink, feed = video.sink, video.feed
        error: BaseException | None
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

    def _finish(self, video: ActiveVideo, stream: VideoStream, split: str, say: Say) -> None:
        """All clips of a video are queued. Raises DecodeError when it is more damaged than the settings accept."""
        header, frames = stream.header(), len(video.feed.times)
        if loss := check_damage(header, frames, stream.damage, self.experiment.decoding):
            video.sink.loss = loss
            say(f"{video.sink.video_id} is damaged and kept: {loss}")
        facts = partial(
            provenance,
            self.experiment,
            self.engine,
            self.precision,
            split,
            path=stream.job.path,
            header=header,
            frames=frames,
            damage=stream.damage,
            source=stream.source,
        )
        video.sink.finish(np.asarray(video.feed.times, dtype=np.float64), facts)
