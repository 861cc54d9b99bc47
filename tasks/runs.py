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

    def _manifest(self):
        from pipeline.stages.manifest import load_manifest

        return load_manifest(self.experiment, self.recipes.manifest_folder())


class TrainHead(RunTask):
    """Train the run's head on the cached training features."""

    def folder(self) -> Path:
        return self.recipes.head_folder(self.run_name)

    def requires(self) -> dict[str, luigi.Task]:
        common = {"config": self.config}
        return {"manifest": Manifest(**common), "features": ExtractFeatures(split="train", **common)}

    def run(self) -> None:
        from pipeline.stages.train import train_head

        namespace = self.recipes.namespace("train")
        with self.fresh_folder() as folder:
            train_head(self.experiment, self.run_name, self._manifest(), namespace, folder, self.report)


class ScoreVideos(RunTask):
    """Write the per-frame score tables of the test videos."""

    def folder(self) -> Path:
        return self.recipes.scores_folder(self.run_name)

    def requires(self) -> dict[str, luigi.Task]:
        return {"head": self.clone(TrainHead), "features": ExtractFeatures(split="test", config=self.config)}

    def run(self) -> None:
        from pipeline.stages.score import score_split

        namespace = self.recipes.namespace("test")
        head = self.recipes.head_folder(self.run_name)
        with self.fresh_folder() as folder:
            score_split(self.experiment, self.run_name, self._manifest(), namespace, head, folder, self.report)


class Evaluate(RunTask):
    """Compare the score tables with the annotated intervals."""

    def folder(self) -> Path:
        return self.recipes.evaluation_folder(self.run_name)

    def requires(self) -> dict[str, luigi.Task]:
        return {"scores": self.clone(ScoreVideos), "manifest": Manifest(config=self.config)}

    def run(self) -> None:
        from pipeline.stages.evaluate import evaluate_run

        scores = self.recipes.scores_folder(self.run_name)
        with self.fresh_folder() as folder:
            evaluate_run(self.experiment, self.run_name, self._manifest(), scores, folder)


class EvaluateAll(FolderTask):
    """The whole pipeline: every run of the configuration, from videos to a summary of frame-level figures."""

    def folder(self) -> Path:
        return self.recipes.summary_folder()

    def requires(self) -> Iterator[luigi.Task]:
        for name in self.experiment.runs:
            yield Evaluate(config=self.config, run_name=name)

    def run(self) -> None:
        from pipeline.stages.report import summary_table, write_summary

        with self.fresh_folder() as folder:
            write_summary(self.experiment, {n: self.recipes.evaluation_folder(n) for n in self.experiment.runs}, folder)
        print(summary_table(self.folder()))
