"""What determines every output of an experiment, as digests.

Luigi asks for output paths before anything has run, so a digest is made only of the configuration, the hashes of
annotation and weight files, and one listing (path, bytes, mtime) of the videos; `machine` and `paths` are in none. An
output that is made without some videos, because they are in quarantine, has their ids in its digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from cache import FeatureStore
from pipeline.config import Experiment, GeneratedDataset, digest
from pipeline.config.backbone_names import name_in_paths
from pipeline.config.features import Backbone
from pipeline.config.head_base import MAPS
from pipeline.data.datasets import annotation_hashes, listing, training_labels
from pipeline.models.source_code import code_sha256
from pipeline.models.weights import weights_sha256
from pipeline.stages.common.quarantine import Quarantine

__all__ = ["VERSIONS", "Digests", "places_known", "weights_identity"]

# Raise a number when the code changes what that stage writes for the same configuration.
VERSIONS = {
    "manifest": 4,
    "features": 3,
    "reduced": 2,
    "head": 3,
    "finetune": 2,
    "scores": 3,
    "operating_point": 1,
    "events": 1,
    "evaluation": 7,
    "summary": 5,
    "report": 4,
    "proxies": 2,
    "ablation": 5,
}


@dataclass(frozen=True)
class Digests:
    """The digests of one experiment's outputs. Each stage's digest contains those of the stages it depends on.

    What depends on a split or a run is a method, everything else a property. A video that goes to quarantine changes
    the digests of all later stages.

    Attributes:
        experiment: settings.
        stage: the backbone whose outputs these are: frozen or finetuned.
    """

    experiment: Experiment
    stage: ClassVar[str] = "frozen"

    @property
    def folder(self) -> Path:
        """Where all outputs of this experiment lie but the features; in a mirror, if they are stored at a URL."""
        return self.experiment.paths.folder / self.experiment.experiment

    @cached_property
    def files_digest(self) -> str:
        """Of the video files, on which extraction depends."""
        dataset = self.experiment.dataset
        if isinstance(dataset, GeneratedDataset):
            return digest(VERSIONS["manifest"], dataset)
        return digest(VERSIONS["manifest"], dataset.name, str(dataset.root), listing(dataset))

    @cached_property
    def labels_digest(self) -> str:
        """Of the videos and their labels, on which training depends."""
        dataset = self.experiment.dataset
        if isinstance(dataset, GeneratedDataset):
            return self.files_digest
        return digest(self.files_digest, dataset.classes, training_labels(dataset))

    @cached_property
    def manifest_digest(self) -> str:
        """Of the whole data set. Only the evaluation depends on it: it includes the annotated intervals."""
        dataset = self.experiment.dataset
        if isinstance(dataset, GeneratedDataset):
            return self.files_digest
        return digest(self.labels_digest, dataset, annotation_hashes(dataset))

    @cached_property
    def weights_digest(self) -> str:
        """What identifies the weights in a namespace."""
        return weights_identity(self.experiment.backbone)

    @cached_property
    def precision(self) -> str:
        """Number format in which the backbone computes; only `auto` asks which device there is."""
        settings = self.experiment.backbone
        if settings.precision != "auto":
            return settings.precision
        from pipeline.stages.common.device import choose_precision, pick_device

        return choose_precision(settings.precision, pick_device(self.experiment.machine.device))

    def namespace(self, split: str) -> str:
        """The cache namespace of a split's features.

        It is the imported one, or consists of data set, backbone, and a digest of how the features are made. The split
        `validation` means training videos as windows, sampled like test videos.
        """
        experiment = self.experiment
        if split != "validation" and (imported := getattr(experiment.features, split)):
            return imported
        sampling = experiment.train_sampling if split == "train" else experiment.test_sampling
        name = experiment.dataset.name
        identity = experiment.dataset if isinstance(experiment.dataset, GeneratedDataset) else name
        tag = digest(
            VERSIONS["features"],
            identity,
            experiment.backbone.name,
            self.precision,
            self.weights_digest,
            experiment.decoding.deciding(),
            experiment.preprocess,
            experiment.storage,
            sampling,
            *filter(None, [experiment.backbone.kept_temporal(), code_sha256(experiment.backbone)]),
        )
        kind = {"train": "views", "test": "windows", "validation": "validation-windows"}[split]
        return f"{name}-{name_in_paths(experiment.backbone.name)}-{self._called(kind)}-{tag}"

    def _called(self, name: str) -> str:
        """A name as it stands in folders and namespaces; differs for the fine-tuned backbone."""
        return name

    def features_digest(self, split: str) -> str:
        """Of the features of a split, as extracted from these files or imported."""
        return digest(self.files_digest, self.namespace(split), *self._imported[split])

    @cached_property
    def _imported(self) -> dict[str, tuple[tuple[str, Mapping[str, tuple[str, ...]]], ...]]:
        """Ids and checksums of the imported features of each split, because anything can be imported under one name."""
        store = FeatureStore.open(self.experiment.paths.cache)
        named = self.experiment.features.model_dump()
        return {
            split: tuple((record.video_id, record.values_crc32c) for record in store.records(namespace))
            if namespace
            else ()
            for split, namespace in named.items()
        }

    @cached_property
    def quarantine(self) -> Quarantine:
        """The videos that could not be read, for these files and this `decoding` policy."""
        return Quarantine(self.folder / f"quarantine-{digest(self.files_digest, self.experiment.decoding)}")

    def _usable_digest(self, split: str) -> str:
        """Of the features that later stages use: those of all videos that are not in quarantine now."""
        left_out = self.quarantine.ids(split)
        return digest(self.features_digest(split), left_out) if left_out else self.features_digest(split)

    def head_digest(self, run: str) -> str:
        """Of a run's trained head."""
        resolved = self.experiment.run(run)
        features = self._usable_digest("train")
        asked = resolved.selection
        selection = [asked] if asked.validation_share or asked.train_videos else []
        return digest(VERSIONS["head"], self.labels_digest, features, resolved.head, resolved.training, *selection)

    def reduced_digest(self, run: str, split: str) -> str:
        """Of the reduced features of a split, which all runs with the same reduction share."""
        resolved = self.experiment.run(run)
        parts: list[object] = [resolved.head.model_dump(include=set(MAPS)) | (resolved.head.kept() or {})]
        if resolved.selection.train_videos:
            parts += [resolved.selection, resolved.training.seed, self.labels_digest]
        elif resolved.head.standardize and resolved.selection.validation_share:
            parts += [resolved.selection, self.labels_digest]  # the statistics leave the validation videos out
        features = [self._usable_digest("train")] + ([self._usable_digest("test")] if split == "test" else [])
        return digest(VERSIONS["reduced"], *features, *parts)

    def scores_digest(self, run: str) -> str:
        """Of a run's score tables."""
        scoring = self.experiment.run(run).scoring
        kept = ["relations"] if places_known(self.experiment) else []
        kept += ["quarantined"] if self.quarantine.ids("test") else []  # which index.json names
        return digest(VERSIONS["scores"], self.head_digest(run), self._usable_digest("test"), scoring.deciding(), *kept)

    def evaluation_digest(self, run: str) -> str:
        """Of a run's metrics."""
        evaluation, point = self.experiment.run(run).evaluation, self.operating_point_digest(run)
        return digest(VERSIONS["evaluation"], self.scores_digest(run), self.manifest_digest, evaluation, point)

    def operating_point_digest(self, run: str) -> str:
        """Of a run's thresholds for events."""
        scoring = self.experiment.run(run).scoring.deciding()
        features = self.experiment.features
        namespace = None if features.train or features.test else self.namespace("validation")  # then nothing is chosen
        events = self.experiment.events
        return digest(VERSIONS["operating_point"], self.head_digest(run), namespace, scoring, events)

    def events_digest(self, run: str) -> str:
        """Of a run's events."""
        return digest(
            VERSIONS["events"], self.scores_digest(run), self.operating_point_digest(run), self.experiment.events
        )

    @property
    def finetune_digest(self) -> str:
        """Of the fine-tuning."""
        settings = self.experiment.finetune
        return digest(
            VERSIONS["finetune"], self.head_digest(settings.run), settings.model_dump(mode="json", exclude={"enabled"})
        )


def places_known(experiment: Experiment) -> bool:
    """Whether the data set says where in the picture its anomalies are, and where it is tells of extracted features.

    Then the score tables have the relation map of every window, for the metrics of localisation.
    """
    return isinstance(experiment.dataset, GeneratedDataset) and not experiment.features.test


def weights_identity(backbone: Backbone) -> str:
    """SHA-256 of the weight file, or `random-<seed>`. Raises WeightsError if there is no file."""
    if backbone.weights == "random":
        return f"random-{backbone.seed}"
    return weights_sha256(backbone.weights, backbone.name)
