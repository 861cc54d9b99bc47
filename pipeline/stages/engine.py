"""The backbone at work: frames once each, clips in full batches across the borders of windows and videos.

A batch always has its full size, the last one is padded, so that a feature does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch

from pipeline.errors import ConfigError
from pipeline.models.fast_tpn import FastTPN

__all__ = ["Clip", "ClipBatcher", "Engine", "Sink", "check_precision", "pick_device"]


def pick_device(name: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU.

    Raises ConfigError for a device that torch does not know, or that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"machine.device: expected auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"machine.device: {name!r} is not there; torch sees {torch.cuda.device_count()} CUDA device(s)")
    return device


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError for a precision that the device has no instructions for: it would be emulated, many times slower."""
    supported = {
        "float32": lambda: True,
        "bfloat16": torch.ops.mkldnn._is_mkldnn_bf16_supported if device.type == "cpu" else torch.cuda.is_bf16_supported,
        "float16": torch.ops.mkldnn._is_mkldnn_fp16_supported if device.type == "cpu" else lambda: True,
    }
    if not supported[precision]():
        raise ConfigError(f"backbone.precision: this {device.type} has no instructions for {precision}; use float32")


@dataclass(frozen=True)
class Clip:
    """What the late layers need of one clip: the early layers' outputs of its L frames, and the frames' numbers (L,) int64."""

    view: int
    features: tuple[torch.Tensor, ...]
    indices: np.ndarray


class Sink(Protocol):
    """Takes the feature maps (n, H, W, D) float32 of consecutive clips of a view and their frame numbers (n, L)."""

    def take(self, view: int, maps: np.ndarray, indices: np.ndarray) -> None: ...


class Engine:
    """A network on a device, fed with batches of one size.

    Args:
        network: anything with `frames` and `clips` as FastTPN has them.
        device: where it runs.
        batch_clips: clips, and frames, at once; halved, for good, when the device has too little memory.
        say: told when that happens.
    """

    def __init__(
        self, network: FastTPN, device: torch.device, batch_clips: int, say: Callable[[str], None] = lambda message: None
    ) -> None:
        self.network, self.device, self.batch_clips = network.to(device), device, batch_clips
        self._say = say

    def frames(self, images: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """The early layers' outputs (C, h, w) of images (S, S, 3) uint8, on the device."""
        outputs: list[torch.Tensor] = []
        while len(outputs) < len(images):
            batch = images[len(outputs) : len(outputs) + self.batch_clips]

            def run(batch: Sequence[np.ndarray] = batch) -> torch.Tensor:
                stacked = torch.from_numpy(np.stack(_padded(batch, self.batch_clips)))
                if self.device.type == "cuda":
                    stacked = stacked.pin_memory()
                return self.network.frames(stacked.to(self.device, non_blocking=True))

            if (found := self._attempt(run)) is not None:
                outputs += found[: len(batch)].unbind()
        return outputs

    def clips(self, clips: Sequence[Sequence[torch.Tensor]]) -> np.ndarray:
        """Feature maps (n, H, W, D) float32 of clips, each L outputs of `frames`."""
        outputs: list[np.ndarray] = []
        while (done := sum(map(len, outputs))) < len(clips):
            batch = clips[done : done + self.batch_clips]

            def run(batch: Sequence[Sequence[torch.Tensor]] = batch) -> torch.Tensor:
                full = _padded(batch, self.batch_clips)
                rows = [clip[step].permute(1, 2, 0) for step in range(len(full[0])) for clip in full]  # channels last, time-major
                return self.network.clips(torch.stack(rows).permute(0, 3, 1, 2).unflatten(0, (-1, len(full))))

            if (found := self._attempt(run)) is not None:
                outputs.append(found[: len(batch)].float().cpu().numpy())
        return np.concatenate(outputs)

    def _attempt(self, run: Callable[[], torch.Tensor]) -> torch.Tensor | None:
        """What `run` gives, or None when it should be asked again with the smaller batch."""
        try:
            with torch.inference_mode():
                return run()
        except torch.cuda.OutOfMemoryError:
            if self.batch_clips == 1:
                raise
        # Outside the handler, so that the failed call's tensors are gone when the memory is given back.
        self.batch_clips //= 2
        self._say(f"the device has too little memory: from now on {self.batch_clips} clips at once")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


class ClipBatcher:
    """Collects clips of any views and videos until a batch is full, and hands every map to the sink of its video, in order."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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
        maps = self._engine.clips([clip.features for _, clip in batch])
        for sink, view, start, stop in _runs(batch):
            sink.take(view, maps[start:stop], np.stack([clip.indices for _, clip in batch[start:stop]]))


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
