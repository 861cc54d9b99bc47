"""Trained heads as files: weights and channel statistics as safetensors, settings and classes in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from pipeline.config import Experiment, Training
from pipeline.config.heads import AnyHead, parse_head
from pipeline.errors import FeatureMismatch, WeightsError
from pipeline.models.heads import HeadModule, build_head
from pipeline.models.reduction import Standardizer
from pipeline.stages.common.feature_recipe import FeatureRecipe, differences, rounding_differences

__all__ = ["TrainedHead", "build_trained", "check_features", "load_head", "make_head", "read_head", "save_head"]


@dataclass(frozen=True)
class TrainedHead:
    """A head in evaluation mode, with all that scoring needs besides.

    Attributes:
        module: takes a cue and pattern vectors.
        settings: of the head.
        standardizer: of the maps; None where they are not standardised.
        classes: the anomaly classes, one column each.
        features: how the features that it was trained on were made; None for a head saved before that was recorded.
        channels: D of the maps; None for a head without weights.
    """

    module: HeadModule
    settings: AnyHead
    standardizer: Standardizer | None
    classes: tuple[str, ...]
    features: FeatureRecipe | None = None
    channels: int | None = None


def make_head(settings: AnyHead, training: Training, channels: int, classes: int) -> HeadModule:
    """A new head, initialised from the training seed.

    Args:
        settings: of the head.
        training: gives the seed.
        channels: D.
        classes: C.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return build_head(settings.name, channels=channels, classes=classes, **settings.options())


def save_head(
    path: Path,
    module: HeadModule,
    settings: AnyHead,
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
    facts = {"settings": settings.model_dump(), "classes": list(classes), "channels": module.channels}
    facts["features"] = features.to_json() if features else None
    path.write_bytes(save(tensors, metadata={"head": json.dumps(facts, sort_keys=True)}))


def load_head(path: Path) -> TrainedHead:
    """Read a head written by `save_head`. Raises WeightsError when it is missing or not one."""
    facts, tensors = read_head(path)
    return build_trained(facts, tensors, path)


def read_head(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What the file of a head holds: its facts and its tensors, as `build_trained` takes them. Raises WeightsError."""
    try:
        with safe_open(path, framework="pt") as stream:
            facts: dict[str, Any] = json.loads(stream.metadata()["head"])
            return facts, {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:
        raise WeightsError(f"{path}: not a trained head of this system ({error})") from error


def build_trained(facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], path: Path) -> TrainedHead:
    """The head of the facts and tensors of a file, which `path` names in errors. Raises WeightsError."""
    try:
        settings, classes = parse_head(facts["settings"]), tuple(facts["classes"])
        features = FeatureRecipe.from_json(facts["features"]) if facts.get("features") else None
    except Exception as error:
        raise WeightsError(f"{path}: not a trained head of this system ({error})") from error
    standardizer = None
    if settings.standardize:
        mean, std = tensors["standardizer.mean"], tensors["standardizer.std"]
        standardizer = Standardizer(mean, std, settings.standardize_offset)
    state = {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
    module = make_head(settings, Training(), facts["channels"], len(classes))
    module.load_state_dict(state, strict=True)
    return TrainedHead(module.eval(), settings, standardizer, classes, features, facts["channels"])


def check_features(head: TrainedHead, path: Path, at_hand: FeatureRecipe, experiment: Experiment) -> list[str]:
    """Check that features were made like those that a head was trained on.

    Training clips and test windows differ in sampling, which is allowed.

    Args:
        head: the head.
        path: of its file, for messages.
        at_hand: recipe of the features to score.
        experiment: the present configuration.

    Returns:
        What the user should know, one sentence each. For a head that does not say what it was trained on, only the
        number of channels can be checked.

    Raises:
        FeatureMismatch: the features were made in another way; names every setting that differs.
    """
    channels = at_hand.map_shape[-1]
    if head.features is None:
        if head.channels not in (None, channels):
            raise FeatureMismatch(
                f"{path}: the head was trained on maps of {head.channels} channels, these have {channels}"
            )
        return [
            f"{path}: the head was saved before heads recorded how their features were made, so nothing can say "
            "whether it fits these features; train it again, or make sure yourself that backbone, weights and "
            "preprocessing are the same"
        ]
    if problems := differences(head.features, at_hand, experiment):
        raise FeatureMismatch(
            f"{path}: the head was trained on features that were made in another way:\n  "
            + "\n  ".join(problems)
            + "\nScore with the configuration that it was trained with, or train a head on features like these "
            "(`gig train`)."
        )
    return [
        f"{path}: scores can differ a little from those of the features that the head was trained on: {problem}"
        for problem in rounding_differences(head.features, at_hand)
    ]
