"""The backbone at work: frames once each, clips in full batches across the borders of windows and videos.

A batch always has its full size, the last one is padded, so that a feature does not depend on what else is in the
batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch

from pipeline.models.fast_tpn import FastTPN
from pipeline.progress import Say
from pipeline.stages.extraction.cuda_graphs import Replayed

__all__ = ["Clip", "ClipBatcher", "Engine", "Maps", "Sink"]


@dataclass(frozen=True)
class Clip:
    """What the late layers need of one clip: the early layers' outputs of its L frames, and the frames' numbers (L,)
    int64."""

    view: int
    features: tuple[torch.Tensor, ...]
    indices: np.ndarray


class Maps:
    """Feature maps (n, H, W, D) on their way to the host: the device goes on, whoever wants them waits.

    Args:
        parts: on the device, float32.
        dtype: what they become there; both rounding and copying are quicker than on the host.
    """

    def __init__(self, parts: Sequence[torch.Tensor], dtype: torch.dtype) -> None:
        self._parts = [_sent(part.to(dtype)) for part in parts]

    def numpy(self) -> np.ndarray:
        """The maps, once they have come."""
        for _, arrival in self._parts:
            if arrival:
                arrival.synchronize()
        arrays = [part.numpy() for part, _ in self._parts]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class Sink(Protocol):
    """Takes the feature maps of consecutive clips of a view, some rows of a batch's maps, and their frame numbers (n,
    L)."""

    def take(self, view: int, maps: Maps, rows: slice, indices: np.ndarray) -> None: ...


class Engine:
    """A network on a device, fed with batches of one size.

    Args:
        network: anything with `frames` and `clips` as FastTPN has them.
        device: where it runs.
        batch_clips: clips at once. Frames go through the early layers three times as many at once, as a batch of
            windows has that many new ones at the usual stride. Each is halved, for good, when the device has too little
            memory for it.
        say: told when that happens.
        compiled: have torch.compile make code for the device of the network first.
    """

    def __init__(
        self,
        network: FastTPN,
        device: torch.device,
        batch_clips: int,
        say: Say = lambda message: None,
        *,
        compiled: bool = False,
    ) -> None:
        self.network, self.device, self.compiled = network.to(device), device, compiled
        self.batch_clips, self.batch_frames = batch_clips, 3 * batch_clips
        steps = (network.frames, network.clips)
        if compiled:
            steps = tuple(torch.compile(step, dynamic=False) for step in steps)
        self._frames, self._clips = (Replayed(step, device, recording=not compiled) for step in steps)
        self._say = say

    def room(self, shape: Sequence[int]) -> torch.Tensor:
        """Unset memory for a batch of pictures: (n, *shape) uint8, from which they go to the device while the host goes
        on."""
        return torch.empty((self.batch_frames, *shape), dtype=torch.uint8, pin_memory=self.device.type == "cuda")

    def frames(self, images: torch.Tensor | Sequence[np.ndarray]) -> list[torch.Tensor]:
        """The early layers' outputs (C, h, w), on the device, of images (S, S, 3) uint8: part of a `room`, or one by
        one."""
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
        """Feature maps of clips, each L outputs of `frames`, as `dtype`."""
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
        """What `run` gives, or None when it should be asked again with a batch smaller than `size`."""
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
    """float32 is float32, not TF32, and one machine gives one result: no choice of algorithms by timing."""
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
    """Maps on the host, and the event after which they are there."""
    if maps.device.type != "cuda":
        return maps, None
    host = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=True)
    host.copy_(maps, non_blocking=True)
    arrival = torch.cuda.Event(blocking=True)
    arrival.record(torch.cuda.current_stream(maps.device))
    return host, arrival


class ClipBatcher:
    """Collects clips of any views and videos until a batch is full, and hands every map to the sink of its video, in
    order.

    Args:
        engine: what runs them.
        dtype: of the maps that the sinks get.
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
        """Forget the clips of a video that came to nothing."""
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


def _padded(items: Sequence, size: int) -> list:
    """The items, the last one repeated until there are `size`."""
    return [*items, *[items[-1]] * (size - len(items))]
