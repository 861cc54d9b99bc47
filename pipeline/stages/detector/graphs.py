"""The four ONNX graphs of a detector: `frames` and `clips` of the backbone, the reduction, and the head.

They are made by torch.onnx.export of a traced program (`dynamo=True`), which torch 2.5 cannot trace yet. The older
form, by TorchScript, takes numbers of pictures and windows for constants here; its graphs fail for other numbers.
"""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline.errors import DetectorError
from pipeline.models.fast_tpn import FastTPN
from pipeline.models.reduction import Standardizer, pattern_vectors
from pipeline.stages.training.saved_heads import TrainedHead

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "Graph", "check_extra", "graphs_of", "to_onnx"]

OPSET = 18
FIRST_TORCH = (2, 6)
EXTRA = ("onnx", "onnxruntime", "onnxscript")


def _sorted(
    values: torch.Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """A stable sort, for which the exporter knows no operator, as TopK, which by ONNX keeps equal values in order."""
    return torch.topk(values, values.shape[dim], dim, largest=descending, sorted=True)


REPLACED = {torch.ops.aten.sort.stable: _sorted}


@dataclass(frozen=True)
class Graph:
    """A part of the detector before it is exported.

    Attributes:
        name: of the file, without its suffix.
        module: what it computes.
        inputs: an example for every input, by name, with lengths above 1, which tracing would take for a constant.
        free: of every input the axes of any length, and their names.
        outputs: their names.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    free: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]


class _Frames(nn.Module):
    """(n, H, W, 3) uint8 -> (n, C, H / 8, W / 8), see `FastTPN.frames`."""

    def __init__(self, network: FastTPN) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.frames(images).contiguous()


class _Clips(nn.Module):
    """(L, n, C, h, w) -> (n, H, W, D), see `FastTPN.clips`."""

    def __init__(self, network: FastTPN) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.network.clips(features)


class _Reduce(nn.Module):
    """Maps (B, T, H, W, D) and cues (B, D) as stored -> cues and vectors as the head takes them.

    Some heads also take backgrounds (B, H, W, D). The vectors are (B, T, D), or maps (B, T, H, W, D) for a head that
    takes maps.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, head: TrainedHead) -> None:
        super().__init__()
        self.kept, standardizer = head.settings.kept(), head.standardizer
        self.offset = standardizer.offset if standardizer else None
        if standardizer:
            self.register_buffer("mean", standardizer.mean)
            self.register_buffer("std", standardizer.std)

    def forward(
        self, maps: torch.Tensor, cue: torch.Tensor, background: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.offset is not None:
            standardizer = Standardizer(self.mean, self.std, self.offset)
            maps, cue = standardizer.maps(maps), standardizer.cue(cue)
            background = None if background is None else standardizer.maps(background)
        if self.kept is None:
            vectors = maps.clone()
        else:
            vectors = pattern_vectors(maps, cue, background=background, **self.kept).vectors
        return cue.clone(), vectors  # an output must not be an input


class _Head(nn.Module):
    """Cues (B, D) and vectors of `_Reduce` -> scores (B, T, 1 + C) in [0, 1]."""

    def __init__(self, head: TrainedHead) -> None:
        super().__init__()
        self.head = head.module

    def forward(self, cue: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(cue, vectors).segment_scores
        return scores


def check_extra() -> None:
    """Raise DetectorError where what exports is not installed."""
    for name in EXTRA:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise DetectorError(f"an export needs {name} ({error}): pip install 'gig-vad[onnx]'") from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < FIRST_TORCH:
        wanted = ".".join(map(str, FIRST_TORCH))
        raise DetectorError(
            f"an export needs torch {wanted} or newer, which traces the backbone for any number of pictures; got "
            f"{torch.__version__}"
        )


def graphs_of(network: FastTPN, head: TrainedHead, size: tuple[int, int], window_frames: int) -> list[Graph]:
    """What is to be exported.

    Args:
        network: the backbone, in float32 on the CPU.
        head: the trained head.
        size: height and width of the pictures, pixels.
        window_frames: L, frames of a window.
    """
    images = torch.zeros(3, *size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        features = network.frames(images[:1])
        maps = network.clips(features[None].expand(window_frames, -1, -1, -1, -1))
    bags = torch.rand(2, 5, *maps.shape[1:])
    cue = bags.amax(dim=(1, 2, 3))
    bag, segment = {0: "bags"}, {0: "bags", 1: "windows"}
    reduce, seen, free = _Reduce(head), {"maps": bags, "cue": cue}, {"maps": segment, "cue": bag}
    if head.settings.needs_background:
        seen["background"], free["background"] = bags.amin(dim=1), bag
    with torch.inference_mode():
        _, vectors = reduce(**seen)
    clips = torch.rand(window_frames, 3, *features.shape[1:])
    return [
        Graph("frames", _Frames(network), {"images": images}, {"images": {0: "pictures"}}, ("features",)),
        Graph("clips", _Clips(network), {"features": clips}, {"features": {1: "windows"}}, ("maps",)),
        Graph("reduce", reduce, seen, free, ("cue_seen", "vectors")),
        Graph(
            "head",
            _Head(head),
            {"cue": cue.clone(), "vectors": torch.rand(vectors.shape)},
            {"cue": bag, "vectors": segment},
            ("scores",),
        ),
    ]


def to_onnx(graph: Graph, facts: Mapping[str, object]) -> onnx.ModelProto:
    """A graph in ONNX's form, checked by its checker.

    Args:
        graph: which.
        facts: go into the model's metadata under `gig-vad`, as JSON.

    Raises:
        DetectorError: torch cannot export it.
    """
    import onnx

    names = {name for axes in graph.free.values() for name in axes.values()}
    sizes = {name: torch.export.Dim(name, min=1) for name in sorted(names)}
    axes = tuple({axis: sizes[name] for axis, name in graph.free[key].items()} for key in graph.inputs)
    try:
        with _quiet(), torch.no_grad():
            traced = torch.export.export(
                graph.module.eval(), tuple(graph.inputs.values()), dynamic_shapes=axes, strict=False
            )
            program = torch.onnx.export(
                traced.run_decompositions(REPLACED),
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                verbose=False,
            )
        assert program is not None
        model: onnx.ModelProto = program.model_proto
        onnx.helper.set_model_props(model, {"gig-vad": json.dumps(facts, sort_keys=True)})
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # exporter and checker raise types of their own
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise DetectorError(f"{graph.name}: cannot be exported: {type(error).__name__}: {first[:300]}") from error
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself: of operators that are not installed, and of its own old names."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
