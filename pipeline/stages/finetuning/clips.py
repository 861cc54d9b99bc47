"""Clips of training videos for fine-tuning, decoded ahead in worker processes; a video is decoded in one pass.

The reduced bags of the frozen stage are in `pipeline.stages.training.bags`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline.config import Experiment
from pipeline.data.decoding.messages import Job, Select
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.decoding.stream import TimesAndPictures, VideoStream
from pipeline.data.manifest import Manifest
from pipeline.data.sampling import epoch_clips, epoch_frames, plan_views, training_frames
from pipeline.stages.common.picture import fit_of, map_size

__all__ = ["Ahead", "ClipSource"]

Plan = Callable[[int], Iterable[tuple[np.ndarray, bool]]]
"""From a number of frames to frame numbers (T, c, L) and whether they are flipped."""


class ClipSource:
    """Makes the clips of training videos, in any order of videos.

    Seed, epoch and video alone decide what is drawn; the number of workers and the order of videos do not matter.

    Args:
        experiment: gives the sampling and the seed of the fine-tuning.
        manifest: says where the videos are.
        workers: decode; as many videos are decoded ahead as there are workers.
    """

    def __init__(self, experiment: Experiment, manifest: Manifest, workers: DecodeWorkers) -> None:
        self._sampling, self._seed = experiment.train_sampling, experiment.finetune.seed
        self._manifest, self._workers = manifest, workers
        self._fit, self._cells = fit_of(experiment), map_size(experiment)
        self._sizes = {entry.video_id: (entry.width, entry.height) for entry in manifest.videos}

    def empty(self, video_ids: Sequence[str]) -> torch.Tensor | None:
        """Which cells of their maps show only the padding of a letterbox, (B, H, W) bool; None without a letterbox."""
        if self._fit.kind != "letterbox":
            return None
        return torch.from_numpy(np.stack([self._fit.empty_cells(*self._sizes[v], *self._cells) for v in video_ids]))

    def epoch(self, video_ids: Sequence[str], epoch: int) -> Iterator[np.ndarray]:
        """Clips that differ in every epoch, by their places and flips.

        Args:
            video_ids: the videos.
            epoch: from 1.

        Yields:
            The clips of every video, (T, c, L, H, W, 3) uint8.

        Raises:
            DecodeError: a video cannot be read.
        """
        shape = self._sampling.model_dump(exclude={"views", "seed"})
        options = [shape | {"video_id": v, "epoch": epoch, "seed": self._seed} for v in video_ids]
        jobs = zip(video_ids, (partial(epoch_frames, **chosen) for chosen in options), strict=True)
        for stream, chosen in zip(self._streams(jobs), options, strict=True):
            (clips,) = _planned_clips(self._workers.collect(stream), partial(_epoch_plan, chosen))
            yield clips

    def views(self, video_ids: Sequence[str]) -> Iterator[np.ndarray]:
        """The clips whose features extraction keeps in the cache.

        Args:
            video_ids: the videos.

        Yields:
            The views of every video, (V, T, c, L, H, W, 3) uint8.

        Raises:
            DecodeError: a video cannot be read.
        """
        options = [self._sampling.model_dump() | {"video_id": v} for v in video_ids]
        jobs = zip(video_ids, (partial(training_frames, **chosen) for chosen in options), strict=True)
        for stream, chosen in zip(self._streams(jobs), options, strict=True):
            yield np.stack(list(_planned_clips(self._workers.collect(stream), partial(_view_plans, chosen))))

    def _streams(self, jobs: Iterable[tuple[str, Select]]) -> Iterator[VideoStream]:
        return self._workers.streams(Job(self._manifest.video_path(video_id), select) for video_id, select in jobs)


class Ahead:
    """Moves bags of clips to a device; the next ones can be made while the device works on those before.

    Args:
        bags: clips (T, c, L, H, W, 3) uint8, in order.
        device: where they are used.
    """

    def __init__(self, bags: Iterator[np.ndarray], device: torch.device) -> None:
        self._bags, self._device = bags, device
        self._ready: deque[torch.Tensor] = deque()

    def prepare(self, count: int) -> None:
        """Make bags until `count` are ready or none is left. A GPU continues with the work it was given before."""
        while len(self._ready) < count and (bag := next(self._bags, None)) is not None:
            self._ready.append(self._sent(torch.from_numpy(bag)))

    def take(self, count: int) -> torch.Tensor:
        """The next bags, (count, T, c, L, H, W, 3); those that are not ready are made now.

        Raises:
            DecodeError: a video cannot be read.
            IndexError: there are not so many left.
        """
        self.prepare(count)
        return torch.stack([self._ready.popleft() for _ in range(count)])

    def _sent(self, bag: torch.Tensor) -> torch.Tensor:
        return bag.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else bag


def _epoch_plan(options: dict[str, Any], frames: int) -> list[tuple[np.ndarray, bool]]:
    return [epoch_clips(frames, **options)]


def _view_plans(options: dict[str, Any], frames: int) -> list[tuple[np.ndarray, bool]]:
    return [(plan, view % 2 == 1) for view, plan in enumerate(plan_views(frames, **options))]


def _planned_clips(video: TimesAndPictures, plan: Plan) -> Iterator[np.ndarray]:
    """The clips (T, c, L, H, W, 3) of a video, for every pair of frame numbers and flip that `plan` gives."""
    times, pictures = video
    for indices, flipped in plan(len(times)):
        clips = np.stack([pictures[i] for i in indices.ravel().tolist()])
        clips = torch.from_numpy(clips).flip(2).numpy() if flipped else clips  # numpy would copy it pixel by pixel
        yield clips.reshape(*indices.shape, *clips.shape[1:])
