"""The size of the picture that the backbone sees, and of its feature maps: said here, once for all stages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.config import Experiment, Preprocess
from pipeline.data.decoding.geometry import Fit
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.models.backbones import BackboneFacts

__all__ = ["check_backbone", "fit_of", "map_size", "picture_fit", "picture_size"]

PADDING = (124, 116, 104)
"""RGB of the padding of a letterbox: the mean that the backbone subtracts, so that it sees nothing there, as beyond the
edge of a picture."""
OWN_SHORT_SIDE = 8 / 7
"""Shorter side of the resized source per side of the crop, where that is the backbone's own size; as 256 to 224."""


def picture_size(experiment: Experiment) -> tuple[int, int]:
    """Height and width of the pictures that the backbone takes, pixels. Raises ConfigError as `backbone_facts`."""
    return experiment.preprocess.size or _facts(experiment).size


def map_size(experiment: Experiment) -> tuple[int, int]:
    """Rows and columns of a feature map of such a picture. Raises ConfigError if the backbone does not take it."""
    return _facts(experiment).map_size(*picture_size(experiment))


def fit_of(experiment: Experiment) -> Fit:
    """What the backbone sees of a decoded picture. Raises ConfigError as `backbone_facts`."""
    preprocess, settings = experiment.preprocess, experiment.backbone
    if preprocess.size is None:
        height, width = _facts(experiment).size
        return Fit("crop", height, width, round(max(height, width) * OWN_SHORT_SIDE), PADDING)
    fit = picture_fit(preprocess)
    if settings.family and preprocess.fit == "letterbox":
        red, green, blue = (round(value) for value in _facts(experiment).mean)
        return replace(fit, colour=(red, green, blue))
    return fit


def picture_fit(preprocess: Preprocess) -> Fit:
    """The same of the section alone, for TPN."""
    assert preprocess.size is not None, "the size of a picture of TPN is in its section"
    height, width = preprocess.size
    return Fit(preprocess.fit, height, width, preprocess.short_side, PADDING)


def check_backbone(experiment: Experiment) -> list[str]:
    """Compare pictures, clips and heads with what the backbone takes, before it is loaded.

    Returns:
        What a person should know, a sentence each.

    Raises:
        ConfigError: the backbone does not take these pictures or clips, or a head chooses more positions than a map
            has; or as `backbone_facts`.
    """
    facts, (height, width) = _facts(experiment), picture_size(experiment)
    rows, columns = facts.map_size(height, width)
    if experiment.features.train is None:
        facts.check_clip(experiment.train_sampling.clip_frames, "train_sampling.clip_frames")
    if experiment.features.test is None:
        facts.check_clip(experiment.test_sampling.window_frames, "test_sampling.window_frames")
    for name in experiment.runs:
        head = experiment.run(name).head
        if head.reduction == "spatial" and head.k > rows * columns:
            raise ConfigError(f"runs.{name}: head.k is {head.k}, a feature map has {rows * columns} positions")
    notes = []
    if experiment.backbone.family and (height, width) != facts.size:
        own = f"{facts.size[0]} x {facts.size[1]}"
        notes.append(
            f"{facts.name} was made for pictures of {own} pixels and sees {height} x {width}; what it has learnt of "
            "positions in the picture, if anything, is interpolated"
        )
    if experiment.preprocess.fit == "letterbox" and not facts.non_negative:
        notes.append(
            f"features of {facts.name} can be negative, and the padding of a letterbox has features of 0: it can be in "
            "the cue and among the chosen cells; preprocess.fit: stretch has no padding"
        )
    return notes


def _facts(experiment: Experiment) -> BackboneFacts:
    from pipeline.models.backbones import backbone_facts  # loads torch, which evaluation does without

    return backbone_facts(experiment.backbone)
