"""Where every output lies: readable names that carry a digest of what determines the output beforehand.

Luigi asks for output paths before anything has run, so a digest is made only of the configuration, the hashes of annotation
and weight files, and one listing (path, bytes, mtime) of the videos. `machine` and `paths` are in none. What is made without
some videos, because they lie in quarantine, is another output than what is made of all: their ids are in its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cache import FeatureStore
from pipeline.config import Experiment, SyntheticDataset, digest
from pipeline.data.datasets import annotation_hashes, listing, training_labels
from pipeline.models.weights import weights_sha256
from pipeline.stages.quarantine import Quarantine

__all__ = ["Progress", "Recipes", "file_sha256"]

# Raised when the code changes what a stage writes for the same configuration.
VERSIONS = {"manifest": 2, "features": 2, "head": 1, "scores": 1, "evaluation": 2, "summary": 2}

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, message) by every stage that takes longer than a moment."""


@dataclass(frozen=True)
class Recipes:
    """Names and folders of one experiment's outputs, each stage's digest built on those it depends on."""

    experiment: Experiment

    @property
    def folder(self) -> Path:
        """Everything of this experiment but the features."""
        return self.experiment.paths.output / self.experiment.experiment

    @cached_property
    def files_digest(self) -> str:
        """Of the videos as files: what extraction depends on."""
        dataset = self.experiment.dataset
        if isinstance(dataset, SyntheticDataset):
            return digest(VERSIONS["manifest"], dataset)
        return digest(VERSIONS["manifest"], dataset.name, str(dataset.root), listing(dataset))

    @cached_property
    def labels_digest(self) -> str:
        """Of the videos and their labels: what training depends on."""
        dataset = self.experiment.dataset
        if isinstance(dataset, SyntheticDataset):
            return self.files_digest
        return digest(self.files_digest, dataset.classes, training_labels(dataset))

    @cached_property
    def manifest_digest(self) -> str:
        """Of everything, the annotated intervals of the test videos too, which only the evaluation depends on."""
        dataset = self.experiment.dataset
        if isinstance(dataset, SyntheticDataset):
            return self.files_digest
        return digest(self.labels_digest, dataset, annotation_hashes(dataset))

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the weight file, or the name and seed of a random initialisation."""
        backbone = self.experiment.backbone
        if backbone.weights == "random":
            return f"random-{backbone.seed}"
        return weights_sha256(backbone.weights, backbone.name)

    @cached_property
    def precision(self) -> str:
        """What the backbone computes in. Only `auto` looks at the device; it then is the precision that the device gets."""
        settings = self.experiment.backbone
        if settings.precision != "auto":
            return settings.precision
        from pipeline.stages.engine import choose_precision, pick_device

        return choose_precision(settings.precision, pick_device(self.experiment.machine.device))

    def namespace(self, split: str) -> str:
        """The cache namespace of a split's features: imported, or data set, backbone, and a digest of how features are made."""
        experiment = self.experiment
        if imported := getattr(experiment.features, split):
            return imported
        sampling = experiment.train_sampling if split == "train" else experiment.test_sampling
        name = experiment.dataset.name
        identity = experiment.dataset if isinstance(experiment.dataset, SyntheticDataset) else name
        tag = digest(
            VERSIONS["features"],
            identity,
            experiment.backbone.name,
            self.precision,
            self.weights_digest,
            experiment.decoding,
            experiment.preprocess,
            experiment.storage,
            sampling,
        )
        kind = "views" if split == "train" else "windows"
        return f"{name}-{experiment.backbone.name}-{kind}-{tag}"

    def features_digest(self, split: str) -> str:
        return digest(self.files_digest, self.namespace(split), *self._imported[split])

    @cached_property
    def _imported(self) -> dict[str, tuple]:
        """What the imported features of a split are: their checksums, for under one name anything can be imported."""
        store = FeatureStore.open(self.experiment.paths.cache)
        named = self.experiment.features.model_dump()
        return {
            split: tuple((record.video_id, record.values_crc32c) for record in store.records(namespace)) if namespace else ()
            for split, namespace in named.items()
        }

    @cached_property
    def quarantine(self) -> Quarantine:
        """The videos, as these files and by this policy, that could not be read."""
        return Quarantine(self.folder / f"quarantine-{digest(self.files_digest, self.experiment.decoding)}")

    def _usable_digest(self, split: str) -> str:
        """Of the features that a later stage sees: those of all videos but the ones in quarantine now."""
        left_out = self.quarantine.ids(split)
        return digest(self.features_digest(split), left_out) if left_out else self.features_digest(split)

    def head_digest(self, run: str) -> str:
        resolved = self.experiment.run(run)
        features = self._usable_digest("train")
        selection = [resolved.selection] if resolved.selection.validation_share else []
        return digest(VERSIONS["head"], self.labels_digest, features, resolved.head, resolved.training, *selection)

    def scores_digest(self, run: str) -> str:
        scoring = self.experiment.run(run).scoring
        return digest(VERSIONS["scores"], self.head_digest(run), self._usable_digest("test"), scoring)

    def evaluation_digest(self, run: str) -> str:
        evaluation = self.experiment.run(run).evaluation
        return digest(VERSIONS["evaluation"], self.scores_digest(run), self.manifest_digest, evaluation)

    def summary_digest(self) -> str:
        return digest(VERSIONS["summary"], {run: self.evaluation_digest(run) for run in self.experiment.runs})

    def manifest_folder(self) -> Path:
        return self.folder / f"manifest-{self.manifest_digest}"

    def features_marker(self, split: str, shard: int, shards: int) -> Path:
        folder = self.folder / f"features-{split}-{self.features_digest(split)}"
        return folder / f"shard-{shard + 1}-of-{shards}.json"

    def head_folder(self, run: str) -> Path:
        return self.folder / f"head-{run}-{self.head_digest(run)}"

    def scores_folder(self, run: str) -> Path:
        return self.folder / f"scores-{run}-{self.scores_digest(run)}"

    def evaluation_folder(self, run: str) -> Path:
        return self.folder / f"evaluation-{run}-{self.evaluation_digest(run)}"

    def summary_folder(self) -> Path:
        return self.folder / f"summary-{self.summary_digest()}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
