"""Measures what recognisers of mmaction2 take and give: `python -m pipeline.models.backbones.mmaction_survey`.

Every shipped recogniser is built, and clips of several lengths and pictures of several sizes are run through it without
values (torch's meta device), which takes shapes only. The results are `mmaction_zoo.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import torch

from pipeline.errors import ConfigError
from pipeline.models.backbones.mmaction_network import (
    MapsOfClips,
    build_recognizer,
    drop_heads,
    shipped_config,
    shipped_names,
)
from pipeline.models.backbones.mmaction_zoo import ZOO_FILE

__all__ = ["measure", "survey"]

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32)
CELLS = (14, 16, 32)
WITHOUT_RELU = ("SwinTransformer3D", "MViT", "UniFormer", "UniFormerV2", "VisionTransformer", "TimeSformer")
SAMPLERS = ("SampleFrames", "DenseSampleFrames", "UniformSample")
CROPS = ("CenterCrop", "ThreeCrop", "TenCrop")


def measure(name: str) -> dict[str, Any]:
    """Facts of a recogniser, as `Recogniser` takes them.

    Raises:
        ConfigError: it cannot be used; the message is the reason.
    """
    config = shipped_config(name)
    backbone = config.model.backbone
    clip, interval, side = _clip_and_size(config)
    network = _network(name)
    segments = getattr(network.recognizer.get_submodule("backbone"), "num_segments", None)
    fixed = segments or backbone.get("t_size") or backbone.get("num_frames")
    parameters = sum(tensor.numel() for tensor in network.parameters()) / 1e6
    network = network.to("meta")
    found = _maps(network, clip, side, side)
    if isinstance(found, str):
        raise ConfigError(found)
    any_size, cell = False, side // found[2]
    for pixels in CELLS:
        wide = _maps(network, clip, 7 * pixels, 12 * pixels)
        if not isinstance(wide, str) and wide[2:] == (7, 12):
            any_size, cell = True, pixels
            break
    # Clips of other lengths than a fixed one do not always fail: they are taken for several clips, or frames repeated.
    tried = [fixed] if fixed else sorted({*LENGTHS, clip})
    lengths = [length for length in tried if not isinstance(_maps(network, length, side, side), str)]
    multiple = math.gcd(*lengths) if len(lengths) > 1 else 1
    if len(lengths) > 1 and lengths != [length for length in tried if length >= lengths[0] and not length % multiple]:
        raise ConfigError(f"takes clips of {lengths} frames, which is no simple rule")
    normal = config.model.data_preprocessor
    if normal.get("to_rgb"):
        raise ConfigError("takes its colours in another order than RGB")
    return {
        "architecture": str(backbone.type) + (f"+{config.model.neck.type}" if config.model.get("neck") else ""),
        "channels": found[0],
        "cell": cell,
        "size": -(-side // cell) * cell,
        "any_size": any_size,
        "clip": clip,
        "interval": interval,
        "shortest": lengths[0],
        "longest": lengths[0] if len(lengths) == 1 else None,
        "multiple": multiple,
        "steps": found[1],
        "mean": list(normal.mean),
        "std": list(normal.std),
        "non_negative": backbone.type not in WITHOUT_RELU,
        "parameters": round(parameters, 1),
    }


def _network(name: str) -> MapsOfClips:
    """Raises ConfigError with what mmaction2 says when it cannot build the recogniser."""
    recognizer = build_recognizer(name)
    drop_heads(recognizer)
    return MapsOfClips(recognizer)


def _clip_and_size(config: Any) -> tuple[int, int | None, int]:
    """(frames of a clip, distance between them, side of a picture) of a configuration's own test."""
    backbone = config.model.backbone
    clip, interval, side = 0, None, backbone.get("input_resolution", 224)
    for step in config.get("test_pipeline") or config.get("val_pipeline") or ():
        if step["type"] in SAMPLERS:
            of_single_frames = step.get("clip_len", 1) == 1
            clip = step.get("num_clips", 1) if of_single_frames else step["clip_len"]
            interval = None if of_single_frames else step.get("frame_interval")
        if step["type"] in CROPS:
            side = step["crop_size"]
    return clip or backbone.get("t_size", 8), interval, side


def _maps(network: MapsOfClips, length: int, height: int, width: int) -> tuple[int, int, int, int] | str:
    """(channels, steps, rows, columns) of clips of a size, or why there are none."""
    with torch.no_grad():
        try:
            maps = network(torch.empty((2, 3, length, height, width), device="meta"))
        except ImportError as error:
            return f"it needs mmcv's compiled operators: {error}".strip()
        except (RuntimeError, ValueError) as error:
            return str(error).splitlines()[0]
    if any(each.ndim != 5 or each.shape[3:].numel() == 1 for each in maps):
        return f"it ends in a vector of {maps[0].shape[1]} numbers, not in a map"
    if any(len(each) != 2 or not each.numel() or each.shape[3:] != maps[0].shape[3:] for each in maps):
        return f"two clips give {[tuple(each.shape) for each in maps]}"
    _, _, steps, rows, columns = maps[0].shape
    return sum(each.shape[1] for each in maps), steps, rows, columns


def survey(names: Iterable[str]) -> dict[str, Any]:
    """What `mmaction_zoo.json` says of some recognisers."""
    known: dict[str, Any] = {}
    without: dict[str, str] = {}
    measured: dict[str, tuple[Any, str | None]] = {}
    for name in names:
        config = shipped_config(name)
        same = json.dumps([config.model.backbone, config.model.get("neck"), _clip_and_size(config)], default=str)
        if same not in measured:  # many differ in their classes only
            try:
                measured[same] = measure(name), None
            except ConfigError as error:
                measured[same] = None, str(error)
        entry, reason = measured[same]
        if reason is None:
            known[name] = entry
        else:
            without[name] = reason
        print(name, reason or entry, flush=True)
    return {"recognisers": known, "without_maps": without}


def as_text(found: dict[str, Any]) -> str:
    """The survey as JSON, one line for each recogniser."""
    parts = [
        f"  {json.dumps(part)}: {{\n"
        + ",\n".join(f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        + "\n  }"
        for part, entries in found.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    ZOO_FILE.write_text(as_text(survey(shipped_names())), encoding="utf-8")
