"""The size of the picture that the backbone sees, and of its feature maps: said here, once for all stages."""

from __future__ import annotations

from pipeline.config import Experiment, Preprocess
from pipeline.data.decoding.geometry import Fit

__all__ = ["fit_of", "map_size", "picture_fit", "picture_size"]

PADDING = (124, 116, 104)
"""RGB of the padding of a letterbox: the mean that the backbone subtracts, so that it sees nothing there, as beyond the
edge of a picture."""


def picture_size(experiment: Experiment) -> tuple[int, int]:
    """Height and width of the pictures that the backbone takes, pixels."""
    return experiment.preprocess.size


def map_size(experiment: Experiment) -> tuple[int, int]:
    """Rows and columns of a feature map of such a picture. Raises ConfigError if the backbone does not take it."""
    from pipeline.models.backbones import backbone_facts  # loads torch, which evaluation does without

    return backbone_facts(experiment.backbone).map_size(*picture_size(experiment))


def fit_of(experiment: Experiment) -> Fit:
    """What the backbone sees of a decoded picture."""
    return picture_fit(experiment.preprocess)


def picture_fit(preprocess: Preprocess) -> Fit:
    """The same of the section alone."""
    height, width = preprocess.size
    return Fit(preprocess.fit, height, width, preprocess.short_side, PADDING)
