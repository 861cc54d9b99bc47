"""Where every output lies: readable names that end with the digest of what determines the output."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pipeline.config import digest
from pipeline.errors import ConfigError
from pipeline.stages.common.digests import VERSIONS, Digests

__all__ = ["FinetunedRecipes", "Recipes"]

TUNED_BACKBONE = "backbone.safetensors"


@dataclass(frozen=True)
class Recipes(Digests):
    """Names and folders of one experiment's outputs.

    What depends on a split or a run is a method, everything else a property. A video that goes to quarantine changes
    the folders of all later stages.
    """

    def reduced_folder(self, run: str, split: str) -> Path:
        return self.folder / f"reduced-{split}-{self.reduced_digest(run, split)}"

    @property
    def lines(self) -> list[tuple[str, Recipes]]:
        """The lines of the summary: each a run and the recipes of its results."""
        lines = [(run, self) for run in self.experiment.runs]
        return [*lines, (self.experiment.finetune.run, self.finetuned)] if self.experiment.finetune.enabled else lines

    @cached_property
    def finetuned(self) -> FinetunedRecipes:
        """The recipes of the fine-tuned backbone and head. Raises ConfigError when fine-tuning is off."""
        if not self.experiment.finetune.enabled:
            raise ConfigError(
                f"experiment {self.experiment.experiment}: finetune.enabled is false, so there is no fine-tuned model"
            )
        backbone = self.experiment.backbone.model_copy(update={"weights": str(self.finetune_folder / TUNED_BACKBONE)})
        return FinetunedRecipes(self.experiment.model_copy(update={"backbone": backbone}), self)

    @property
    def finetune_folder(self) -> Path:
        return self.folder / f"finetune-{self.experiment.finetune.run}-{self.finetune_digest}"

    @property
    def summary_digest(self) -> str:
        return digest(VERSIONS["summary"], [(run, recipes.evaluation_digest(run)) for run, recipes in self.lines])

    @property
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

    @property
    def summary_folder(self) -> Path:
        return self.folder / f"summary-{self.summary_digest}"

    @property
    def report_folder(self) -> Path:
        return self.folder / f"report-{digest(VERSIONS['report'], self.summary_digest, self.experiment.events)}"

    @property
    def proxies_folder(self) -> Path:
        """Copies of videos that browsers play; they belong to one state of the video files."""
        return self.folder / f"proxies-{digest(VERSIONS['proxies'], self.files_digest)}"


@dataclass(frozen=True)
class FinetunedRecipes(Recipes):
    """The recipes of an experiment whose backbone and head come from its fine-tuning.

    Attributes:
        experiment: its `backbone.weights` is the file that the fine-tuning writes.
        frozen: the recipes of the frozen stage.
    """

    frozen: Recipes
    stage: ClassVar[str] = "finetuned"

    @property
    def weights_digest(self) -> str:
        """Of the fine-tuning's recipe, because the file does not exist beforehand; its SHA-256 is in the records."""
        return f"finetune-{self.frozen.finetune_digest}"

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
        return self.frozen.finetune_digest

    def head_folder(self, run: str) -> Path:
        self._check(run)
        return self.frozen.finetune_folder

    def _called(self, name: str) -> str:
        return f"{name}-finetuned"

    def _check(self, run: str) -> None:
        if run != self.experiment.finetune.run:
            raise ConfigError(
                f"run {run} is not fine-tuned in experiment {self.experiment.experiment}, "
                f"{self.experiment.finetune.run} is"
            )
