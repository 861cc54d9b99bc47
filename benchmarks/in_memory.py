"""Heads trained on some cached videos and tried on others in one process, for many divisions of the same few videos.

The pipeline's own functions reduce, train and score; every array of the cache is read once and then stays in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache import CommitRecord, FeatureReader, FeatureStore
from pipeline.config import Run, digest
from pipeline.config.ablation import Setting
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.errors import PipelineError
from pipeline.models.heads import HeadModule
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.scoring.score import score_video
from pipeline.stages.training.bags import Bags, CachedBags
from pipeline.stages.training.joint import fit_jointly, joint_key
from pipeline.stages.training.reduce import Reduction, Sums, fit_standardizer, reduce_bags, video_sums
from pipeline.stages.training.saved_heads import TrainedHead
from pipeline.stages.training.train import fit_head
from pipeline.stages.training.training_set import training_labels
from pipeline.stages.training.windows import reduce_windows

__all__ = ["HeldStore", "fit_and_score"]


class HeldReader(FeatureReader):
    """Reads every array once and keeps it."""

    def __init__(self, catalog: FeatureStore, record: CommitRecord) -> None:
        super().__init__(catalog, record)
        self._held: dict[str, np.ndarray] = {}

    def read(self, name: str, selection: tuple) -> np.ndarray:
        """As `FeatureReader.read`."""
        if name not in self._held:
            self._held[name] = super().read(name, ())
        return self._held[name][selection]


class HeldStore(FeatureStore):
    """A cache whose videos are read once and kept in memory, with what they add to the channel statistics."""

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(url, storage_options)
        self._readers: dict[tuple[str, str], HeldReader] = {}
        self._sums: dict[tuple[str, str], list[Sums]] = {}

    def reader(self, namespace: str, video_id: str) -> FeatureReader:
        """As `FeatureStore.reader`."""
        key = namespace, video_id
        if key not in self._readers:
            self._readers[key] = HeldReader(self, self.record(namespace, video_id))
        return self._readers[key]

    def sums(self, namespace: str, video_id: str) -> list[Sums]:
        """As `video_sums`."""
        key = namespace, video_id
        if key not in self._sums:
            self._sums[key] = video_sums(self, namespace, video_id)
        return self._sums[key]


class HeldReduction(Reduction):
    """A reduction whose channel statistics are kept."""

    store: HeldStore

    def sums(self, video_ids: Sequence[str]) -> Iterator[list[Sums]]:
        """As `Reduction.sums`."""
        return (self.store.sums(self.namespace, video_id) for video_id in video_ids)


def fit_and_score(
    settings: Sequence[Setting],
    manifest: Manifest,
    train: Sequence[VideoEntry],
    test: Sequence[VideoEntry],
    store: HeldStore,
) -> dict[str, np.ndarray]:
    """Train every setting on some videos and score others.

    Args:
        settings: whose features are in the cache, all with the same training features; without a validation split.
        manifest: gives the labels; the videos to train on are of its training split.
        train: the videos to train on.
        test: the V videos to score, whose windows are in the cache.
        store: the cache.

    Returns:
        By name of a setting (S, V), the highest frame score of each video by the run of each seed.
    """
    recipes = {one.name: Recipes(one.experiment) for one in settings}
    namespace, video_ids = recipes[settings[0].name].namespace("train"), [entry.video_id for entry in train]
    found = {one.name: np.empty((len(one.runs), len(test))) for one in settings}
    for group in _by_reduction(settings):
        runs = {name: one.experiment.run(name) for one in group for name in one.runs}
        any_run = next(iter(runs.values()))
        head, reduction = any_run.head, HeldReduction(store, namespace)
        standardizer = None
        if head.standardize:
            standardizer = fit_standardizer(store, namespace, video_ids, head.standardize_offset, reduction=reduction)
        bags = reduce_bags(store, namespace, video_ids, head, standardizer, reduction=reduction)
        modules = _fit(runs, bags, manifest)
        for windows in dict.fromkeys(recipes[one.name].namespace("test") for one in group):
            here = [one for one in group if recipes[one.name].namespace("test") == windows]
            for column, entry in enumerate(test):
                reduced = list(reduce_windows(store, windows, entry.video_id, head, standardizer))
                for one in here:
                    for row, name in enumerate(one.runs):
                        trained = TrainedHead(modules[name], runs[name].head, standardizer, manifest.classes)
                        scoring = runs[name].scoring
                        scores = score_video(store, windows, entry.video_id, trained, scoring, iter(reduced))
                        found[one.name][row, column] = scores.anomaly.max()
    return found


def _by_reduction(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Settings whose heads see the same of every map."""
    groups: dict[str, list[Setting]] = {}
    for one in settings:
        head = one.experiment.run(one.runs[0]).head
        key = digest(head.kept() or one.name, head.standardize, head.standardize_offset)
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _fit(runs: Mapping[str, Run], bags: Bags | CachedBags, manifest: Manifest) -> dict[str, HeadModule]:
    """The heads of some runs, trained jointly where that is possible."""
    jointly: dict[str, list[str]] = {}
    modules: dict[str, HeadModule] = {}
    classes = len(manifest.classes)
    for name, run in runs.items():
        labels = training_labels(manifest, bags.video_ids, run.training)
        if (key := joint_key(run)) and isinstance(bags, Bags):
            jointly.setdefault(key, []).append(name)
            continue
        with tempfile.TemporaryDirectory() as folder:
            modules[name] = fit_head(bags, labels, run, classes, Path(folder))
    for names in jointly.values():
        members = [runs[name] for name in names]
        assert isinstance(bags, Bags)  # else nothing is trained jointly
        fitted = fit_jointly(bags, training_labels(manifest, bags.video_ids, members[0].training), members, classes)
        for name, outcome in zip(names, fitted, strict=True):
            if isinstance(outcome, PipelineError):
                raise outcome
            modules[name] = outcome[0]
    return modules
