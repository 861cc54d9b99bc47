"""Reduced features, shared by the runs of an ablation."""

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
    """Reduce the cached training features for the run's head, once for all runs of an ablation with that reduction."""

    run_name: str

    def output(self) -> Path:
        return self.recipes.reduced_folder(self.run_name, "train")

    def needs(self) -> Sequence[Step]:
        return Manifest(self.recipes), ExtractFeatures(self.recipes, "train")

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.training.bags_on_disk import write_training

        experiment, namespace = self.recipes.experiment, self.recipes.namespace("train")
        manifest = usable_manifest(self.recipes)
        write_training(experiment, self.run_name, manifest, namespace, folder, report.progress, report.say)


@dataclass(frozen=True)
class ReduceTest(Step):
    """Reduce the cached test features in the same way, using the channel statistics of the training features."""

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
