"""Bags of clips straight from the videos: decoded ahead in worker processes, a video's segments in one pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from pipeline.config import Experiment
from pipeline.data.decoding.messages import Job, Select
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.decoding.stream import TimesAndPictures, VideoStream
from pipeline.data.manifest import Manifest
from pipeline.data.sampling import epoch_clips, epoch_frames, plan_views, training_frames

__all__ = ["Ahead", "ClipSource"]

Plan = Callable[[int], Iterable[tuple[np.ndarray, bool]]]


class ClipSource:
    """Clips of training videos, in the order asked for.

    What is drawn follows from seed, epoch and video alone: neither the number of workers nor the order of videos
    changes it.

    Args:
        experiment: sampling and the seed of the fine-tuning.
        manifest: where the videos lie.
        workers: who decodes; as many videos are decoded ahead as there are workers.
    """

    def __init__(self, experiment: Experiment, manifest: Manifest, workers: DecodeWorkers) -> None:
        self._sampling, self._seed = experiment.train_sampling, experiment.finetune.seed
        self._manifest, self._workers = manifest, workers

    def epoch(self, video_ids: Sequence[str], epoch: int) -> Iterator[np.ndarray]:
        """A bag of clips (T, c, L, S, S, 3) uint8 a video, drawn and flipped anew in every epoch. Raises
        DecodeError."""
        shape = self._sampling.model_dump(exclude={"views", "seed"})
        options = [shape | {"video_id": v, "epoch": epoch, "seed": self._seed} for v in video_ids]
        jobs = zip(video_ids, (partial(epoch_frames, **chosen) for chosen in options), strict=True)
        for stream, chosen in zip(self._streams(jobs), options, strict=True):
            (bag,) = _bags(self._workers.collect(stream), lambda frames, chosen=chosen: [epoch_clips(frames, **chosen)])
            yield bag

    def views(self, video_ids: Sequence[str]) -> Iterator[np.ndarray]:
        """The views (V, T, c, L, S, S, 3) uint8 of every video that extraction keeps in the cache. Raises
        DecodeError."""
        options = [self._sampling.model_dump() | {"video_id": v} for v in video_ids]
        jobs = zip(video_ids, (partial(training_frames, **chosen) for chosen in options), strict=True)
        for stream, chosen in zip(self._streams(jobs), options, strict=True):
            yield np.stack(list(_bags(self._workers.collect(stream), partial(_flipped_views, chosen))))

    def _streams(self, jobs: Iterable[tuple[str, Select]]) -> Iterator[VideoStream]:
        return self._workers.streams(Job(self._manifest.video_path(video_id), select) for video_id, select in jobs)


class Ahead:
    """Bags on a device, of which the next ones can be made while it is at work on those before.

    Args:
        bags: clips (T, c, L, S, S, 3) uint8, in order.
        device: where they are wanted.
    """

    def __init__(self, bags: Iterator[np.ndarray], device: torch.device) -> None:
        self._bags, self._device = bags, device
        self._ready: deque[torch.Tensor] = deque()

    def prepare(self, count: int) -> None:
        """Have so many bags ready, or those that are left. A GPU works on meanwhile, if it was given work before."""
        while len(self._ready) < count and (bag := next(self._bags, None)) is not None:
            self._ready.append(self._sent(torch.from_numpy(bag)))

    def take(self, count: int) -> torch.Tensor:
        """The next bags (count, T, c, L, S, S, 3), made now if need be. Raises DecodeError, and IndexError at the
        end."""
        self.prepare(count)
        return torch.stack([self._ready.popleft() for _ in range(count)])

    def _sent(self, bag: torch.Tensor) -> torch.Tensor:
        return bag.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else bag


def _flipped_views(options: dict, frames: int) -> list[tuple[np.ndarray, bool]]:
    return [(plan, view % 2 == 1) for view, plan in enumerate(plan_views(frames, **options))]


def _bags(video: TimesAndPictures, plan: Plan) -> Iterator[np.ndarray]:
    """The planned clips (T, c, L, S, S, 3) of a video, plan by plan."""
    times, pictures = video
    for indices, flipped in plan(len(times)):
        clips = np.stack([pictures[i] for i in indices.ravel().tolist()])
        clips = torch.from_numpy(clips).flip(2).numpy() if flipped else clips  # numpy would copy it pixel by pixel
        yield clips.reshape(*indices.shape, *clips.shape[1:])
