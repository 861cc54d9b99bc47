"""What people act on: the operating point of a run, and the events of its test videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.steps import Report, Step
from pipeline.workflow.features_and_heads import model
from pipeline.workflow.manifest import Manifest, frozen, usable_manifest
from pipeline.workflow.results import ScoreVideos

__all__ = ["Events", "OperatingPoint"]


@dataclass(frozen=True)
class OperatingPoint(Step):
    """Choose the thresholds of events on the run's validation videos, for the accepted false alarms per hour."""

    run_name: str
    uses_device: ClassVar[bool] = True
    staged: ClassVar[bool] = True

    def output(self) -> Path:
        return self.recipes.operating_point_folder(self.run_name)

    def needs(self) -> Sequence[Step]:
        return Manifest(frozen(self.recipes)), model(self.recipes, self.run_name)

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.events.validation_scores import choose_for_run

        recipes = self.recipes
        choose_for_run(
            recipes.experiment,
            self.run_name,
            usable_manifest(recipes),
            recipes.namespace("validation"),
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
