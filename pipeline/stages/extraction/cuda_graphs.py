"""Runs a step of a network as a CUDA graph: a GPU gets all its kernels with one call instead of one after the other."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

__all__ = ["Replayed"]

Step = Callable[[torch.Tensor], torch.Tensor]


class Replayed:
    """`step` on a device.

    On a CUDA device the kernels are recorded when a shape comes for the second time, and replayed from then on. The
    results are the same, bit for bit. A recording keeps memory for one step's activations; where there is too little,
    the step runs as before.

    Args:
        step: from a tensor on the device to another. It must launch the same kernels for all values of one shape, and
            must not wait for the device.
        device: where it runs.
        recording: False to run every step from Python.
    """

    def __init__(self, step: Step, device: torch.device, *, recording: bool = True) -> None:
        self._step, self._device, self._recording = step, device, recording and device.type == "cuda"
        self._recordings: dict[Hashable, _Recording | None] = {}
        self._seen: set[Hashable] = set()

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """The step's result for inputs on the device or the host. Raises torch.cuda.OutOfMemoryError."""
        shape = (inputs.shape, inputs.stride(), inputs.dtype)
        if self._recording and shape in self._seen:
            if shape not in self._recordings:
                self._recordings[shape] = self._recorded(inputs)
            if recording := self._recordings[shape]:
                return recording.replay(inputs)
        result = self._step(inputs.to(self._device, non_blocking=True))
        self._seen.add(shape)
        return result

    def forget(self) -> None:
        """Give the memory of all recordings back."""
        self._recordings.clear()
        self._seen.clear()

    def _recorded(self, inputs: torch.Tensor) -> _Recording | None:
        try:
            return _Recording(self._step, inputs, self._device)
        except torch.cuda.OutOfMemoryError:
            return None


class _Recording:
    """The kernels of a step for one shape, with their own memory for inputs and outputs."""

    def __init__(self, step: Step, inputs: torch.Tensor, device: torch.device) -> None:
        self._inputs = torch.empty_like(inputs, device=device)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads wait for maps and copy them meanwhile; that must not disturb the recording.
        with torch.cuda.graph(self._graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"):
            self._outputs = step(self._inputs)

    def replay(self, inputs: torch.Tensor) -> torch.Tensor:
        self._inputs.copy_(inputs, non_blocking=True)
        self._graph.replay()
        return self._outputs.clone()
