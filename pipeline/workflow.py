"""The steps of an experiment, each described once: its name, its output, what it needs, and how the output is made.

Luigi tasks, the `gig` command and ablations all run these steps. To add one, write a class here and, for
`luigi --module tasks`, a task of a few lines in `tasks/`.

    ensure(Evaluate(recipes, "gig"), listen)   # does whatever is missing before it, then the evaluation

Stages are imported when a step is made, so that asking what is there loads neither torch nor mmaction2.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from cache import FeatureStore
from pipeline.data.manifest import Manifest as VideoManifest
from pipeline.data.manifest import VideoEntry
from pipeline.stages.common.outputs import locked, whole_file
from pipeline.stages.common.recipes import FinetunedRecipes, Recipes
from pipeline.steps import SILENT, Report, Step, ensure

__all__ = [
    "Evaluate",
    "EvaluateAll",
    "ExtractFeatures",
    "ExtractShard",
    "FineTune",
    "Manifest",
    "ReduceTest",
    "ReduceTraining",
    "Report",
    "SILENT",
    "ScoreVideos",
    "Step",
    "TrainHead",
    "ensure",
    "frozen",
    "model",
    "usable_manifest",
]


def usable_manifest(recipes: Recipes) -> VideoManifest:
    """The manifest of a finished `Manifest` step, without the videos in quarantine and without the test videos' ground
    truth."""
    from pipeline.stages.common.manifest import load_manifest

    manifest = load_manifest(recipes.experiment, recipes.manifest_folder())
    return manifest.without(recipes.quarantine.ids())


def frozen(recipes: Recipes) -> Recipes:
    """The recipes of the frozen stage, of either."""
    return recipes.frozen if isinstance(recipes, FinetunedRecipes) else recipes


@dataclass(frozen=True)
class Manifest(Step):
    """Check the data set's annotations and videos and write them as one manifest; renders a synthetic data set."""

    def output(self) -> Path:
        return self.recipes.manifest_folder()

    def needs(self) -> Sequence[Step]:
        return ()

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.common.manifest import build_manifest

        build_manifest(self.recipes.experiment, folder, report.progress, report.say)


@dataclass(frozen=True)
class ExtractShard(Step):
    """Bring one shard of a split's videos into the feature cache; finished videos are kept whatever happens later.

    Its output is a small file that names the videos.
    """

    split: str
    shard: int
    shards: int
    unit: ClassVar[str] = "frames"
    uses_device: ClassVar[bool] = True
    staged: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return super().title + (f", part {self.shard + 1} of {self.shards}" if self.shards > 1 else "")

    def output(self) -> Path:
        return self.recipes.features_marker(self.split, self.shard, self.shards)

    def needs(self) -> Sequence[Step]:
        manifest = Manifest(frozen(self.recipes))
        return (manifest,) if self.recipes.stage == "frozen" else (manifest, FineTune(frozen(self.recipes)))

    def complete(self) -> bool:
        """The marker is there and every video that it names is still in the cache, or in quarantine; costs two
        listings."""
        if not self.output().is_file():
            return False
        marker = json.loads(self.output().read_text(encoding="utf-8"))
        store = FeatureStore.open(self.recipes.experiment.paths.cache)
        missing = set(marker["video_ids"]) - store.video_ids(marker["namespace"])
        return not missing or missing <= set(self.recipes.quarantine.ids(self.split))

    def make(self, report: Report, build: Callable[[Path, Report], None] | None = None) -> Path:
        """As of `Step`, but processes that make it at the same time share the videos."""
        final = self.output()
        (build or self.build)(final, report)
        return final

    def build(self, folder: Path, report: Report) -> None:
        """As of `Step`, but `folder` is the file."""
        from pipeline.stages.common.manifest import load_manifest
        from pipeline.stages.extraction.extract import extract_split

        experiment, namespace = self.recipes.experiment, self.recipes.namespace(self.split)
        manifest = load_manifest(experiment, self.recipes.manifest_folder())
        videos = [video for video in manifest.split(self.split) if self._holds(video)]
        done = extract_split(
            experiment,
            manifest,
            self.split,
            videos,
            namespace,
            self.recipes.quarantine,
            report.progress,
            say=report.say,
        )
        marker = {"namespace": namespace, "video_ids": [video.video_id for video in videos]}
        with locked(folder, report.say), whole_file(folder) as partial:
            partial.write_text(json.dumps(marker, indent=1), encoding="utf-8")
        report.say(str(done))

    def _holds(self, video: VideoEntry) -> bool:
        return zlib.crc32(video.video_id.encode()) % self.shards == self.shard


