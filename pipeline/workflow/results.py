"""Results: score tables, the operating point, events, evaluations and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.steps import Report, Step
from pipeline.workflow.features_and_heads import ExtractFeatures, model
from pipeline.workflow.manifest import Manifest, frozen, usable_manifest

__all__ = ["Evaluate", "EvaluateAll", "Events", "OperatingPoint", "ScoreVideos"]


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
            recipes.experiment,
            self.run_name,
            usable_manifest(recipes),
            namespace,
            head,
            folder,
            report.progress,
            say=report.say,
            quarantined=recipes.quarantine.reasons("test"),
        )


@dataclass(frozen=True)
class OperatingPoint(Step):
    """Choose the thresholds of events on the run's validation videos, for the accepted false alarms per hour."""

    run_name: str
    staged: ClassVar[bool] = True

    def output(self) -> Path:
        return self.recipes.operating_point_folder(self.run_name)

    def needs(self) -> Sequence[Step]:
        return Manifest(frozen(self.recipes)), model(self.recipes, self.run_name)

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.events.validation_scores import choose_for_run

        recipes = self.recipes
        features = recipes.experiment.features
        imported = features.train or features.test  # then there may be no backbone, and nothing is chosen
        choose_for_run(
            recipes.experiment,
            self.run_name,
            usable_manifest(recipes),
            "" if imported else recipes.namespace("validation"),
            recipes.head_folder(self.run_name),
            folder,
            report.progress,
            report.say,
            recipes.stage,
        )


@dataclass(frozen=True)
class Events(Step):
    """List the events of the test videos, of every class and of anomaly in general."""

    run_name: str
    staged: ClassVar[bool] = True

    def output(self) -> Path:
        return self.recipes.events_folder(self.run_name)

    def needs(self) -> Sequence[Step]:
        scores, point = ScoreVideos(self.recipes, self.run_name), OperatingPoint(self.recipes, self.run_name)
        return Manifest(frozen(self.recipes)), scores, point

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.events.events import write_run_events

        recipes, run = self.recipes, self.run_name
        scores, point = recipes.scores_folder(run), recipes.operating_point_folder(run)
        write_run_events(recipes.experiment, usable_manifest(recipes), scores, point, folder, report.progress)


@dataclass(frozen=True)
class Evaluate(Step):
    """Compare the score tables with the annotated intervals."""

    run_name: str
    staged: ClassVar[bool] = True

    def output(self) -> Path:
        return self.recipes.evaluation_folder(self.run_name)

    def needs(self) -> Sequence[Step]:
        scores, point = ScoreVideos(self.recipes, self.run_name), OperatingPoint(self.recipes, self.run_name)
        return Manifest(frozen(self.recipes)), scores, point

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.evaluation.evaluate import evaluate_run
        from pipeline.stages.events.operating_point import read_chosen

        recipes = self.recipes
        evaluate_run(
            recipes.experiment,
            self.run_name,
            recipes.manifest_folder,
            recipes.scores_folder(self.run_name),
            folder,
            thresholds=read_chosen(recipes.operating_point_folder(self.run_name)),
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
        return super().complete() and self.recipes.quarantine.within(self.recipes.experiment.machine.max_quarantined)

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.evaluation.summary import write_summary

        evaluations = [recipes.evaluation_folder(run) for run, recipes in self.recipes.lines]
        write_summary(self.recipes.experiment, evaluations, folder, self.recipes.quarantine.ids())
