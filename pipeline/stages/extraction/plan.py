"""What an extraction will take: counted from the manifest, and timed on the experiment's own videos."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache import FeatureStore
from pipeline.config import Experiment
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.data.windows import window_indices
from pipeline.models.backbones import backbone_facts
from pipeline.progress import Say, silent
from pipeline.remote import AnyPath
from pipeline.stages.common.cards import use_device
from pipeline.stages.common.manifest import division_of
from pipeline.stages.common.picture import map_size
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.scratch import scratch_store
from pipeline.stages.extraction.sources import experiment_workers

__all__ = ["Rate", "SplitPlan", "count_split", "probe", "probe_split", "validation_videos"]


@dataclass(frozen=True)
class SplitPlan:
    """What is left to extract of one split.

    Attributes:
        split: `train`, `test`, or `validation`: training videos that are extracted once more, as windows.
        videos: of the split.
        cached: how many of them need nothing more: they are in the cache.
        quarantined: how many are left out, since they could not be read before.
        unknown: how many of the others have a header that cannot be read; they are in no other number.
        seconds: length of the videos to extract.
        frames: of the videos to extract.
        clips: windows of test and validation videos, or clips of training videos, to extract.
        feature_bytes: of their maps before compression.
        score_bytes: of the score tables of the whole split before compression; 0 for training videos.
    """

    split: str
    videos: int
    cached: int
    quarantined: int
    unknown: int
    seconds: float
    frames: int
    clips: int
    feature_bytes: int
    score_bytes: int


@dataclass(frozen=True)
class Rate:
    """How fast a split was extracted for a moment.

    Attributes:
        frames_per_s: video frames that went through decoder and backbone per second.
        seconds: how long that was measured.
        share_of_raw: bytes in the cache per byte of maps before compression; None where no video was finished.
        device, precision: what computed.
    """

    frames_per_s: float
    seconds: float
    share_of_raw: float | None
    device: str
    precision: str


def count_split(
    experiment: Experiment, manifest: Manifest, split: str, namespace: str, quarantined: Sequence[str]
) -> SplitPlan:
    """Count what is left to extract of a split, from the manifest and the cache.

    Args:
        experiment: settings.
        manifest: the data set.
        split: `train`, `test` or `validation`.
        namespace: the part of the cache with the split's features.
        quarantined: ids of videos in quarantine.
    """
    store = FeatureStore.open(experiment.paths.cache)
    validation = split == "validation"
    everything = validation_videos(experiment, manifest, quarantined) if validation else manifest.split(split)
    cached = store.video_ids(namespace) & {video.video_id for video in everything}
    left = [video for video in everything if video.video_id not in cached and video.video_id not in quarantined]
    known = [video for video in left if video.packets]
    clips = sum(_clips(experiment, split, video) for video in known)
    rows, columns = map_size(experiment)
    channels = backbone_facts(experiment.backbone).channels
    clip_bytes = rows * columns * channels * np.dtype(experiment.storage.dtype).itemsize
    row_bytes = 8 + 8 + 4 + 4 * len(manifest.classes)  # frame, time, score, and one score per class
    scored = sum(video.packets for video in everything) if split != "train" else 0
    return SplitPlan(
        split=split,
        videos=len(everything),
        cached=len(cached),
        quarantined=len([video for video in everything if video.video_id in quarantined]),
        unknown=len(left) - len(known),
        seconds=sum(video.packets / video.fps for video in known if video.fps > 0),
        frames=sum(video.packets for video in known),
        clips=clips,
        feature_bytes=clips * clip_bytes,
        score_bytes=scored * row_bytes,
    )


def validation_videos(experiment: Experiment, manifest: Manifest, quarantined: Sequence[str]) -> tuple[VideoEntry, ...]:
    """The training videos that some run holds out, which its operating point has extracted once more as windows.

    Args:
        experiment: settings.
        manifest: the data set.
        quarantined: ids of training videos in quarantine.

    Raises:
        ManifestError: the others cannot be divided as a run asks.
    """
    if experiment.features.train or experiment.features.test:
        return ()
    train = [video for video in manifest.split("train") if video.packets and video.video_id not in quarantined]
    runs = [experiment.run(name) for name in experiment.runs]
    held_out = {video_id for run in runs for video_id in division_of(run).held_out(train)}
    return tuple(video for video in train if video.video_id in held_out)


def _clips(experiment: Experiment, split: str, video: VideoEntry) -> int:
    if split != "train":
        return len(window_indices(video.packets, **experiment.test_sampling.model_dump()))
    return experiment.train_sampling.segments * experiment.train_sampling.views


def probe_split(
    experiment: Experiment, manifest: Manifest, plan: SplitPlan, namespace: str, seconds: float, say: Say = silent
) -> Rate | None:
    """Extract videos of the split that are not in the cache for some seconds, and drop the result.

    The clock starts when a quarter of the time is over: then the queues between decoders, backbone and writers are
    full, and frames are decoded as fast as they are computed. Loading the backbone is not counted.

    Args:
        experiment: settings.
        manifest: the data set.
        plan: of the split.
        namespace: the part of the cache with the split's features.
        seconds: how long to measure.
        say: told what the user should know, such as damage.

    Returns:
        The rate; None if there is no video left to extract or none of them can be read.

    Raises:
        ConfigError: the device is not there, or does not have the precision.
        WeightsError: the backbone's weights cannot be loaded.
    """
    cached = FeatureStore.open(experiment.paths.cache).video_ids(namespace)
    left = [video for video in manifest.split(plan.split) if video.video_id not in cached and video.packets]
    if not left:
        return None
    videos = [(video.video_id, manifest.video_path(video.video_id)) for video in left]
    with use_device(experiment.machine.device, say) as device:
        return probe(Extractor(experiment, say=say, device=device), videos, plan.split, seconds, say)


def probe(
    extractor: Extractor, videos: Sequence[tuple[str, AnyPath]], split: str, seconds: float, say: Say = silent
) -> Rate | None:
    """Extract videos, (id, path), for some seconds, and drop the result; see `probe_split`."""
    clock = _Clock(seconds)
    with scratch_store(silent) as store, experiment_workers(extractor.experiment) as workers:
        try:
            for outcome in extractor.extract(videos, split, store, "probe", workers, say, clock.watch):
                if outcome.error is None:
                    clock.finished(outcome.frames, outcome.video_id)
        except _TimeIsUp:
            pass
        share = _share_of_raw(store)
    if not clock.frames_per_s:
        return None
    return Rate(clock.frames_per_s, clock.measured_s, share, str(extractor.engine.device), extractor.precision)


class _TimeIsUp(Exception):
    """Ends a probe."""


class _Clock:
    """Counts frames of all videos, and the seconds that they took."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._decoded: dict[str, int] = {}
        self._begun: float | None = None
        self._start: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)

    def watch(self, video_id: str, frames: int) -> None:
        """A video has so many decoded frames. Raises _TimeIsUp when it has been measured long enough."""
        now = time.monotonic()
        self._decoded[video_id] = frames
        self._last = now, sum(self._decoded.values())
        if self._begun is None:
            self._begun = now
        elif self._start is None and now - self._begun >= self._seconds / 4:
            self._start = self._last
        elif now - self._begun >= self._seconds:
            raise _TimeIsUp

    def finished(self, frames: int, video_id: str) -> None:
        """A video is in the store."""
        self._decoded[video_id] = frames
        self._last = time.monotonic(), sum(self._decoded.values())

    @property
    def measured_s(self) -> float:
        """Seconds from the start of the measurement to the last frame."""
        begin = self._start[0] if self._start else self._begun
        return 0.0 if begin is None else self._last[0] - begin

    @property
    def frames_per_s(self) -> float:
        """0 where nothing could be measured."""
        frames = self._last[1] - (self._start[1] if self._start else 0)
        return frames / self.measured_s if self.measured_s > 0 else 0.0


def _share_of_raw(store: FeatureStore) -> float | None:
    if not store.video_ids("probe"):
        return None
    store.gc("probe", older_than_s=0)  # what the end of the probe interrupted
    stats = store.stats("probe")
    return stats.stored_bytes / stats.feature_bytes
