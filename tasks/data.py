"""Tasks of stage 0 and 1: the manifest and the features."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import luigi

from tasks.base import FolderTask, StageTask, gpu_resources

__all__ = ["ExtractFeatures", "ExtractShard", "Manifest"]


class Manifest(FolderTask):
    """Check the data set's annotations and videos and write them as one manifest; renders a synthetic data set."""

    def folder(self) -> Path:
        return self.recipes.manifest_folder()

    def run(self) -> None:
        from pipeline.stages.common.manifest import build_manifest

        self.make(lambda folder: build_manifest(self.experiment, folder, self.report, self.say))


class ExtractShard(StageTask):
    """Bring one shard of a split's videos into the feature cache; finished videos are kept whatever happens later."""

    split = luigi.ChoiceParameter(choices=["train", "test"], description="Which videos: train or test.")
    shard = luigi.IntParameter(description="Which part of the videos, from 0.")
    shards = luigi.IntParameter(description="Into how many parts the videos are divided.")
    unit = "frames"

    @property
    def title(self) -> str:
        part = f", part {self.shard + 1} of {self.shards}" if self.shards > 1 else ""
        return f"{self.task_family} {self.split}{' finetuned' if self.stage == 'finetuned' else ''}{part}"

    @property
    def resources(self) -> dict[str, int]:
        return gpu_resources(self.experiment.machine.device)

    def requires(self) -> list[luigi.Task]:
        manifest = Manifest(config=self.config)
        if self.stage == "frozen":
            return [manifest]
        from tasks.training import FineTune  # which in its turn starts from the frozen stage's features

        return [manifest, FineTune(config=self.config)]

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(self.recipes.features_marker(self.split, self.shard, self.shards)))

    def complete(self) -> bool:
        """The marker lies there and every video that it names is still in the cache, or in quarantine; costs two listings."""
        if not super().complete():
            return False
        from cache import FeatureStore

        marker = json.loads(Path(self.output().path).read_text(encoding="utf-8"))
        store = FeatureStore.open(self.experiment.paths.cache)
        missing = set(marker["video_ids"]) - store.list(marker["namespace"])
        return not missing or missing <= set(self.recipes.quarantine.ids(self.split))

    def run(self) -> None:
        from pipeline.stages.common.manifest import load_manifest
        from pipeline.stages.common.outputs import locked, whole_file
        from pipeline.stages.extraction.extract import extract_split

        manifest = load_manifest(self.experiment, self.recipes.manifest_folder())
        videos = [v for v in manifest.split(self.split) if zlib.crc32(v.video_id.encode()) % self.shards == self.shard]
        namespace, quarantine = self.recipes.namespace(self.split), self.recipes.quarantine
        with locked(Path(self.output().path), self.say):
            done = extract_split(self.experiment, manifest, self.split, videos, namespace, quarantine, self.report, say=self.say)
            with whole_file(Path(self.output().path)) as partial:
                partial.write_text(json.dumps({"namespace": namespace, "video_ids": [v.video_id for v in videos]}, indent=1))
        self.say(str(done))


class ExtractFeatures(luigi.WrapperTask, StageTask):
    """The features of one split, all shards."""

    split = luigi.ChoiceParameter(choices=["train", "test"], description="Which videos: train or test.")

    def requires(self) -> Iterator[ExtractShard]:
        shards = self.experiment.machine.shards
        for shard in range(shards):
            yield self.clone(ExtractShard, shard=shard, shards=shards)
