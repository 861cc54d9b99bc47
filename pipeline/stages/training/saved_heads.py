"""Trained heads as files: weights and channel statistics as safetensors, settings and classes in the metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from pipeline.config import Experiment, Head, Training
from pipeline.config.heads import parse_head
from pipeline.errors import FeatureMismatch, WeightsError
from pipeline.models.heads import HeadModule, build_head
from pipeline.models.reduction import Standardizer
from pipeline.stages.common.feature_recipe import FeatureRecipe, differences, rounding_differences

__all__ = ["TrainedHead", "check_features", "load_head", "make_head", "save_head"]


@dataclass(frozen=True)
class TrainedHead:
    """A head in evaluation mode with what it needs before and after it.

    Attributes:
        module: takes a cue and pattern vectors.
        settings: of the head.
        standardizer: of the maps; None where they are taken as they are.
        classes: the anomaly classes, one column each.
        features: how the features that it was trained on were made; None for a head saved before that was recorded.
        channels: D of the maps; None for a head without weights.
    """

    module: torch.nn.Module
    settings: Head
    standardizer: Standardizer | None
    classes: tuple[str, ...]
    features: FeatureRecipe | None = None
    channels: int | None = None


def make_head(settings: Head, training: Training, channels: int, classes: int) -> HeadModule:
    """A head initialised from the training seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return build_head(settings.name, channels=channels, classes=classes, **settings.options())


def save_head(
    path: Path,
    module: torch.nn.Module,
    settings: Head,
    standardizer: Standardizer | None,
    classes: tuple[str, ...],
    features: FeatureRecipe | None = None,
) -> None:
    """Write a head as safetensors; its settings, its classes and the recipe of its features are in the metadata."""
    tensors = {f"head.{name}": value.contiguous() for name, value in module.state_dict().items()}
    if standardizer:
        tensors |= {"standardizer.mean": standardizer.mean, "standardizer.std": standardizer.std}
    if not tensors:  # safetensors refuses an empty file
        tensors = {"empty": torch.zeros(1)}
    # One entry: safetensors writes several in no fixed order, and equal heads should be equal files.
    facts = {"settings": settings.model_dump(), "classes": list(classes), "channels": getattr(module, "channels", None)}
    facts["features"] = features.to_json() if features else None
    path.write_bytes(save(tensors, metadata={"head": json.dumps(facts, sort_keys=True)}))


def load_head(path: Path) -> TrainedHead:
    """Read a head written by `save_head`. Raises WeightsError when it is missing or not one."""
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads(stream.metadata()["head"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
        settings, classes = parse_head(facts["settings"]), tuple(facts["classes"])
        features = FeatureRecipe.from_json(facts["features"]) if facts.get("features") else None
    except Exception as error:
        raise WeightsError(f"{path}: not a trained head of this system ({error})") from error
    standardizer = None
    if settings.standardize:
        standardizer = Standardizer(
            tensors.pop("standardizer.mean"), tensors.pop("standardizer.std"), settings.standardize_offset
        )
    state = {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
    module = make_head(settings, Training(), facts["channels"], len(classes))
    module.load_state_dict(state, strict=True)
    return TrainedHead(module.eval(), settings, standardizer, classes, features, facts["channels"])


def check_features(head: TrainedHead, path: Path, at_hand: FeatureRecipe, experiment: Experiment) -> list[str]:
    """Make sure that features are what a head was trained on, but for the differences of training clips and test
    windows.

    Args:
        head: loaded.
        path: of its file.
        at_hand: recipe of the features to score.
        experiment: the configuration at hand.

    Returns:
        What the user should know, one sentence each: of a head that does not say what it was trained on nothing can be
        checked but the number of channels.

    Raises:
        FeatureMismatch: they were made in another way; names every setting that differs.
    """
    channels = at_hand.map_shape[-1]
    if head.features is None:
        if head.channels not in (None, channels):
            raise FeatureMismatch(
                f"{path}: the head was trained on maps of {head.channels} channels, these have {channels}"
            )
        return [
            f"{path}: the head was saved before heads recorded how their features were made, so nothing can say whether it fits "
            f"these features; train it again, or make sure yourself that backbone, weights and preprocessing are the same"
        ]
    if problems := differences(head.features, at_hand, experiment):
        raise FeatureMismatch(
            f"{path}: the head was trained on features that were made in another way:\n  "
            + "\n  ".join(problems)
            + "\nScore with the configuration that it was trained with, or train a head on features like these (`gig train`)."
        )
    return [
        f"{path}: scores can differ a little from those of the features that the head was trained on: {problem}"
        for problem in rounding_differences(head.features, at_hand)
    ]
