"""Tasks that train: a head on the cache, and backbone and head end to end."""

from __future__ import annotations

from pathlib import Path

import luigi

from tasks.base import FolderTask, gpu_resources
from tasks.data import ExtractFeatures, Manifest

__all__ = ["FineTune", "RunTask", "TrainHead"]


class RunTask(FolderTask):
    """A task of one run."""

    run_name = luigi.Parameter(default="gig", description="Which of the configuration's runs.")

    @property
    def title(self) -> str:
        return f"{self.task_family} {self.run_name}"

    def _manifest(self):
        """The manifest without the videos in quarantine, and without the truth of the test videos."""
        from pipeline.stages.common.manifest import load_manifest

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
        from pipeline.stages.training.train import train_head

        facts = self.experiment, self.run_name, self._manifest(), self.recipes.namespace("train")
        self.make(lambda folder: train_head(*facts, folder, self.report))


class FineTune(FolderTask):
    """Unfreeze the backbone and train it and the head of one run, from the frozen stage's head on, on clips from the videos."""

    def folder(self) -> Path:
        return self.recipes.finetune_folder()

    @property
    def resources(self) -> dict[str, int]:
        return gpu_resources(self.experiment.machine.device)

    def requires(self) -> dict[str, luigi.Task]:
        head = TrainHead(config=self.config, run_name=self.experiment.finetune.run)
        return {"manifest": Manifest(config=self.config), "head": head}

    def run(self) -> None:
        from pipeline.stages.finetuning.finetune import finetune

        left_out = [record.video_id for record in self.recipes.quarantine.records()]
        head = self.recipes.head_folder(self.experiment.finetune.run)
        facts = self.experiment, self.recipes.manifest_folder(), left_out, head
        self.make(lambda folder: finetune(*facts, folder, self.report))
