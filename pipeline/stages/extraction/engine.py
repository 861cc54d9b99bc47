"""Runs the backbone: each frame once through the early layers, clips of any videos in full batches through the late.

A batch always has its full size (the last one is padded), so that a feature does not depend on what else is in the
batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TypeVar

import numpy as np
import torch

from pipeline.models.backbones import VideoBackbone
from pipeline.progress import Say, silent
from pipeline.stages.extraction.cuda_graphs import Replayed

__all__ = ["Clip", "ClipBatcher", "Engine", "Maps", "Sink"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Clip:
    """What the late layers need of one clip of L frames.

    Attributes:
        view: number of the view, from 0.
        features: L outputs (C, h, w) of the early layers.
        indices: (L,) int64, the frames' numbers.
    """

    view: int
    features: tuple[torch.Tensor, ...]
    indices: np.ndarray


class Maps:
    """Feature maps (n, H, W, D) on their way to the host: the device goes on, only who reads them waits.

    Args:
        parts: float32 on the device, to be concatenated.
        dtype: to which they are rounded on the device, where this and the copying are quicker than on the host.
    """

    def __init__(self, parts: Sequence[torch.Tensor], dtype: torch.dtype) -> None:
        self._parts = [_sent(part.to(dtype)) for part in parts]

    def numpy(self) -> np.ndarray:
        """Wait for the maps and return them."""
        for _, arrival in self._parts:
            if arrival:
                arrival.synchronize()
        arrays = [part.numpy() for part, _ in self._parts]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class Sink(Protocol):
    """Where the feature maps of one video go."""

    def take(self, view: int, maps: Maps, rows: slice, indices: np.ndarray) -> None:
        """Take the maps of a view's next n clips: `rows` of a batch's maps. Their frame numbers are (n, L)."""
        ...


class Engine:
    """A network on a device, fed with batches of one size.

    Args:
        network: the backbone.
        device: where it runs.
        batch_clips: clips per batch. A batch of the early layers has three times as many frames, since at the usual
            stride every window brings three new ones. Either number is halved, for good, when the device has too little
            memory.
        say: told when that happens.
        compiled: compile the network with torch.compile first.
    """

    def __init__(
        self,
        network: VideoBackbone,
        device: torch.device,
        batch_clips: int,
        say: Say = silent,
        *,
        compiled: bool = False,
    ) -> None:
        self.network, self.device, self.compiled = network.to(device), device, compiled
        self.batch_clips, self.batch_frames = batch_clips, 3 * batch_clips
        self._frames, self._clips = self._step(network.frames), self._step(network.clips)
        self._say = say

    def _step(self, step: Callable[[torch.Tensor], torch.Tensor]) -> Replayed:
        run = torch.compile(step, dynamic=False) if self.compiled else step
        return Replayed(run, self.device, recording=self.network.recordable and not self.compiled)

    def room(self, shape: Sequence[int]) -> torch.Tensor:
        """Uninitialised host memory for a batch of pictures, (n, *shape) uint8, pinned where the device is a GPU."""
        return torch.empty((self.batch_frames, *shape), dtype=torch.uint8, pin_memory=self.device.type == "cuda")

    def frames(self, images: torch.Tensor | Sequence[np.ndarray]) -> list[torch.Tensor]:
        """The early layers' outputs of single frames.

        Args:
            images: n of (S, S, 3) uint8, as one tensor (part of a `room`) or as a sequence.

        Returns:
            n of (C, h, w), on the device.
        """
        outputs: list[torch.Tensor] = []
        while rest := len(images) - len(outputs):
            # What does not fill a large batch goes in small ones, so that little is padded.
            size = self.batch_frames if rest >= self.batch_frames else min(self.batch_clips, self.batch_frames)
            batch = images[len(outputs) : len(outputs) + size]

            def run(batch: torch.Tensor | Sequence[np.ndarray] = batch, size: int = size) -> torch.Tensor:
                return self._frames(self._full(batch, size))

            if (found := self._attempt(run, size)) is not None:
                outputs += found[: len(batch)].unbind()
            else:
                self.batch_frames = size // 2
                self._say(f"the device has too little memory: from now on {self.batch_frames} frames at once")
        return outputs

    def clips(self, clips: Sequence[Sequence[torch.Tensor]], dtype: torch.dtype = torch.float32) -> Maps:
        """Feature maps (n, H, W, D) of n clips, each L outputs of `frames`, rounded to `dtype`."""
        outputs: list[torch.Tensor] = []
        while (done := sum(map(len, outputs))) < len(clips):
            batch = clips[done : done + self.batch_clips]

            def run(batch: Sequence[Sequence[torch.Tensor]] = batch) -> torch.Tensor:
                full = _padded(batch, self.batch_clips)
                rows = [
                    clip[step].permute(1, 2, 0) for step in range(len(full[0])) for clip in full
                ]  # channels last, time-major
                return self._clips(torch.stack(rows).permute(0, 3, 1, 2).unflatten(0, (-1, len(full))))

            if (found := self._attempt(run, self.batch_clips)) is not None:
                outputs.append(found[: len(batch)])
            else:
                self.batch_clips //= 2
                self._say(f"the device has too little memory: from now on {self.batch_clips} clips at once")
        return Maps(outputs, dtype)

    def _full(self, images: torch.Tensor | Sequence[np.ndarray], size: int) -> torch.Tensor:
        """`size` images as one tensor on the host."""
        if isinstance(images, torch.Tensor) and len(images) == size:
            return images
        stacked = self.room(images[0].shape)[:size]
        np.stack(_padded([np.asarray(image) for image in images], size), out=stacked.numpy())
        return stacked

    def _attempt(self, run: Callable[[], torch.Tensor], size: int) -> torch.Tensor | None:
        """What `run` returns; None when the device lacks the memory, and a batch smaller than `size` is to be tried."""
        try:
            with torch.inference_mode(), _exact(self.device):
                return run()
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
        # Outside the handler, so that the failed call's tensors are gone when the memory is given back.
        self._frames.forget()
        self._clips.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """Compute reproducibly: float32 is not replaced by TF32, and no algorithm is chosen by timing."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _sent(maps: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """Memory on the host that receives the maps, and the event after which they are there."""
    if maps.device.type != "cuda":
        return maps, None
    host = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=True)
    host.copy_(maps, non_blocking=True)
    arrival = torch.cuda.Event(blocking=True)
    arrival.record(torch.cuda.current_stream(maps.device))
    return host, arrival


class ClipBatcher:
    """Collects clips of any views and videos into full batches, and hands the maps to their videos' sinks, in order.

    Args:
        engine: runs the batches.
        dtype: number format of the maps that the sinks get.
    """

    def __init__(self, engine: Engine, dtype: torch.dtype = torch.float32) -> None:
        self._engine, self._dtype = engine, dtype
        self._waiting: deque[tuple[Sink, Clip]] = deque()

    def add(self, sink: Sink, clip: Clip) -> None:
        """Queue a clip; runs a batch when there are enough."""
        self._waiting.append((sink, clip))
        while len(self._waiting) >= self._engine.batch_clips:
            self._run(self._engine.batch_clips)

    def drop(self, sink: Sink) -> None:
        """Forget the clips of a video that is given up."""
        self._waiting = deque(item for item in self._waiting if item[0] is not sink)

    def flush(self) -> None:
        """Run what is left."""
        if self._waiting:
            self._run(len(self._waiting))

    def _run(self, count: int) -> None:
        batch = [self._waiting.popleft() for _ in range(count)]
        maps = self._engine.clips([clip.features for _, clip in batch], self._dtype)
        for sink, view, start, stop in _runs(batch):
            sink.take(view, maps, slice(start, stop), np.stack([clip.indices for _, clip in batch[start:stop]]))


def _runs(batch: Sequence[tuple[Sink, Clip]]) -> Iterator[tuple[Sink, int, int, int]]:
    """(sink, view, start, stop) of the neighbours in a batch that belong together."""
    start = 0
    for _, group in groupby(batch, key=lambda item: (id(item[0]), item[1].view)):
        members = list(group)
        yield members[0][0], members[0][1].view, start, start + len(members)
        start += len(members)


def _padded(items: Sequence[Item], size: int) -> list[Item]:
    """The items, the last one repeated until there are `size`."""
    return [*items, *[items[-1]] * (size - len(items))]
