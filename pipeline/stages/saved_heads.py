"""Trained heads as files: weights and channel statistics as safetensors, settings and classes in the metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from pipeline.config import Head, Training
from pipeline.config_heads import parse_head
from pipeline.errors import WeightsError
from pipeline.models.heads import HeadModule, build_head
from pipeline.models.reduction import Standardizer

__all__ = ["TrainedHead", "load_head", "make_head", "save_head"]


@dataclass(frozen=True)
class TrainedHead:
    """A head in evaluation mode with what it needs before and after it."""

    module: torch.nn.Module
    settings: Head
    standardizer: Standardizer | None
    classes: tuple[str, ...]


def make_head(settings: Head, training: Training, channels: int, classes: int) -> HeadModule:
    """A head initialised from the training seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return build_head(settings.name, channels=channels, classes=classes, **settings.options())


def save_head(
    path: Path, module: torch.nn.Module, settings: Head, standardizer: Standardizer | None, classes: tuple[str, ...]
) -> None:
    """Write a head as safetensors; its settings and classes are in the metadata."""
    tensors = {f"head.{name}": value.contiguous() for name, value in module.state_dict().items()}
    if standardizer:
        tensors |= {"standardizer.mean": standardizer.mean, "standardizer.std": standardizer.std}
    if not tensors:  # safetensors refuses an empty file
        tensors = {"empty": torch.zeros(1)}
    # One entry: safetensors writes several in no fixed order, and equal heads should be equal files.
    facts = {"settings": settings.model_dump(), "classes": list(classes), "channels": getattr(module, "channels", None)}
    path.write_bytes(save(tensors, metadata={"head": json.dumps(facts, sort_keys=True)}))


def load_head(path: Path) -> TrainedHead:
    """Read a head written by `save_head`. Raises WeightsError when it is missing or not one."""
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads(stream.metadata()["head"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
        settings, classes = parse_head(facts["settings"]), tuple(facts["classes"])
    except Exception as error:
        raise WeightsError(f"{path}: not a trained head of this system ({error})") from error
    standardizer = None
    if settings.standardize:
        standardizer = Standardizer(tensors.pop("standardizer.mean"), tensors.pop("standardizer.std"), settings.standardize_offset)
    state = {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
    module = make_head(settings, Training(), facts["channels"], len(classes))
    module.load_state_dict(state, strict=True)
    return TrainedHead(module.eval(), settings, standardizer, classes)
