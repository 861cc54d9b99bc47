"""Features, the heads that are trained on them, and the fine-tuned backbone.

They are in one module because each needs the one before: a head needs features, fine-tuning needs a head, and features
of the fine-tuned backbone need fine-tuning.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cache import FeatureStore
from pipeline.data.manifest import VideoEntry
from pipeline.progress import Say, silent
from pipeline.stages.common.outputs import locked, whole_file
from pipeline.stages.common.recipes import FinetunedRecipes, Recipes
from pipeline.stages.common.shared_files import forget_listings, put_shared, read_shared
from pipeline.steps import Report, Step
from pipeline.workflow.manifest import Manifest, frozen, usable_manifest

__all__ = ["ExtractFeatures", "ExtractShard", "FineTune", "TrainHead", "model"]


@dataclass(frozen=True)
class ExtractShard(Step):
    """Extract the features of one shard of a split into the cache; finished videos are kept if it is interrupted.

    The output is a small file with the ids of the videos.

    Attributes:
        split: train or test.
        shard: number of the shard, from 0.
        shards: number of shards.
    """

    split: str
    shard: int
    shards: int
    unit: ClassVar[str] = "frames"
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
        """Whether the marker is there and each of its videos is still in the cache, or in quarantine.

        This costs two listings.
        """
        forget_listings()
        content = read_shared(self.output())
        if content is None:
            return False
        marker = json.loads(content)
        store = FeatureStore.open(self.recipes.experiment.paths.cache)
        missing = set(marker["video_ids"]) - store.video_ids(marker["namespace"])
        return not missing or missing <= set(self.recipes.quarantine.ids(self.split))

    def fetch(self, say: Say = silent) -> Path:
        """Return the path of the marker, which no other step reads."""
        return self.output()

    def make(self, report: Report, build: Callable[[Path, Report], None] | None = None) -> Path:
        """Make the output and return it. Processes that make it at the same time share the videos."""
        forget_listings()
        final = self.output()
        with report.counting_warnings() as told:
            for step in self.reads():
                step.fetch(told.say)
            (build or self.build)(final, told)
        return final

    def build(self, folder: Path, report: Report) -> None:
        """Extract the videos and write the marker; `folder` is that file."""
        from pipeline.stages.common.manifest import load_manifest
        from pipeline.stages.extraction.extract import extract_split

        experiment, namespace = self.recipes.experiment, self.recipes.namespace(self.split)
        manifest = load_manifest(experiment, self.recipes.manifest_folder)
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
        content = json.dumps(marker, indent=1).encode()
        with locked(folder, report.say), whole_file(folder) as partial:
            partial.write_bytes(content)
            put_shared(folder, content)
        report.say(str(done))

    def _holds(self, video: VideoEntry) -> bool:
        return zlib.crc32(video.video_id.encode()) % self.shards == self.shard


@dataclass(frozen=True)
class ExtractFeatures(Step):
    """The features of all shards of a split; it makes nothing itself."""

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

    def fetch(self, say: Say = silent) -> Path:
        """Return the folder of the markers, which no other step reads."""
        return self.output()

    def make(self, report: Report, build: Callable[[Path, Report], None] | None = None) -> Path:
        """Return the folder of the markers: the shards are the output."""
        return self.output()

    def build(self, folder: Path, report: Report) -> None:
        """Do nothing: the shards are the output."""


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
        manifest = usable_manifest(self.recipes)
        train_head(experiment, self.run_name, manifest, namespace, folder, report.progress, report.say)


@dataclass(frozen=True)
class FineTune(Step):
    """Unfreeze the backbone and train it end to end with the head of one run, starting from the frozen stage's head."""

    def output(self) -> Path:
        return self.recipes.finetune_folder

    def needs(self) -> Sequence[Step]:
        return Manifest(self.recipes), TrainHead(self.recipes, self.recipes.experiment.finetune.run)

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.finetuning.finetune import finetune

        recipes, experiment = self.recipes, self.recipes.experiment
        head = recipes.head_folder(experiment.finetune.run)
        finetune(
            experiment, recipes.manifest_folder, recipes.quarantine.ids(), head, folder, report.progress, report.say
        )


def model(recipes: Recipes, run_name: str) -> Step:
    """The step that makes a run's head: training on the frozen features, or fine-tuning.

    Raises ConfigError for an unknown run, or for fine-tuned recipes if the run is not the one that is fine-tuned.
    """
    recipes.experiment.run(run_name)
    if isinstance(recipes, FinetunedRecipes):
        recipes.head_folder(run_name)
        return FineTune(recipes.frozen)
    return TrainHead(recipes, run_name)
