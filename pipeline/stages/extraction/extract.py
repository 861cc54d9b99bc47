"""Which videos of a split are extracted: readable ones that are not in the cache and not in another process's hands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import Protocol

import torch

from cache import FeatureStore
from pipeline.config import Experiment
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.errors import ConfigError
from pipeline.progress import Progress, Say, silent
from pipeline.remote import AnyPath, looked_up
from pipeline.stages.common.cards import use_device
from pipeline.stages.common.cluster import on_cluster
from pipeline.stages.common.device import pick_device
from pipeline.stages.common.digests import weights_identity
from pipeline.stages.common.manifest import check_validation
from pipeline.stages.common.progress import VideoProgress
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.extraction.claims import Claims
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.on_cluster import cluster_extraction, longest_first
from pipeline.stages.extraction.outcomes import Outcome
from pipeline.stages.extraction.processes import Fate, Job, Settled, extract_in_processes, how_many
from pipeline.stages.extraction.sources import ExtractReport, experiment_workers, find_imported, is_current

__all__ = ["Listener", "extract_job", "extract_split"]

Extract = Callable[[Iterable[tuple[str, AnyPath]]], Iterator[Outcome]]
"""Extracts (id, path) of videos and yields their outcomes."""


def extract_split(
    experiment: Experiment,
    manifest: Manifest,
    split: str,
    videos: Sequence[VideoEntry],
    namespace: str,
    quarantine: Quarantine,
    progress: Progress | None = None,
    decoder: str = "pipeline.data.decoding.decode",
    say: Say = silent,
) -> ExtractReport:
    """Bring the features of `videos` (all of one split) into the cache; those already there are left alone.

    A cached video is taken as it is when its file has the recorded size and time, or else the recorded content; a file
    that changed is extracted anew and replaces the old record. A video that cannot be read goes to quarantine, and one
    that is there already is not tried again. Processes that extract the same videos at the same time share them. The
    longest video comes first, so that they end at about the same time.

    Imported features are only looked for, and compared with the lengths of the videos.

    Args:
        experiment: settings.
        manifest: the data set.
        split: `train` or `test`.
        videos: those of the split to extract.
        namespace: the part of the cache to which the features go.
        quarantine: where videos that cannot be read are recorded.
        progress: told how far it is; what it is told may be dropped.
        decoder: see `DecodeWorkers`.
        say: told every event that a person should know of: damage, quarantine, waiting for another process.

    Raises:
        ManifestError: a run asks for a validation split that the training videos do not allow.
        NotCached: imported features lack videos, more than `machine.max_quarantined` lets go to quarantine.
        LengthMismatch: imported features belong to a video of another length.
        ConfigError: features are to be extracted and there are no videos.
        CacheError: the cache cannot be written. Videos finished before it stay there.
        PipelineError: one of several processes failed, for this reason or another, or all of them were killed.
    """
    store = FeatureStore.open(experiment.paths.cache)
    present = store.video_ids(namespace)
    if getattr(experiment.features, split):
        return find_imported(store, namespace, videos, present, quarantine, experiment.machine.max_quarantined, say)
    if getattr(experiment.dataset, "frame_counts", None):
        raise ConfigError(
            f"features.{split}: with dataset.frame_counts there are no videos to extract, so features must be imported"
        )
    work = _SplitWork(experiment, manifest, split, store, namespace, quarantine, say)
    if todo := work.sort_out(videos, present):
        check_validation(experiment, manifest.videos)
        status = VideoProgress(progress, {v.video_id: v.packets for v in todo}, work.settled)
        machine = experiment.machine
        count = 0 if on_cluster(experiment) else how_many(machine, len(todo))
        if on_cluster(experiment) and machine.extract_processes:
            say(
                "warning: machine.extract_processes counts with machine.engine: local only; a cluster's workers extract"
            )
        if count:
            work.extract_in_processes(count, todo, status, decoder)
        else:
            work.extract(todo, _Whole(status, say), decoder)
        status.note("extracted")
    return work.report(videos)


def extract_job(job: Job, listener: Listener) -> None:
    """Extract videos together with other processes, as one of those of `extract_in_processes`."""
    store, quarantine = FeatureStore.open(job.experiment.paths.cache), Quarantine(job.quarantine)
    work = _SplitWork(job.experiment, job.manifest, job.split, store, job.namespace, quarantine, listener.say)
    work.extract(list(job.videos), listener, job.decoder, pick_device(job.experiment.machine.device))


class Listener(Protocol):
    """Who is told how far an extraction is, and may stop it."""

    @property
    def stopped(self) -> bool:
        """Whether no other videos shall be begun."""

    def say(self, message: str) -> None:
        """Told every event that a person should know of."""

    def note(self, message: str) -> None:
        """Told what goes on."""

    def watch(self, video_id: str, frames: int) -> None:
        """So many frames of a video are decoded; may be dropped."""

    def settled(self, video_id: str, fate: Fate) -> None:
        """There is nothing left to do on a video."""

    def wait(self, video_id: str, wait: Callable[[str, Say], None]) -> None:
        """Call `wait` with the id and a function that is told for whom it waits."""


class _Whole:
    """The listener of an extraction in this process: shows it, and stops nothing."""

    stopped = False

    def __init__(self, status: VideoProgress, say: Say) -> None:
        self.say, self.note, self.watch, self._status = say, status.note, status.watch, status

    def settled(self, video_id: str, fate: Fate) -> None:
        self._status.settled(video_id)

    def wait(self, video_id: str, wait: Callable[[str, Say], None]) -> None:
        wait(video_id, self.say)


class _SplitWork:
    """One call's work on the videos of a split: what became of each so far."""

    def __init__(
        self,
        experiment: Experiment,
        manifest: Manifest,
        split: str,
        store: FeatureStore,
        namespace: str,
        quarantine: Quarantine,
        say: Say,
    ) -> None:
        self._experiment, self._manifest, self._split = experiment, manifest, split
        self._store, self._namespace = store, namespace
        self._quarantine, self._say = quarantine, say
        self._weights = weights_identity(experiment.backbone)
        self._fates: dict[str, Fate] = {}

    @property
    def settled(self) -> int:
        """Videos on which there is nothing left to do."""
        return len(self._fates)

    def sort_out(self, videos: Sequence[VideoEntry], present: set[str]) -> list[VideoEntry]:
        """The videos to extract, the longest first: neither among those in the cache (`present`) nor in quarantine."""
        known_bad = set(self._quarantine.ids(self._split))
        todo = []
        cached = [video.video_id for video in videos if video.video_id in present]
        places = dict(zip(cached, looked_up([self._manifest.video_path(name) for name in cached]), strict=True))
        for video in videos:
            if video.video_id in present and self._is_current(video, places[video.video_id]):
                self._fates[video.video_id] = Fate.CACHED
            elif video.video_id in known_bad:
                self._fates[video.video_id] = Fate.QUARANTINED
            else:
                todo.append(video)
        return longest_first(todo)

    def extract_in_processes(self, count: int, todo: list[VideoEntry], status: VideoProgress, decoder: str) -> None:
        """Have several processes extract videos until each is settled."""
        job = Job(
            self._experiment,
            self._manifest,
            self._split,
            tuple(todo),
            self._namespace,
            self._quarantine.folder,
            decoder,
        )
        status.note(f"loading the backbone in {count} processes")
        with closing(extract_in_processes(job, count, self._say)) as events:
            for event in events:
                if not isinstance(event, Settled):
                    status.watch(event.video_id, event.frames)
                    continue
                if event.video_id not in self._fates:
                    status.settled(event.video_id)
                self._fates[event.video_id] = max(event.fate, self._fates.get(event.video_id, event.fate))

    def extract(
        self, todo: list[VideoEntry], listener: Listener, decoder: str, device: torch.device | None = None
    ) -> None:
        """Extract videos until each is settled, by this process or by another one that is at work on it.

        The device is the first of the configuration's that is free, unless it is given, as one that is held already.
        """
        paths = {video.video_id: video.path for video in todo}
        with (
            self._engine(todo, listener, decoder, device) as extract,
            Claims(self._experiment.paths.folder, self._namespace) as claims,
        ):
            while todo and not listener.stopped:
                elsewhere: list[VideoEntry] = []
                for outcome in extract(self._claimed(todo, claims, listener, elsewhere)):
                    self._take(outcome, paths[outcome.video_id])
                    listener.settled(outcome.video_id, self._fates[outcome.video_id])
                    claims.release(outcome.video_id)
                todo = elsewhere
                if todo:  # the other process finishes the video, or is killed: then it is this process's turn
                    listener.wait(todo[0].video_id, claims.wait)

    @contextmanager
    def _engine(
        self, todo: list[VideoEntry], listener: Listener, decoder: str, device: torch.device | None
    ) -> Iterator[Extract]:
        """What extracts during the block: this process, or the workers of a cluster."""
        if on_cluster(self._experiment):
            with cluster_extraction(
                self._experiment, self._manifest, self._split, todo, self._namespace, decoder, self._say, listener.watch
            ) as extract:
                yield extract
            return
        with (
            nullcontext(device) if device else use_device(self._experiment.machine.device, self._say) as own,
            experiment_workers(self._experiment, decoder) as workers,
        ):
            listener.note("loading the backbone")
            workers.start(len(todo))
            loaded = [Extractor(self._experiment, say=self._say, device=own)]
            yield lambda claimed: loaded[0].extract(
                claimed, self._split, self._store, self._namespace, workers, self._say, listener.watch
            )
            loaded.clear()  # so that its memory is given back with the GPU

    def report(self, videos: Sequence[VideoEntry]) -> ExtractReport:
        """What was done, in the order of the videos."""

        def those(*fates: Fate) -> tuple[str, ...]:
            return tuple(video.video_id for video in videos if self._fates.get(video.video_id) in fates)

        return ExtractReport(
            those(Fate.EXTRACTED, Fate.DAMAGED), those(Fate.CACHED), those(Fate.QUARANTINED), those(Fate.DAMAGED)
        )

    def _claimed(
        self, videos: Sequence[VideoEntry], claims: Claims, listener: Listener, elsewhere: list[VideoEntry]
    ) -> Iterator[tuple[str, AnyPath]]:
        """(id, path) of the videos that are this process's to extract, each claimed when its turn comes.

        Those that another process holds go to `elsewhere`; those that another one has finished in the meantime are
        settled.
        """
        for video in videos:
            if listener.stopped:
                return
            path = self._manifest.video_path(video.video_id)
            if not claims.take(video.video_id):
                elsewhere.append(video)
                continue
            if self._quarantine.has(video.video_id):
                self._fates[video.video_id] = Fate.QUARANTINED
            elif self._store.has(self._namespace, video.video_id) and self._is_current(video, path):
                self._fates[video.video_id] = Fate.CACHED
            else:
                yield video.video_id, path
                continue
            listener.settled(video.video_id, self._fates[video.video_id])
            claims.release(video.video_id)

    def _take(self, outcome: Outcome, path: str) -> None:
        if outcome.error is None:
            self._fates[outcome.video_id] = Fate.DAMAGED if outcome.loss else Fate.EXTRACTED
            return
        self._quarantine.add(outcome.video_id, path, self._split, outcome.error)
        self._fates[outcome.video_id] = Fate.QUARANTINED
        self._say(f"{outcome.video_id} goes to quarantine: {outcome.error}")

    def _is_current(self, video: VideoEntry, path: AnyPath) -> bool:
        return is_current(self._store, self._namespace, video.video_id, path, self._weights)
