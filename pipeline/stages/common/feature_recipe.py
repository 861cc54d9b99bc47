"""How features were made, as far as a head depends on it.

It is stored with a trained head, and compared before the head scores other features. The two splits of an experiment
differ in their sampling on purpose: training clips and test windows. Backbone, weights and picture must be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cache import CommitRecord, FeatureStore
from pipeline.config import Experiment
from pipeline.errors import FeatureMismatch
from pipeline.models.backbones import VideoBackbone
from pipeline.models.source_code import code_sha256
from pipeline.stages.common.picture import map_size

__all__ = ["FeatureRecipe", "differences", "experiment_recipe", "recipe_of", "rounding_differences", "training_recipe"]

SAMPLING = ("clip_frames", "interval_frames", "clips_per_segment")
"""What makes up a training feature. The other settings of the section say which clips there are, and how many."""
LATER = ("temporal", "code_sha256")
"""Attributes that are not recorded where they are None, so that older recipes are the same."""


@dataclass(frozen=True)
class FeatureRecipe:
    """How the features of some videos were made.

    Nothing is known of imported features but dtype and shape; the other attributes are None.

    Attributes:
        backbone: name of the backbone.
        weights_sha256: SHA-256 of its weight file, or `random-<seed>`.
        precision: number format in which the backbone computed.
        preprocess: that section of the configuration.
        sampling: the section `train_sampling` for training features, `test_sampling` for test features.
        dtype: number format of the stored maps.
        map_shape: (H, W, D).
        temporal: how an image model makes one map of a clip's frames, unless it is their mean; else None.
        code_sha256: SHA-256 of the source of a backbone that is a module of the user's own; else None.
    """

    backbone: str | None
    weights_sha256: str | None
    precision: str | None
    preprocess: Mapping[str, int | str] | None
    sampling: Mapping[str, int] | None
    dtype: str
    map_shape: tuple[int, int, int]
    temporal: str | None = None
    code_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data for JSON, without `temporal` and `code_sha256` where they are None."""
        data = asdict(self) | {"map_shape": list(self.map_shape)}
        return {key: value for key, value in data.items() if key not in LATER or value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FeatureRecipe:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError if `data` is something else."""
        rows, columns, channels = data["map_shape"]
        return cls(**{**data, "map_shape": (rows, columns, channels)})


def recipe_of(record: CommitRecord) -> FeatureRecipe:
    """The recipe of a video in the cache, from its commit record."""
    _, _, rows, columns, channels = record.shapes["features"]
    facts = record.provenance
    backbone = facts.get("backbone") or {}
    return FeatureRecipe(
        backbone=backbone.get("name"),
        weights_sha256=backbone.get("weights_sha256"),
        precision=backbone.get("precision"),
        preprocess=facts.get("preprocess") if backbone else None,
        sampling=facts.get("sampling") if backbone else None,
        dtype=record.dtype,
        map_shape=(rows, columns, channels),
        temporal=backbone.get("temporal"),
        code_sha256=backbone.get("code_sha256"),
    )


def training_recipe(store: FeatureStore, namespace: str, video_ids: Sequence[str]) -> FeatureRecipe:
    """The recipe that all training videos share.

    Raises:
        FeatureMismatch: two videos differ, which is possible because anything can be imported under one name.
    """
    first, *others = sorted(video_ids)
    recipe = recipe_of(store.record(namespace, first))
    for video_id in others:
        other = recipe_of(store.record(namespace, video_id))
        if problems := _different(_made(recipe), _made(other), first, video_id):
            raise FeatureMismatch(
                f"{namespace}: the features of the training videos were made in different ways:\n  "
                + "\n  ".join(problems)
            )
    return recipe


def experiment_recipe(experiment: Experiment, network: VideoBackbone, precision: str) -> FeatureRecipe:
    """The recipe of the test features that an experiment extracts.

    Args:
        experiment: settings.
        network: its backbone, loaded.
        precision: number format in which it computes, `auto` resolved.
    """
    return FeatureRecipe(
        backbone=network.name,
        weights_sha256=network.weights_sha256,
        precision=precision,
        preprocess=experiment.preprocess.model_dump(),
        sampling=experiment.test_sampling.model_dump(),
        dtype=experiment.storage.dtype,
        map_shape=(*map_size(experiment), network.channels),
        temporal=experiment.backbone.kept_temporal(),
        code_sha256=code_sha256(experiment.backbone),
    )


def differences(trained: FeatureRecipe, at_hand: FeatureRecipe, experiment: Experiment) -> list[str]:
    """Differences because of which a head would score features wrongly, one line per setting; empty if it fits.

    Args:
        trained: recipe of the features that the head was trained on.
        at_hand: recipe of the test features to score.
        experiment: the configuration; it must sample training clips as those of the head were sampled.
    """
    if (trained.backbone is None) != (at_hand.backbone is None):
        ours, theirs = (recipe.backbone or "imported features" for recipe in (trained, at_hand))
        return [f"backbone.name: the head was trained on {ours}, these features are of {theirs}"]
    before, now = _decisive(trained), _decisive(at_hand)
    if trained.sampling and experiment.features.train is None:
        configured = experiment.train_sampling.model_dump()
        before |= {f"train_sampling.{key}": trained.sampling.get(key) for key in SAMPLING}
        now |= {f"train_sampling.{key}": configured[key] for key in SAMPLING}
    return _different(before, now, "the head", "here")


def rounding_differences(trained: FeatureRecipe, at_hand: FeatureRecipe) -> list[str]:
    """Differences that are allowed but should be known: rounding and lengths of clips, one line per setting."""
    before: dict[str, object] = {"storage.dtype": trained.dtype}
    now: dict[str, object] = {"storage.dtype": at_hand.dtype}
    if trained.backbone and at_hand.backbone:
        before["backbone.precision"], now["backbone.precision"] = trained.precision, at_hand.precision
    if trained.sampling and at_hand.sampling:
        before["frames of a clip"] = trained.sampling.get("clip_frames")
        now["frames of a clip"] = at_hand.sampling.get("window_frames")
    return _different(before, now, "the head", "here")


def _made(recipe: FeatureRecipe) -> dict[str, object]:
    return _decisive(recipe) | {f"train_sampling.{key}": value for key, value in (recipe.sampling or {}).items()}


def _decisive(recipe: FeatureRecipe) -> dict[str, object]:
    facts: dict[str, object] = {"backbone.name": recipe.backbone, "backbone.weights (SHA-256)": recipe.weights_sha256}
    facts["backbone.temporal"] = recipe.temporal or "mean"
    facts["code of the backbone (SHA-256)"] = recipe.code_sha256
    if recipe.preprocess:  # what came later is not recorded where it has its default
        facts |= {f"preprocess.{key}": value for key, value in {"fit": "crop", **recipe.preprocess}.items()}
    return facts | {"shape of a map": recipe.map_shape}


def _different(one: Mapping[str, object], other: Mapping[str, object], left: str, right: str) -> list[str]:
    names = dict.fromkeys([*one, *other])
    return [
        f"{name}: {left} {_shown(one.get(name))}, {right} {_shown(other.get(name))}"
        for name in names
        if one.get(name) != other.get(name)
    ]


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return "not recorded" if value is None else str(value)
