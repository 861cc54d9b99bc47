"""The task of an ablation: many settings of one experiment, one table."""

from __future__ import annotations

import os

import luigi

from pipeline.ablation.ablate import ablation_folder, quarantines_accepted
from pipeline.stages.common.mirror import is_made, place_of
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import Report
from tasks.base import ExperimentTask, OutputTarget, plan_for
from tasks.pipeline import ExtractFeatures

__all__ = ["Ablate"]


class Ablate(ExperimentTask):
    """Train, score and evaluate every setting of an ablation on shared features, and write the table.

    It requires the features of every backbone, picture and sampling that occurs among the settings.
    """

    config = luigi.Parameter(
        default="configs/ablations/fixture.yaml", description="The ablation, a YAML file; see docs/ablations.md."
    )
    processes = luigi.IntParameter(default=os.cpu_count() or 1, significant=False, description="Number of processes.")

    @property
    def recipes(self) -> Recipes:
        return Recipes(plan_for(self.config).settings[0].experiment)

    def requires(self) -> list[luigi.Task]:
        return [
            ExtractFeatures(config=f"{self.config}#{number}", split=split)
            for number in range(len(plan_for(self.config).experiments))
            for split in ("train", "test")
        ]

    def output(self) -> luigi.Target:
        folder = ablation_folder(plan_for(self.config))
        return OutputTarget(folder, lambda: is_made(folder))

    def complete(self) -> bool:
        """Whether the table is there and no more videos are in quarantine than the configurations accept."""
        return super().complete() and quarantines_accepted(plan_for(self.config))

    def run(self) -> None:
        from pipeline.ablation.ablate import check_quarantines, run_ablation

        plan = plan_for(self.config)
        folder = run_ablation(plan, self.processes, Report(self.report, self.say))
        print((folder / "results.md").read_text(encoding="utf-8"))
        print(f"results: {place_of(folder)}")
        check_quarantines(plan, self.say)
