"""What a head is trained on: reduced bags of the training videos with their labels, the validation split apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cache import FeatureStore
from pipeline.config import Head, Run, Training
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.data.partition import carve_validation
from pipeline.errors import ConfigError
from pipeline.models.reduction import Standardizer
from pipeline.progress import Progress
from pipeline.stages.common.feature_recipe import FeatureRecipe
from pipeline.stages.training.bags import Bags, CachedBags, fit_standardizer
from pipeline.stages.training.validation import Validation

__all__ = ["Material", "check_shape", "gather", "held_out_videos", "training_labels", "training_standardizer"]


@dataclass(frozen=True)
class Material:
    """What a run trains on.

    Attributes:
        bags: reduced videos to fit, and `labels` (N, 1 + C) in their order.
        held_out: the bags of the validation split and their labels; None without one.
        standardizer: of the maps; None where they are taken as they are.
        features: how the maps were made.
    """

    bags: Bags | CachedBags
    labels: torch.Tensor
    held_out: tuple[Bags | CachedBags, torch.Tensor] | None
    standardizer: Standardizer | None
    features: FeatureRecipe

    def validation(self, head: Head) -> Validation | None:
        """A new judge of a head's epochs."""
        return Validation(*self.held_out, head.least_segments) if self.held_out else None


def held_out_videos(run: Run, entries: Sequence[VideoEntry]) -> frozenset[str]:
    """Ids of the validation split; empty without one."""
    share = run.selection.validation_share
    return frozenset(carve_validation(list(entries), share, run.selection.seed)) if share else frozenset()


def training_standardizer(
    run: Run,
    store: FeatureStore,
    namespace: str,
    entries: Sequence[VideoEntry],
    held_out: frozenset[str],
    progress: Progress | None = None,
) -> Standardizer | None:
    """The statistics of the videos to fit, where the run standardizes."""
    if not run.head.standardize:
        return None
    fitting = [entry.video_id for entry in entries if entry.video_id not in held_out]
    return fit_standardizer(store, namespace, fitting, run.head.standardize_offset, progress)


def gather(
    run: Run, manifest: Manifest, bags: Bags | CachedBags, standardizer: Standardizer | None, features: FeatureRecipe
) -> Material:
    """Reduced bags of all training videos with their labels, the validation split apart."""
    labels, held_out = (
        training_labels(manifest, bags.video_ids, run.training),
        held_out_videos(run, manifest.split("train")),
    )
    if not held_out:
        return Material(bags, labels, None, standardizer, features)
    kept = torch.tensor([video_id not in held_out for video_id in bags.video_ids])
    return Material(bags.subset(kept), labels[kept], (bags.subset(~kept), labels[~kept]), standardizer, features)


def training_labels(manifest: Manifest, video_ids: Sequence[str], training: Training) -> torch.Tensor:
    """Multi-hot labels (N, 1 + C) float32 of the videos; shuffled over them, where a control asks for that."""
    entries = {entry.video_id: entry for entry in manifest.split("train")}
    labels = np.stack([manifest.video_labels(entries[video_id]) for video_id in video_ids])
    if training.permute_labels_seed is not None:
        labels = np.random.default_rng(training.permute_labels_seed).permutation(labels)
    return torch.from_numpy(labels)


def check_shape(run_name: str, head: Head, namespace: str, positions: int, segments: int) -> None:
    """Raise ConfigError where a head does not fit imported maps; of others the configuration was checked."""
    p = head.least_segments
    if (head.reduction == "spatial" and head.k > positions) or p > segments:
        raise ConfigError(
            f"run {run_name}: head.k: expected at most {positions}, the positions of a map in {namespace}, got {head.k}; "
            f"head.p: at most {segments}, the segments of a bag, got {p}"
        )
