"""From the frames of one video, as its decoder sends them, to clips for the late layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pipeline.config import TestSampling, TrainSampling
from pipeline.data.decoding.stream import Collected
from pipeline.data.sampling import plan_views
from pipeline.data.windows import WindowAssembler
from pipeline.stages.extraction.engine import Clip, Engine

__all__ = ["ViewFeed", "WindowFeed"]


class WindowFeed:
    """Makes the windows of a test video while it is being decoded; every frame goes through the early layers once.

    Args:
        engine: computes the early layers.
        sampling: which frames make a window.
        queue: called with every clip, in order.

    Attributes:
        times: presentation times of the frames so far, seconds.
    """

    def __init__(self, engine: Engine, sampling: TestSampling, queue: Callable[[Clip], None]) -> None:
        self.times: list[float] = []
        self._engine, self._queue = engine, queue
        self._assembler: WindowAssembler[torch.Tensor] = WindowAssembler(**sampling.model_dump())
        self._room, self._filled = torch.empty(0), 0

    def begin(self) -> None:
        """Nothing to do: all frames of a test video are wanted, so they come once."""

    def take(self, times_s: Sequence[float], pictured: Sequence[int], pictures: np.ndarray) -> None:
        """The next frames have come; see `pipeline.data.decoding.stream.Receiver`."""
        self.times += times_s
        while len(pictures):
            if not self._filled:
                self._room = self._engine.room(pictures.shape[1:])
            some = pictures[: len(self._room) - self._filled]
            self._room.numpy()[self._filled : self._filled + len(some)] = some
            self._filled += len(some)
            pictures = pictures[len(some) :]
            if self._filled == len(self._room):
                self._run()

    def end(self) -> None:
        """All frames have come."""
        self._run()
        for indices, window in self._assembler.finish():
            self._queue(Clip(0, tuple(window), indices))

    def _run(self) -> None:
        for features in self._engine.frames(self._room[: self._filled]):
            for indices, window in self._assembler.push(features):
                self._queue(Clip(0, tuple(window), indices))
        self._filled = 0


class ViewFeed(Collected):
    """Makes the clips of a training video, view by view, from the frames that they need; odd views are flipped.

    Which clips there are follows from the number of frames, so all of them come at the end.

    Args:
        engine: computes the early layers.
        sampling: which frames make a clip.
        video_id: seeds the choice of clips.
        queue: called with every clip, in order.
    """

    def __init__(self, engine: Engine, sampling: TrainSampling, video_id: str, queue: Callable[[Clip], None]) -> None:
        super().__init__()
        self._engine, self._queue, self._video_id, self._sampling = engine, queue, video_id, sampling

    def end(self) -> None:
        """All frames have come."""
        for view, plan in enumerate(
            plan_views(len(self.times), video_id=self._video_id, **self._sampling.model_dump())
        ):
            numbers = np.unique(plan).tolist()
            images = [self.pictures[number][:, ::-1] if view % 2 else self.pictures[number] for number in numbers]
            features = dict(zip(numbers, self._engine.frames(images), strict=True))
            for indices in plan.reshape(-1, plan.shape[-1]):
                self._queue(Clip(view, tuple(features[number] for number in indices.tolist()), indices))
