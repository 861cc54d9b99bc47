"""Where every output lies: readable names that carry a digest of what determines the output beforehand.

Luigi asks for output paths before anything has run, so a digest is made only of the configuration, the hashes of
annotation and weight files, and one listing (path, bytes, mtime) of the videos. `machine` and `paths` are in none. What
is made without some videos, because they lie in quarantine, is another output than what is made of all: their ids are
in its digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cache import FeatureStore
from pipeline.config import Experiment, GeneratedDataset, digest
from pipeline.config.features import Backbone
from pipeline.config.heads import MAPS
from pipeline.data.datasets import annotation_hashes, listing, training_labels
from pipeline.errors import ConfigError
from pipeline.models.weights import weights_sha256
from pipeline.stages.common.quarantine import Quarantine

__all__ = ["FinetunedRecipes", "Recipes", "weights_identity"]

# Raised when the code changes what a stage writes for the same configuration.
VERSIONS = {
    "manifest": 4,
    "features": 3,
    "reduced": 1,
    "head": 3,
    "finetune": 2,
    "scores": 3,
    "operating_point": 1,
    "events": 1,
    "evaluation": 4,
    "summary": 3,
    "report": 1,
    "ablation": 2,
}

TUNED_BACKBONE = "backbone.safetensors"


@dataclass(frozen=True)
class Recipes:
    """Names and folders of one experiment's outputs, each stage's digest built on those it depends on."""

    experiment: Experiment
    stage = "frozen"

    @property
    def folder(self) -> Path:
        """Everything of this experiment but the features."""
        return self.experiment.paths.output / self.experiment.experiment

    @cached_property
    def files_digest(self) -> str:
        """Of the videos as files: what extraction depends on."""
        dataset = self.experiment.dataset
        if isinstance(dataset, GeneratedDataset):
            return digest(VERSIONS["manifest"], dataset)
        return digest(VERSIONS["manifest"], dataset.name, str(dataset.root), listing(dataset))

    @cached_property
    def labels_digest(self) -> str:
        """Of the videos and their labels: what training depends on."""
        dataset = self.experiment.dataset
        if isinstance(dataset, GeneratedDataset):
            return self.files_digest
        return digest(self.files_digest, dataset.classes, training_labels(dataset))

    @cached_property
    def manifest_digest(self) -> str:
        """Of everything, the annotated intervals of the test videos too, which only the evaluation depends on."""
        dataset = self.experiment.dataset
        if isinstance(dataset, GeneratedDataset):
            return self.files_digest
        return digest(self.labels_digest, dataset, annotation_hashes(dataset))

    @cached_property
    def weights_digest(self) -> str:
        """What stands for the weights in a namespace."""
        return weights_identity(self.experiment.backbone)

    @cached_property
    def precision(self) -> str:
        """What the backbone computes in. Only `auto` looks at the device; it then is the precision that the device
        gets."""
        settings = self.experiment.backbone
        if settings.precision != "auto":
            return settings.precision
        from pipeline.stages.common.device import choose_precision, pick_device

        return choose_precision(settings.precision, pick_device(self.experiment.machine.device))

    def namespace(self, split: str) -> str:
        """The cache namespace of a split's features: imported, or data set, backbone, and a digest of how features are
        made. `validation` are training videos as windows, as the test videos are."""
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
        )
        kind = {"train": "views", "test": "windows", "validation": "validation-windows"}[split]
        return f"{name}-{experiment.backbone.name}-{self._called(kind)}-{tag}"

    def _called(self, name: str) -> str:
        """A name as this stage's folders and namespaces have it."""
        return name

    def features_digest(self, split: str) -> str:
        return digest(self.files_digest, self.namespace(split), *self._imported[split])

    @cached_property
    def _imported(self) -> dict[str, tuple]:
        """What the imported features of a split are: their checksums, for under one name anything can be imported."""
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

    def reduced_digest(self, run: str, split: str) -> str:
        """Of the reduced features of a split: those that all runs of one reduction share."""
        resolved = self.experiment.run(run)
        parts: list[object] = [resolved.head.model_dump(include=set(MAPS)) | (resolved.head.kept() or {})]
        if resolved.head.standardize and resolved.selection.validation_share:
            parts += [resolved.selection, self.labels_digest]  # the statistics leave the validation videos out
        features = [self._usable_digest("train")] + ([self._usable_digest("test")] if split == "test" else [])
        return digest(VERSIONS["reduced"], *features, *parts)

    def reduced_folder(self, run: str, split: str) -> Path:
        return self.folder / f"reduced-{split}-{self.reduced_digest(run, split)}"

    def scores_digest(self, run: str) -> str:
        scoring = self.experiment.run(run).scoring
        return digest(VERSIONS["scores"], self.head_digest(run), self._usable_digest("test"), scoring)

    def evaluation_digest(self, run: str) -> str:
        evaluation = self.experiment.run(run).evaluation
        return digest(VERSIONS["evaluation"], self.scores_digest(run), self.manifest_digest, evaluation)

    def operating_point_digest(self, run: str) -> str:
        scoring, namespace = self.experiment.run(run).scoring, self.namespace("validation")
        parts = self.head_digest(run), namespace, scoring, self.experiment.events
        return digest(VERSIONS["operating_point"], *parts)

    def events_digest(self, run: str) -> str:
        parts = self.scores_digest(run), self.operating_point_digest(run), self.experiment.events
        return digest(VERSIONS["events"], *parts)

    @property
    def lines(self) -> list[tuple[str, Recipes]]:
        """The lines of the summary: a run, and the recipes by which its results are made."""
        lines = [(run, self) for run in self.experiment.runs]
        return [*lines, (self.experiment.finetune.run, self.finetuned)] if self.experiment.finetune.enabled else lines

    @cached_property
    def finetuned(self) -> FinetunedRecipes:
        """How the results of the fine-tuned backbone and head are made. Raises ConfigError when fine-tuning is off."""
        if not self.experiment.finetune.enabled:
            raise ConfigError(
                f"experiment {self.experiment.experiment}: finetune.enabled is false, so there is no fine-tuned model"
            )
        backbone = self.experiment.backbone.model_copy(update={"weights": str(self.finetune_folder() / TUNED_BACKBONE)})
        return FinetunedRecipes(self.experiment.model_copy(update={"backbone": backbone}), self)

    def finetune_digest(self) -> str:
        settings = self.experiment.finetune
        return digest(
            VERSIONS["finetune"], self.head_digest(settings.run), settings.model_dump(mode="json", exclude={"enabled"})
        )

    def finetune_folder(self) -> Path:
        return self.folder / f"finetune-{self.experiment.finetune.run}-{self.finetune_digest()}"

    def summary_digest(self) -> str:
        return digest(VERSIONS["summary"], [(run, recipes.evaluation_digest(run)) for run, recipes in self.lines])

    def manifest_folder(self) -> Path:
        return self.folder / f"manifest-{self.manifest_digest}"

    def features_marker(self, split: str, shard: int, shards: int) -> Path:
        folder = self.folder / f"features-{self._called(split)}-{self.features_digest(split)}"
        return folder / f"shard-{shard + 1}-of-{shards}.json"

    def head_folder(self, run: str) -> Path:
        return self.folder / f"head-{run}-{self.head_digest(run)}"

    def scores_folder(self, run: str) -> Path:
        return self.folder / f"scores-{self._called(run)}-{self.scores_digest(run)}"

    def operating_point_folder(self, run: str) -> Path:
        return self.folder / f"operating-point-{self._called(run)}-{self.operating_point_digest(run)}"

    def events_folder(self, run: str) -> Path:
        return self.folder / f"events-{self._called(run)}-{self.events_digest(run)}"

    def evaluation_folder(self, run: str) -> Path:
        return self.folder / f"evaluation-{self._called(run)}-{self.evaluation_digest(run)}"

    def summary_folder(self) -> Path:
        return self.folder / f"summary-{self.summary_digest()}"

    def report_folder(self) -> Path:
        return self.folder / f"report-{digest(VERSIONS['report'], self.summary_digest(), self.experiment.events)}"

    def proxies_folder(self) -> Path:
        """Copies of videos that browsers play; they belong to one state of the video files."""
        return self.folder / f"proxies-{self.files_digest}"


