"""Tasks after training: score tables, figures, the summary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import luigi

from tasks.base import FolderTask, StageTask
from tasks.data import ExtractFeatures, Manifest
from tasks.training import FineTune, RunTask, TrainHead

__all__ = ["Evaluate", "EvaluateAll", "ScoreVideos"]


class ScoreVideos(StageTask, RunTask):
    """Write the per-frame score tables of the test videos."""

    def folder(self) -> Path:
        return self.recipes.scores_folder(self.run_name)

    def requires(self) -> dict[str, luigi.Task]:
        common = {"config": self.config}
        head = FineTune(**common) if self.stage == "finetuned" else TrainHead(run_name=self.run_name, **common)
        features = ExtractFeatures(split="test", stage=self.stage, **common)
        return {"manifest": Manifest(**common), "head": head, "features": features}

    def run(self) -> None:
        from pipeline.stages.scoring.score import score_split

        head = self.recipes.head_folder(self.run_name)
        facts = self.experiment, self.run_name, self._manifest(), self.recipes.namespace("test"), head
        self.make(lambda folder: score_split(*facts, folder, self.report))


class Evaluate(StageTask, RunTask):
    """Compare the score tables with the annotated intervals."""

    def folder(self) -> Path:
        return self.recipes.evaluation_folder(self.run_name)

    def requires(self) -> dict[str, luigi.Task]:
        return {"scores": self.clone(ScoreVideos), "manifest": Manifest(config=self.config)}

    def run(self) -> None:
        from pipeline.stages.evaluation.evaluate import evaluate_run

        left_out = [record.video_id for record in self.recipes.quarantine.records()]
        facts = self.experiment, self.run_name, self.recipes.manifest_folder(), self.recipes.scores_folder(self.run_name)
        self.make(lambda folder: evaluate_run(*facts, folder, left_out, self.say, self.stage))


class EvaluateAll(FolderTask):
    """The whole pipeline: every run of the configuration, from videos to a summary of frame-level figures."""

    def folder(self) -> Path:
        return self.recipes.summary_folder()

    def requires(self) -> Iterator[luigi.Task]:
        for run, recipes in self.recipes.lines:
            yield Evaluate(config=self.config, run_name=run, stage=recipes.stage)

    def complete(self) -> bool:
        """The summary lies there, and no more videos are in quarantine than the configuration accepts."""
        return super().complete() and len(self.recipes.quarantine.records()) <= self.experiment.machine.max_quarantined

    def run(self) -> None:
        from pipeline.stages.evaluation.summary import summary_table, write_summary

        quarantine = self.recipes.quarantine
        evaluations = [recipes.evaluation_folder(run) for run, recipes in self.recipes.lines]
        left_out = [record.video_id for record in quarantine.records()]
        self.make(lambda folder: write_summary(self.experiment, evaluations, folder, left_out))
        print(summary_table(self.folder()))
        quarantine.check(self.experiment.machine.max_quarantined)
