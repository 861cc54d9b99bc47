"""Features of the generated clip: fast form against module, device against CPU, and a record to compare with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.config import Experiment
from pipeline.data.windows import window_indices
from pipeline.errors import FeatureMismatch, PipelineError
from pipeline.models.backbones import VideoBackbone
from pipeline.stages.common.device import choose_precision
from pipeline.stages.common.picture import picture_size
from pipeline.stages.extraction.engine import Engine
from pipeline.stages.selfcheck.clip import drawn_pictures
from pipeline.stages.selfcheck.findings import Check

__all__ = [
    "TOLERANCE",
    "ClipFeatures",
    "check_device",
    "clip_features",
    "compare_records",
    "difference",
    "engine_maps",
    "module_maps",
    "read_record",
    "write_record",
]

FORM = 2
WINDOWS = 2
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest relative difference (norm of the difference over norm) of maps in a precision from those in float32 on a CPU.

Seen on a GPU with TPN-SlowOnly-R50: 2e-6, 1e-3 and 8e-3 (benchmarks/results/precision_cuda.json).
"""


@dataclass(frozen=True)
class ClipFeatures:
    """Features of the drawn pictures, which no decoder has touched.

    Attributes:
        backbone, weights_sha256, precision, device: what computed them.
        crop, window_frames, interval_frames, stride_frames: height of the pictures, pixels, and frames of a window,
            from one of these to the next, and from one window to the next.
        sha256: of the maps' bytes: equal only where every bit is.
        mean, largest, zeros: mean and largest value of the maps, and the share of zeros.
        width: of the pictures, pixels; None where it is their height.
        pooled: means over the positions of every map, (windows, 2048) as nested lists, float32.
    """

    backbone: str
    weights_sha256: str
    precision: str
    device: str
    crop: int
    window_frames: int
    interval_frames: int
    stride_frames: int
    sha256: str
    mean: float
    largest: float
    zeros: float
    pooled: list[list[float]]
    width: int | None = None


def _pictures(experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """The drawn pictures (n, H, W, 3), and the frames of each window (WINDOWS, L)."""
    sampling = experiment.test_sampling
    height, width = picture_size(experiment)
    frames = sampling.window_frames * sampling.interval_frames + sampling.stride_frames
    return drawn_pictures(frames, width, height), window_indices(frames, **sampling.model_dump())[:WINDOWS]


def module_maps(network: nn.Module, experiment: Experiment) -> np.ndarray:
    """Maps (n, H, W, D) float32 of the drawn pictures, by the modules of `load_reference` on the CPU."""
    pictures, windows = _pictures(experiment)
    with torch.inference_mode():
        maps: np.ndarray = network(torch.from_numpy(pictures[windows])).numpy()
    return maps


def engine_maps(engine: Engine, experiment: Experiment) -> np.ndarray:
    """The same by the backbone, each frame once, as an extraction computes them."""
    pictures, windows = _pictures(experiment)
    features = engine.frames(list(pictures))
    return engine.clips([[features[number] for number in window] for window in windows.tolist()]).numpy()


def difference(maps: np.ndarray, reference: np.ndarray) -> float:
    """Relative difference of two arrays of one shape: norm of the difference over norm of the reference."""
    return float(np.linalg.norm(maps - reference) / max(float(np.linalg.norm(reference)), 1e-30))


def clip_features(engine: Engine, experiment: Experiment, precision: str, maps: np.ndarray) -> ClipFeatures:
    """What is kept of maps (n, H, W, D) that the engine has made of the drawn pictures."""
    height, width = picture_size(experiment)
    return ClipFeatures(
        backbone=engine.network.name,
        weights_sha256=engine.network.weights_sha256,
        precision=precision,
        device=engine.device.type,
        crop=height,
        window_frames=experiment.test_sampling.window_frames,
        interval_frames=experiment.test_sampling.interval_frames,
        stride_frames=experiment.test_sampling.stride_frames,
        sha256=hashlib.sha256(np.ascontiguousarray(maps).tobytes()).hexdigest(),
        mean=float(maps.mean()),
        largest=float(maps.max()),
        zeros=float((maps == 0).mean()),
        width=width if width != height else None,
        pooled=[[float(f"{value:.6g}") for value in row] for row in maps.mean(axis=(1, 2))],
    )


def check_device(network: VideoBackbone, device: torch.device, experiment: Experiment, reference: np.ndarray) -> Check:
    """Compare a backbone in float32, in the precision that is usual on a device, with the reference's maps."""
    precision = choose_precision("auto", device)
    network.set_precision(getattr(torch, precision))
    return compared_maps(engine_maps(Engine(network, device, WINDOWS), experiment), reference, device.type, precision)


def compared_maps(maps: np.ndarray, reference: np.ndarray, device: str, precision: str) -> Check:
    """Whether maps of the backbone are those of the reference on the CPU, within the tolerance of the precision."""
    name = f"backbone on {device}"
    if not np.isfinite(maps).all():
        return Check(name, False, f"in {precision}: expected finite features, some are not")
    differs, allowed = difference(maps, reference), TOLERANCE[precision]
    detail = f"in {precision} against plain modules in float32 on the CPU: relative difference {differs:.2g}"
    return Check(name, differs <= allowed, f"{detail}, at most {allowed:g} expected")


def write_record(path: Path, features: ClipFeatures, machine: dict[str, str]) -> None:
    """Keep the features for `compare_records`, as JSON. Raises OSError."""
    document = {"form": FORM, "features": asdict(features), "machine": machine}
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")


def read_record(path: Path) -> ClipFeatures:
    """The features that `write_record` kept. Raises PipelineError for another file."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document["form"] != FORM:
            raise PipelineError(f"{path}: a record of form {document['form']}, expected {FORM}: record it again")
        record = ClipFeatures(**document["features"])
        np.asarray(record.pooled, dtype=np.float32)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PipelineError(f"{path}: expected a file that `gig selfcheck --record` wrote: {error!r}") from error
    return record


def compare_records(features: ClipFeatures, record: ClipFeatures) -> Check:
    """Compare the features with those of another machine or version, within the coarser precision's tolerance.

    Raises:
        FeatureMismatch: the record is of other weights, another picture or other windows: nothing can be compared.
    """
    for name in ("backbone", "weights_sha256", "crop", "width", "window_frames", "interval_frames", "stride_frames"):
        mine, theirs = getattr(features, name), getattr(record, name)
        if mine != theirs:
            raise FeatureMismatch(f"the record cannot be compared: its {name} is {theirs}, expected {mine}")
    name = "features as recorded"
    if features.sha256 == record.sha256:
        return Check(name, True, "the same in every bit")
    mine, theirs = np.asarray(features.pooled, dtype=np.float32), np.asarray(record.pooled, dtype=np.float32)
    if mine.shape != theirs.shape:
        raise FeatureMismatch(f"the record cannot be compared: its features are {theirs.shape}, expected {mine.shape}")
    differs, allowed = difference(mine, theirs), max(TOLERANCE[features.precision], TOLERANCE[record.precision])
    how = f"recorded on {record.device} in {record.precision}, now {features.device} in {features.precision}"
    return Check(name, differs <= allowed, f"relative difference {differs:.2g}, at most {allowed:g} expected ({how})")
