"""What a head is trained on: bags of the training videos with their labels, without those of the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cache import FeatureStore
from pipeline.config import Head, Run, Training
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.errors import ConfigError
from pipeline.models.reduction import Standardizer
from pipeline.progress import Progress
from pipeline.stages.common.feature_recipe import FeatureRecipe
from pipeline.stages.common.manifest import division_of
from pipeline.stages.training.bags import Bags, CachedBags
from pipeline.stages.training.reduce import Reduction, fit_standardizer
from pipeline.stages.training.validation import Validation

__all__ = [
    "LabelledBags",
    "Material",
    "check_shape",
    "gather",
    "held_out_videos",
    "training_labels",
    "training_standardizer",
    "used_videos",
]


@dataclass(frozen=True)
class LabelledBags:
    """Bags of N videos and their labels.

    Attributes:
        bags: the bags.
        labels: (N, 1 + C) float32 multi-hot, column 0 Normal, in the order of the bags.
    """

    bags: Bags | CachedBags
    labels: torch.Tensor


@dataclass(frozen=True)
class Material:
    """What a run trains on.

    Attributes:
        bags: of the N videos to fit.
        labels: (N, 1 + C) float32 multi-hot, column 0 Normal, in the order of the bags.
        held_out: the validation split; None without one.
        standardizer: of the maps; None where they are not standardised.
        features: how the maps were made.
    """

    bags: Bags | CachedBags
    labels: torch.Tensor
    held_out: LabelledBags | None
    standardizer: Standardizer | None
    features: FeatureRecipe

    def validation(self, head: Head) -> Validation | None:
        """A new judge of a head's epochs; None without a validation split."""
        if not self.held_out:
            return None
        return Validation(self.held_out.bags, self.held_out.labels, head.least_segments)


def used_videos(run: Run, entries: Sequence[VideoEntry]) -> tuple[VideoEntry, ...]:
    """The training videos that a run uses, among all: for fitting, and for its validation split."""
    return division_of(run).used(entries)


def held_out_videos(run: Run, entries: Sequence[VideoEntry]) -> frozenset[str]:
    """Ids of the validation split of all training videos; empty without one."""
    return frozenset(division_of(run).held_out(entries))


def training_standardizer(
    run: Run,
    store: FeatureStore,
    namespace: str,
    entries: Sequence[VideoEntry],
    held_out: frozenset[str],
    progress: Progress | None = None,
    reduction: Reduction | None = None,
) -> Standardizer | None:
    """Channel statistics of the videos to fit; None where the run does not standardise.

    Args:
        run: settings.
        store: the cache.
        namespace: of the training maps.
        entries: the training videos that are used.
        held_out: ids of the validation split, which is left out.
        progress: called once per video.
        reduction: where single videos are read; by default in this process.
    """
    if not run.head.standardize:
        return None
    fitting = [entry.video_id for entry in entries if entry.video_id not in held_out]
    return fit_standardizer(store, namespace, fitting, run.head.standardize_offset, progress, reduction)


def gather(
    run: Run, manifest: Manifest, bags: Bags | CachedBags, standardizer: Standardizer | None, features: FeatureRecipe
) -> Material:
    """Give the training bags their labels, and separate the validation split.

    Args:
        run: settings.
        manifest: the videos and their labels.
        bags: of the training videos that are used.
        standardizer: of the maps, or None.
        features: how the maps were made.
    """
    labels = training_labels(manifest, bags.video_ids, run.training)
    held_out = held_out_videos(run, manifest.split("train"))
    if not held_out:
        return Material(bags, labels, None, standardizer, features)
    kept = torch.tensor([video_id not in held_out for video_id in bags.video_ids])
    validation = LabelledBags(bags.subset(~kept), labels[~kept])
    return Material(bags.subset(kept), labels[kept], validation, standardizer, features)


def training_labels(manifest: Manifest, video_ids: Sequence[str], training: Training) -> torch.Tensor:
    """Multi-hot labels (N, 1 + C) float32 of the videos; shuffled over them where `permute_labels_seed` is set."""
    entries = {entry.video_id: entry for entry in manifest.split("train")}
    labels = np.stack([manifest.video_labels(entries[video_id]) for video_id in video_ids])
    if training.permute_labels_seed is not None:
        labels = np.random.default_rng(training.permute_labels_seed).permutation(labels)
    return torch.from_numpy(labels)


def check_shape(run_name: str, head: Head, namespace: str, positions: int, segments: int) -> None:
    """Raise ConfigError where a head does not fit the shape of the maps.

    For maps extracted here the configuration has been checked already; for imported ones their shape is known only now.

    Args:
        run_name: for the message.
        head: settings.
        namespace: of the maps, for the message.
        positions: rows x columns of a map.
        segments: T.
    """
    p = head.least_segments
    if (head.reduction == "spatial" and head.k > positions) or p > segments:
        raise ConfigError(
            f"run {run_name}: head.k: expected at most {positions}, the positions of a map in {namespace}, "
            f"got {head.k}; head.p: at most {segments}, the segments of a bag, got {p}"
        )
