"""Results: score tables, evaluations and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.steps import Report, Step
from pipeline.workflow.features_and_heads import ExtractFeatures, model
from pipeline.workflow.manifest import Manifest, frozen, usable_manifest

__all__ = ["Evaluate", "EvaluateAll", "ScoreVideos"]


@dataclass(frozen=True)
class ScoreVideos(Step):
    """Write the score tables of the test videos, one row per frame."""

    run_name: str
    staged: ClassVar[bool] = True

    def output(self) -> Path:
        return self.recipes.scores_folder(self.run_name)

    def needs(self) -> Sequence[Step]:
        features = ExtractFeatures(self.recipes, "test")
        return Manifest(frozen(self.recipes)), model(self.recipes, self.run_name), features

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.scoring.score import score_split

        recipes, namespace = self.recipes, self.recipes.namespace("test")
        head = recipes.head_folder(self.run_name)
        score_split(
            recipes.experiment, self.run_name, usable_manifest(recipes), namespace, head, folder, report.progress
        )


@dataclass(frozen=True)
class Evaluate(Step):
    """Compare the score tables with the annotated intervals."""

    run_name: str
    staged: ClassVar[bool] = True

    def output(self) -> Path:
        return self.recipes.evaluation_folder(self.run_name)

    def needs(self) -> Sequence[Step]:
        return Manifest(frozen(self.recipes)), ScoreVideos(self.recipes, self.run_name)

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.evaluation.evaluate import evaluate_run

        recipes, scores = self.recipes, self.recipes.scores_folder(self.run_name)
        evaluate_run(
            recipes.experiment,
            self.run_name,
            recipes.manifest_folder,
            scores,
            folder,
            quarantined=recipes.quarantine.ids(),
            say=report.say,
            stage=recipes.stage,
        )


@dataclass(frozen=True)
class EvaluateAll(Step):
    """The whole pipeline: every run of the configuration, from videos to a summary of frame-level metrics."""

    def output(self) -> Path:
        return self.recipes.summary_folder

    def needs(self) -> Sequence[Step]:
        return [Evaluate(recipes, run) for run, recipes in self.recipes.lines]

    def complete(self) -> bool:
        """Whether the summary is there and no more videos are in quarantine than the configuration accepts."""
        return (
            super().complete() and len(self.recipes.quarantine.ids()) <= self.recipes.experiment.machine.max_quarantined
        )

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.evaluation.summary import write_summary

        evaluations = [recipes.evaluation_folder(run) for run, recipes in self.recipes.lines]
        write_summary(self.recipes.experiment, evaluations, folder, self.recipes.quarantine.ids())