@dataclass(frozen=True)
class FinetunedRecipes(Recipes):
    """The recipes of an experiment whose backbone and head come from its fine-tuning.

    Attributes:
        experiment: as it was, but for `backbone.weights`: the file that the fine-tuning writes.
        frozen: the recipes of the frozen stage.
    """

    frozen: Recipes
    stage = "finetuned"

    @property
    def weights_digest(self) -> str:
        """Of the recipe, for the file is not there beforehand; its SHA-256 goes into the commit records."""
        return f"finetune-{self.frozen.finetune_digest()}"

    @property
    def files_digest(self) -> str:
        return self.frozen.files_digest

    @property
    def labels_digest(self) -> str:
        return self.frozen.labels_digest

    @property
    def manifest_digest(self) -> str:
        return self.frozen.manifest_digest

    def head_digest(self, run: str) -> str:
        self._check(run)
        return self.frozen.finetune_digest()

    def head_folder(self, run: str) -> Path:
        self._check(run)
        return self.frozen.finetune_folder()

    def _called(self, name: str) -> str:
        return f"{name}-finetuned"

    def _check(self, run: str) -> None:
        if run != self.experiment.finetune.run:
            raise ConfigError(
                f"run {run} is not fine-tuned in experiment {self.experiment.experiment}, {self.experiment.finetune.run} is"
            )


def weights_identity(backbone: Backbone) -> str:
    """SHA-256 of the weight file, or the name and seed of a random initialisation. Raises WeightsError where there is
    no file."""
    if backbone.weights == "random":
        return f"random-{backbone.seed}"
    return weights_sha256(backbone.weights, backbone.name)
