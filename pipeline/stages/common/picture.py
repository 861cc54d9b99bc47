"""The size of the picture that the backbone sees, and of its feature maps: said here, once for all stages."""

from __future__ import annotations

from pipeline.config import Experiment
from pipeline.models.backbones import backbone_facts

__all__ = ["map_size", "picture_size"]


def picture_size(experiment: Experiment) -> tuple[int, int]:
    """Height and width of the pictures that the backbone takes, pixels."""
    return experiment.preprocess.size


def map_size(experiment: Experiment) -> tuple[int, int]:
    """Rows and columns of a feature map of such a picture. Raises ConfigError if the backbone does not take it."""
    return backbone_facts(experiment.backbone).map_size(*picture_size(experiment))
