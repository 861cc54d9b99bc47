"""From the name in a configuration to the module that knows the backbone.

The part of a name before its colon is the family; without a colon it is TPN. A family is a module with these functions,
of which `reference`, `tensors` and `restore` can be left out:

- `facts(settings) -> BackboneFacts`: cheap, reads no weight file;
- `load(settings) -> VideoBackbone`: with its weights, in float32;
- `reference(settings) -> nn.Module`: maps (N, rows, columns, D) of clips (N, L, H, W, 3) by another way, with which
  `gig selfcheck` compares; without it the backbone is compared with itself on the CPU;
- `tensors(settings) -> Mapping[str, Tensor]` and `restore(settings, state, weights_sha256, where) -> VideoBackbone`:
  the weights as a detector file holds them, and the backbone of them; without them no detector is packed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from pipeline.config.features import Backbone as Settings
from pipeline.errors import ConfigError
from pipeline.models.backbones.interface import BackboneFacts, VideoBackbone

__all__ = ["backbone_facts", "backbone_tensors", "can_be_packed", "load_backbone", "load_reference", "restore_backbone"]

TPN = "pipeline.models.backbones.tpn"
FAMILIES = {
    "timm": "pipeline.models.backbones.timm_family",
    "mmaction": "pipeline.models.backbones.mmaction_family",
}
"""Modules by family. They are imported when they are asked for: each needs another library."""


def backbone_facts(settings: Settings) -> BackboneFacts:
    """What is known of a backbone without loading its weights; quick when asked again.

    Raises:
        ConfigError: there is no such backbone, or what it needs is not installed.
    """
    found: BackboneFacts = _family(settings).facts(settings)
    return found


def load_backbone(settings: Settings) -> VideoBackbone:
    """The backbone with its weights, in float32, on the CPU.

    Raises:
        ConfigError: as `backbone_facts`.
        WeightsError: the weight file is not there, is damaged, or belongs to another network.
    """
    found: VideoBackbone = _family(settings).load(settings)
    return found


def load_reference(settings: Settings) -> nn.Module:
    """A module that computes the maps of clips as plainly as can be, for comparison. Raises as `load_backbone`."""
    family = _family(settings)
    found: nn.Module = family.reference(settings) if hasattr(family, "reference") else family.load(settings)
    return found


def can_be_packed(settings: Settings) -> bool:
    """Whether a detector file can hold the backbone's weights. Raises ConfigError."""
    return hasattr(_family(settings), "restore")


def backbone_tensors(settings: Settings) -> Mapping[str, torch.Tensor]:
    """The weights, as `restore_backbone` takes them. Raises as `load_backbone`."""
    found: Mapping[str, torch.Tensor] = _family(settings).tensors(settings)
    return found


def restore_backbone(
    settings: Settings, state: Mapping[str, torch.Tensor], weights_sha256: str, where: Path
) -> VideoBackbone:
    """The backbone of the tensors of `backbone_tensors`.

    Args:
        settings: its name, and how it sees time.
        state: the tensors.
        weights_sha256: of the file from which they were.
        where: they are from, for errors.

    Raises:
        ConfigError: as `backbone_facts`.
        WeightsError: the tensors are those of another network.
    """
    found: VideoBackbone = _family(settings).restore(settings, state, weights_sha256, where)
    return found


def _family(settings: Settings) -> ModuleType:
    name = settings.family
    module = settings.model if name == "python" else FAMILIES[name] if name else TPN
    try:
        family = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"backbone.name: {settings.name} cannot be used here: {error}") from error
    if missing := [function for function in ("facts", "load") if not hasattr(family, function)]:
        raise ConfigError(f"backbone.name: {settings.name}: expected a module with {' and '.join(missing)}")
    return family
