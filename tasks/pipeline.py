"""The tasks of an experiment, one for each step of `pipeline.workflow`, under the same name."""

from __future__ import annotations

import luigi

from pipeline import workflow
from pipeline.stages.common.mirror import place_of
from pipeline.workflow import Report as Listener
from pipeline.workflow import Step
from tasks.base import StagedTask, StepTask

__all__ = [
    "Evaluate",
    "EvaluateAll",
    "Events",
    "ExtractFeatures",
    "ExtractShard",
    "FineTune",
    "Manifest",
    "OperatingPoint",
    "Report",
    "ScoreVideos",
    "TrainHead",
]


def run_parameter() -> luigi.Parameter:
    return luigi.Parameter(default="gig", description="Which of the configuration's runs.")


def split_parameter() -> luigi.Parameter:
    return luigi.ChoiceParameter(choices=["train", "test"], description="Which videos: train or test.")


class Manifest(StepTask):
    """Check the annotations and videos of the data set and write a manifest; render a synthetic data set."""

    @property
    def step(self) -> Step:
        return workflow.Manifest(self.recipes)


class ExtractShard(StagedTask):
    """Extract the features of one shard of a split into the cache; finished videos are kept if it is interrupted."""

    split = split_parameter()
    shard = luigi.IntParameter(description="Number of the shard, from 0.")
    shards = luigi.IntParameter(description="Number of shards.")

    @property
    def step(self) -> Step:
        return workflow.ExtractShard(self.recipes, self.split, self.shard, self.shards)


class ExtractFeatures(StagedTask):
    """The features of all shards of a split."""

    split = split_parameter()

    @property
    def step(self) -> Step:
        return workflow.ExtractFeatures(self.recipes, self.split)


class TrainHead(StepTask):
    """Train the run's head on the cached training features."""

    run_name = run_parameter()

    @property
    def step(self) -> Step:
        return workflow.TrainHead(self.recipes, self.run_name)


class FineTune(StepTask):
    """Unfreeze the backbone and train it end to end with the head of one run, starting from the frozen stage's head."""

    @property
    def step(self) -> Step:
        return workflow.FineTune(self.recipes)


class ScoreVideos(StagedTask):
    """Write the score tables of the test videos, one row per frame."""

    run_name = run_parameter()

    @property
    def step(self) -> Step:
        return workflow.ScoreVideos(self.recipes, self.run_name)


class Evaluate(StagedTask):
    """Compare the score tables with the annotated intervals."""

    run_name = run_parameter()

    @property
    def step(self) -> Step:
        return workflow.Evaluate(self.recipes, self.run_name)


class OperatingPoint(StagedTask):
    """Choose the thresholds of events on the run's validation videos, for the accepted false alarms per hour."""

    run_name = run_parameter()

    @property
    def step(self) -> Step:
        return workflow.OperatingPoint(self.recipes, self.run_name)


class Events(StagedTask):
    """List the events of the test videos, of every class and of anomaly in general."""

    run_name = run_parameter()

    @property
    def step(self) -> Step:
        return workflow.Events(self.recipes, self.run_name)


class EvaluateAll(StepTask):
    """The whole pipeline: every run of the configuration, from videos to a summary of metrics, and the page.

    The summary is there before the page is made: when that fails, the figures are kept, and the same command tries the
    page again.
    """

    @property
    def step(self) -> Step:
        return workflow.EvaluateAll(self.recipes)

    def complete(self) -> bool:
        return super().complete() and workflow.HtmlReport(self.recipes).complete()

    def run(self) -> None:
        from pipeline.stages.common.stand_in import stand_in_reasons
        from pipeline.stages.evaluation.summary import summary_table

        super().run()
        recipes = self.step.recipes
        print(summary_table(self.step.fetch(self.say), recipes.experiment.expected, stand_in_reasons(recipes)))
        page = workflow.HtmlReport(self.recipes).make(Listener(self.report, self.say))
        print(f"page: {place_of(page / 'index.html')}")
        self.recipes.quarantine.check(self.experiment.machine.max_quarantined)


class Report(StepTask):
    """Write the page of an experiment: an index and one page per test video, in a folder that opens from disk."""

    @property
    def step(self) -> Step:
        return workflow.HtmlReport(self.recipes)
