"""TPN on SlowOnly, the paper's backbone, and its small stand-ins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from pipeline.config.features import Backbone as Settings
from pipeline.models.backbone import build_backbone, restore_backbone
from pipeline.models.backbones.interface import BackboneFacts
from pipeline.models.fast_tpn import FastTPN, tpn_facts

__all__ = ["facts", "load", "reference", "restore", "tensors"]


def facts(settings: Settings) -> BackboneFacts:
    """What is known without the weights."""
    return tpn_facts(settings.name)


def load(settings: Settings) -> FastTPN:
    """The fast form. Raises WeightsError."""
    return FastTPN(build_backbone(settings.name, settings.weights, seed=settings.seed))


def reference(settings: Settings) -> nn.Module:
    """mmaction2's own modules, with which the fast form is compared. Raises WeightsError."""
    return build_backbone(settings.name, settings.weights, seed=settings.seed)


def tensors(settings: Settings) -> Mapping[str, torch.Tensor]:
    """The weights by mmaction2's names, without those of the recogniser's heads. Raises WeightsError."""
    return build_backbone(settings.name, settings.weights, seed=settings.seed).state_dict()


def restore(settings: Settings, state: Mapping[str, torch.Tensor], weights_sha256: str, where: Path) -> FastTPN:
    """The fast form of what `tensors` gave. Raises WeightsError."""
    return FastTPN(restore_backbone(settings.name, state, weights_sha256, where))
