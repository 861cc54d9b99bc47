"""Tasks of stage 2 and after: heads, score tables, figures, the summary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import luigi

from tasks.base import FolderTask
from tasks.data import ExtractFeatures, Manifest

__all__ = ["Evaluate", "EvaluateAll", "ScoreVideos", "TrainHead"]


class RunTask(FolderTask):
    """A task of one run, a line of the summary."""

    run_name = luigi.Parameter(default="gig", description="Which of the configuration's runs.")

    @property
    def title(self) -> str:
        return f"{self.task_family} {self.run_name}"

    def _manifest(self):
        """The manifest without the videos in quarantine, and without the truth of the test videos."""
        from pipeline.stages.manifest import load_manifest

        manifest = load_manifest(self.experiment, self.recipes.manifest_folder())
        return manifest.without([record.video_id for record in self.recipes.quarantine.records()])


class TrainHead(RunTask):
    """Train the run's head on the cached training features."""

    def folder(self) -> Path:
        return self.recipes.head_folder(self.run_name)

    def requires(self) -> dict[str, luigi.Task]:
        common = {"config": self.config}
        return {"manifest": Manifest(**common), "features": ExtractFeatures(split="train", **common)}

    def run(self) -> None:
        from pipeline.stages.train import train_head

        facts = self.experiment, self.run_name, self._manifest(), self.recipes.namespace("train")
        self.make(lambda folder: train_head(*facts, folder, self.report))


class ScoreVideos(RunTask):
    """Write the per-frame score tables of the test videos."""

    def folder(self) -> Path:
        return self.recipes.scores_folder(self.run_name)

    def requires(self) -> dict[str, luigi.Task]:
        common = {"config": self.config}
        features = ExtractFeatures(split="test", **common)
        return {"manifest": Manifest(**common), "head": self.clone(TrainHead), "features": features}

    def run(self) -> None:
        from pipeline.stages.score import score_split

        head = self.recipes.head_folder(self.run_name)
        facts = self.experiment, self.run_name, self._manifest(), self.recipes.namespace("test"), head
        self.make(lambda folder: score_split(*facts, folder, self.report))


class Evaluate(RunTask):
    """Compare the score tables with the annotated intervals."""

    def folder(self) -> Path:
        return self.recipes.evaluation_folder(self.run_name)

    def requires(self) -> dict[str, luigi.Task]:
        return {"scores": self.clone(ScoreVideos), "manifest": Manifest(config=self.config)}

    def run(self) -> None:
        from pipeline.stages.evaluate import evaluate_run

        left_out = [record.video_id for record in self.recipes.quarantine.records()]
        facts = self.experiment, self.run_name, self.recipes.manifest_folder(), self.recipes.scores_folder(self.run_name)
        self.make(lambda folder: evaluate_run(*facts, folder, left_out, self.say))


class EvaluateAll(FolderTask):
    """The whole pipeline: every run of the configuration, from videos to a summary of frame-level figures."""

    def folder(self) -> Path:
        return self.recipes.summary_folder()

    def requires(self) -> Iterator[luigi.Task]:
        for name in self.experiment.runs:
            yield Evaluate(config=self.config, run_name=name)

    def complete(self) -> bool:
        """The summary lies there, and no more videos are in quarantine than the configuration accepts."""
        return super().complete() and len(self.recipes.quarantine.records()) <= self.experiment.machine.max_quarantined

    def run(self) -> None:
        from pipeline.stages.report import summary_table, write_summary

        quarantine = self.recipes.quarantine
        evaluations = {name: self.recipes.evaluation_folder(name) for name in self.experiment.runs}
        left_out = [record.video_id for record in quarantine.records()]
        self.make(lambda folder: write_summary(self.experiment, evaluations, folder, left_out))
        print(summary_table(self.folder()))
        quarantine.check(self.experiment.machine.max_quarantined)
