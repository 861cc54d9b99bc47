"""Reduced features, which the runs of an ablation share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.steps import Report, Step
from pipeline.workflow.features_and_heads import ExtractFeatures
from pipeline.workflow.manifest import Manifest, usable_manifest

__all__ = ["ReduceTest", "ReduceTraining"]


@dataclass(frozen=True)
class ReduceTraining(Step):
    """Reduce the cached training features as the run's head needs them, once for all runs that need the same
    (ablations)."""

    run_name: str

    def output(self) -> Path:
        return self.recipes.reduced_folder(self.run_name, "train")

    def needs(self) -> Sequence[Step]:
        return Manifest(self.recipes), ExtractFeatures(self.recipes, "train")

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.training.bags_on_disk import write_training

        experiment, namespace = self.recipes.experiment, self.recipes.namespace("train")
        write_training(experiment, self.run_name, usable_manifest(self.recipes), namespace, folder, report.progress)


@dataclass(frozen=True)
class ReduceTest(Step):
    """Reduce the cached test features in the same way, with the channel statistics of the training features."""

    run_name: str

    def output(self) -> Path:
        return self.recipes.reduced_folder(self.run_name, "test")

    def needs(self) -> Sequence[Step]:
        return ReduceTraining(self.recipes, self.run_name), ExtractFeatures(self.recipes, "test")

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.training.bags_on_disk import write_test

        recipes, namespace = self.recipes, self.recipes.namespace("test")
        training = recipes.reduced_folder(self.run_name, "train")
        write_test(
            recipes.experiment, self.run_name, usable_manifest(recipes), namespace, training, folder, report.progress
        )
