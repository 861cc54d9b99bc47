"""Which videos of a split are extracted: those that the cache lacks, that no other process is extracting, and that can
be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cache import FeatureStore
from pipeline.config import Experiment
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.errors import ConfigError
from pipeline.progress import Progress, Say
from pipeline.stages.common.manifest import check_validation
from pipeline.stages.common.progress import VideoProgress
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.common.recipes import weights_identity
from pipeline.stages.extraction.claims import Claims
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.sources import ExtractReport, experiment_workers, find_imported, is_current

__all__ = ["extract_split"]


def _nothing(*told: object) -> None:
    """Tells nobody."""


def extract_split(
    experiment: Experiment,
    manifest: Manifest,
    split: str,
    videos: Sequence[VideoEntry],
    namespace: str,
    quarantine: Quarantine,
    progress: Progress | None = None,
    decoder: str = "pipeline.data.decoding.decode",
    say: Say = _nothing,
) -> ExtractReport:
    """Bring the features of `videos` (all of one split) into the cache; those already there are left alone.

    A cached video is taken as it is when its file has the recorded size and time, or else the recorded content; a file
    that changed is extracted anew and replaces the old record. A video that cannot be read goes to quarantine, and one
    that is there already is not tried again. Processes that extract the same videos at the same time share them.

    Imported features are only looked for, and held against the lengths of the videos.

    Args:
        experiment: whose features.
        manifest: of the data set.
        split: `train` or `test`.
        videos: which of that split.
        namespace: of the cache, to which the features go.
        quarantine: where videos that cannot be read are recorded.
        progress: told how far it is; what it is told may be dropped.
        decoder: see `DecodeWorkers`.
        say: told every event that a person should know of: damage, quarantine, waiting for another process.

    Raises:
        ManifestError: a run asks for a validation split that the training videos do not allow.
        NotCached: imported features lack a video.
        LengthMismatch: imported features are not those of a video of such a length.
        ConfigError: features are to be extracted and there are no videos.
        CacheError: the cache cannot be written. Videos finished before it stay there.
    """
    store = FeatureStore.open(experiment.paths.cache)
    present = store.video_ids(namespace)
    if getattr(experiment.features, split):
        return find_imported(store, namespace, videos, present, quarantine.ids(split))
    if getattr(experiment.dataset, "frame_counts", None):
        raise ConfigError(
            f"features.{split}: dataset.frame_counts stands for videos that are not at hand, so their features must be imported"
        )
    weights = weights_identity(experiment.backbone)
    cached = [
        v.video_id for v in videos if v.video_id in present and is_current(store, namespace, manifest, v, weights)
    ]
    known = set(quarantine.ids(split)) - set(cached)
    bad = [v.video_id for v in videos if v.video_id in known]
    todo = [v for v in videos if v.video_id not in {*cached, *bad}]
    if not todo:
        return ExtractReport((), tuple(cached), tuple(bad))
    check_validation(experiment, manifest.videos)
    entries = {v.video_id: v for v in todo}
    status = VideoProgress(progress, {v.video_id: v.packets for v in todo}, len(cached) + len(bad))
    status.note("loading the backbone")
    extracted, damaged = [], []

    def claimed(some: Sequence[VideoEntry]) -> Iterator[tuple[str, Path]]:
        """Those of some videos that are this process's to extract, each claimed when its turn comes."""
        for video in some:
            if not claims.take(video.video_id):
                elsewhere.append(video)
                continue
            found = None  # by another process, since this one looked
            if quarantine.has(video.video_id):
                found = bad
            elif store.has(namespace, video.video_id) and is_current(store, namespace, manifest, video, weights):
                found = cached
            if found is None:
                yield video.video_id, manifest.video_path(video.video_id)
                continue
            found.append(video.video_id)
            status.settled(video.video_id)
            claims.release(video.video_id)

    with experiment_workers(experiment, decoder) as workers, Claims(experiment.paths.output, namespace) as claims:
        workers.start(len(todo))
        extractor = Extractor(experiment, say=say)
        while todo:
            elsewhere: list[VideoEntry] = []
            for outcome in extractor.extract(claimed(todo), split, store, namespace, workers, say, status.watch):
                status.settled(outcome.video_id)
                if outcome.error is None:
                    extracted.append(outcome.video_id)
                    damaged += [outcome.video_id] if outcome.loss else []
                else:
                    entry = entries[outcome.video_id]
                    quarantine.add(entry.video_id, entry.path, split, outcome.error)
                    bad.append(entry.video_id)
                    say(f"{entry.video_id} goes to quarantine: {outcome.error}")
                claims.release(outcome.video_id)
            todo = elsewhere
            if todo:  # ended with success, or killed: then its videos are this process's
                claims.wait(todo[0].video_id, say)
    status.note("extracted")
    new, left_out, kept = (tuple(v.video_id for v in videos if v.video_id in ids) for ids in (extracted, bad, damaged))
    return ExtractReport(new, tuple(cached), left_out, kept)