@dataclass(frozen=True)
class ExtractFeatures(Step):
    """The features of one split: all its shards, and nothing of its own."""

    split: str
    staged: ClassVar[bool] = True

    def output(self) -> Path:
        """The folder of the shards' markers."""
        return self.recipes.features_marker(self.split, 0, 1).parent

    def needs(self) -> Sequence[Step]:
        shards = self.recipes.experiment.machine.shards
        return [ExtractShard(self.recipes, self.split, shard, shards) for shard in range(shards)]

    def complete(self) -> bool:
        return all(shard.complete() for shard in self.needs())

    def build(self, folder: Path, report: Report) -> None:
        """Nothing is left to do."""


@dataclass(frozen=True)
class TrainHead(Step):
    """Train the run's head on the cached training features."""

    run_name: str

    def output(self) -> Path:
        return self.recipes.head_folder(self.run_name)

    def needs(self) -> Sequence[Step]:
        return Manifest(self.recipes), ExtractFeatures(self.recipes, "train")

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.training.train import train_head

        experiment, namespace = self.recipes.experiment, self.recipes.namespace("train")
        train_head(experiment, self.run_name, usable_manifest(self.recipes), namespace, folder, report.progress)


@dataclass(frozen=True)
class ReduceTraining(Step):
    """Reduce the cached training features as the run's head needs them, once for all runs that need the same
    (ablations)."""

    run_name: str

    def output(self) -> Path:
        return self.recipes.reduced_folder(self.run_name, "train")

    def needs(self) -> Sequence[Step]:
        return Manifest(self.recipes), ExtractFeatures(self.recipes, "train")

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.training.bags_on_disk import write_training

        experiment, namespace = self.recipes.experiment, self.recipes.namespace("train")
        write_training(experiment, self.run_name, usable_manifest(self.recipes), namespace, folder, report.progress)


@dataclass(frozen=True)
class ReduceTest(Step):
    """Reduce the cached test features in the same way, with the channel statistics of the training features."""

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


@dataclass(frozen=True)
class FineTune(Step):
    """Unfreeze the backbone and train it end to end with the head of one run, starting from the frozen stage's head."""

    uses_device: ClassVar[bool] = True

    def output(self) -> Path:
        return self.recipes.finetune_folder()

    def needs(self) -> Sequence[Step]:
        return Manifest(self.recipes), TrainHead(self.recipes, self.recipes.experiment.finetune.run)

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.finetuning.finetune import finetune

        recipes, experiment = self.recipes, self.recipes.experiment
        head = recipes.head_folder(experiment.finetune.run)
        finetune(experiment, recipes.manifest_folder(), recipes.quarantine.ids(), head, folder, report.progress)


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
        evaluate = partial(evaluate_run, recipes.experiment, self.run_name, recipes.manifest_folder(), scores, folder)
        evaluate(recipes.quarantine.ids(), report.say, recipes.stage)


@dataclass(frozen=True)
class EvaluateAll(Step):
    """The whole pipeline: every run of the configuration, from videos to a summary of frame-level metrics."""

    def output(self) -> Path:
        return self.recipes.summary_folder()

    def needs(self) -> Sequence[Step]:
        return [Evaluate(recipes, run) for run, recipes in self.recipes.lines]

    def complete(self) -> bool:
        """The summary is there, and no more videos are in quarantine than the configuration accepts."""
        return (
            super().complete() and len(self.recipes.quarantine.ids()) <= self.recipes.experiment.machine.max_quarantined
        )

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.evaluation.summary import write_summary

        evaluations = [recipes.evaluation_folder(run) for run, recipes in self.recipes.lines]
        write_summary(self.recipes.experiment, evaluations, folder, self.recipes.quarantine.ids())


def model(recipes: Recipes, run_name: str) -> Step:
    """The step that makes a run's head: its training on the frozen features, or the fine-tuning.

    Raises ConfigError for a name that is no run, or not the one that is fine-tuned.
    """
    recipes.experiment.run(run_name)
    if isinstance(recipes, FinetunedRecipes):
        recipes.head_folder(run_name)
        return FineTune(recipes.frozen)
    return TrainHead(recipes, run_name)
