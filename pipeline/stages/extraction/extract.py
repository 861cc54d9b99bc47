"""Which videos of a split are extracted: readable ones that are not in the cache and not in another process's hands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from cache import FeatureStore
from pipeline.config import Experiment
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.errors import ConfigError
from pipeline.progress import Progress, Say, silent
from pipeline.remote import AnyPath
from pipeline.stages.common.cards import use_device
from pipeline.stages.common.cluster import on_cluster
from pipeline.stages.common.digests import weights_identity
from pipeline.stages.common.manifest import check_validation
from pipeline.stages.common.progress import VideoProgress
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.extraction.claims import Claims
from pipeline.stages.extraction.loop import Extractor, Outcome
from pipeline.stages.extraction.on_cluster import cluster_extraction, longest_first
from pipeline.stages.extraction.sources import ExtractReport, experiment_workers, find_imported, is_current

__all__ = ["extract_split"]

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
    that is there already is not tried again. Processes that extract the same videos at the same time share them.

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
        NotCached: imported features lack a video.
        LengthMismatch: imported features belong to a video of another length.
        ConfigError: features are to be extracted and there are no videos.
        CacheError: the cache cannot be written. Videos finished before it stay there.
    """
    store = FeatureStore.open(experiment.paths.cache)
    present = store.video_ids(namespace)
    if getattr(experiment.features, split):
        return find_imported(store, namespace, videos, present, quarantine.ids(split))
    if getattr(experiment.dataset, "frame_counts", None):
        raise ConfigError(
            f"features.{split}: with dataset.frame_counts there are no videos to extract, so features must be imported"
        )
    work = _SplitWork(experiment, manifest, split, store, namespace, quarantine, say)
    if todo := work.sort_out(videos, present):
        check_validation(experiment, manifest.videos)
        work.extract(todo, VideoProgress(progress, {v.video_id: v.packets for v in todo}, work.settled), decoder)
    return work.report(videos)


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
        self._cached: list[str] = []
        self._quarantined: list[str] = []
        self._extracted: list[str] = []
        self._damaged: list[str] = []

    @property
    def settled(self) -> int:
        """Videos on which there is nothing left to do."""
        return len(self._cached) + len(self._quarantined) + len(self._extracted)

    def sort_out(self, videos: Sequence[VideoEntry], present: set[str]) -> list[VideoEntry]:
        """The videos to extract: neither among those in the cache (`present`) nor in quarantine."""
        known_bad = set(self._quarantine.ids(self._split))
        todo = []
        for video in videos:
            if video.video_id in present and self._is_current(video):
                self._cached.append(video.video_id)
            elif video.video_id in known_bad:
                self._quarantined.append(video.video_id)
            else:
                todo.append(video)
        return todo

    def extract(self, todo: list[VideoEntry], status: VideoProgress, decoder: str) -> None:
        """Extract videos until each is settled, by this process or by another one that is at work on it."""
        paths = {video.video_id: video.path for video in todo}
        with (
            self._engine(todo, status, decoder) as extract,
            Claims(self._experiment.paths.folder, self._namespace) as claims,
        ):
            todo = longest_first(todo) if self._dask else todo
            while todo:
                elsewhere: list[VideoEntry] = []
                for outcome in extract(self._claimed(todo, claims, status, elsewhere)):
                    status.settled(outcome.video_id)
                    self._take(outcome, paths[outcome.video_id])
                    claims.release(outcome.video_id)
                todo = elsewhere
                if todo:  # the other process finishes the video, or is killed: then it is this process's turn
                    claims.wait(todo[0].video_id, self._say)
        status.note("extracted")

    @property
    def _dask(self) -> bool:
        return on_cluster(self._experiment)

    @contextmanager
    def _engine(self, todo: list[VideoEntry], status: VideoProgress, decoder: str) -> Iterator[Extract]:
        """What extracts during the block: this process, or the workers of a cluster."""
        if self._dask:
            with cluster_extraction(
                self._experiment, self._manifest, self._split, todo, self._namespace, decoder, self._say, status.watch
            ) as extract:
                yield extract
            return
        with (
            use_device(self._experiment.machine.device, self._say) as device,
            experiment_workers(self._experiment, decoder) as workers,
        ):
            status.note("loading the backbone")
            workers.start(len(todo))
            loaded = [Extractor(self._experiment, say=self._say, device=device)]
            yield lambda claimed: loaded[0].extract(
                claimed, self._split, self._store, self._namespace, workers, self._say, status.watch
            )
            loaded.clear()  # so that its memory is given back with the GPU

    def report(self, videos: Sequence[VideoEntry]) -> ExtractReport:
        """What was done, in the order of the videos."""

        def in_order(ids: Sequence[str]) -> tuple[str, ...]:
            return tuple(video.video_id for video in videos if video.video_id in ids)

        return ExtractReport(
            in_order(self._extracted), tuple(self._cached), in_order(self._quarantined), in_order(self._damaged)
        )

    def _claimed(
        self, videos: Sequence[VideoEntry], claims: Claims, status: VideoProgress, elsewhere: list[VideoEntry]
    ) -> Iterator[tuple[str, AnyPath]]:
        """(id, path) of the videos that are this process's to extract, each claimed when its turn comes.

        Those that another process holds go to `elsewhere`; those that another one has finished in the meantime are
        settled.
        """
        for video in videos:
            if not claims.take(video.video_id):
                elsewhere.append(video)
                continue
            if self._quarantine.has(video.video_id):
                self._quarantined.append(video.video_id)
            elif self._store.has(self._namespace, video.video_id) and self._is_current(video):
                self._cached.append(video.video_id)
            else:
                yield video.video_id, self._manifest.video_path(video.video_id)
                continue
            status.settled(video.video_id)
            claims.release(video.video_id)

    def _take(self, outcome: Outcome, path: str) -> None:
        if outcome.error is None:
            self._extracted.append(outcome.video_id)
            if outcome.loss:
                self._damaged.append(outcome.video_id)
            return
        self._quarantine.add(outcome.video_id, path, self._split, outcome.error)
        self._quarantined.append(outcome.video_id)
        self._say(f"{outcome.video_id} goes to quarantine: {outcome.error}")

    def _is_current(self, video: VideoEntry) -> bool:
        return is_current(self._store, self._namespace, self._manifest, video, self._weights)
