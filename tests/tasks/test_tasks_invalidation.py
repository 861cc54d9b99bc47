"""Changing one setting reruns exactly the tasks that depend on it, and changes what they write.

There is a case for every field. Which tasks rerun is asked of the tasks; they all run for one case of each kind, which
shows that these and no others do.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import luigi
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import NANO

from cache import FeatureStore
from pipeline import workflow
from pipeline.config import Run, field_table, load_experiment, parse_experiment
from pipeline.data.synthetic.generate import CLASSES, SyntheticSpec, generate
from pipeline.errors import ConfigError
from pipeline.stages.common.device import pick_device
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.sources import experiment_workers
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.train import fit_head
from pipeline.steps import SILENT, Step, ensure
from tasks import EvaluateAll, ExtractFeatures

NONE: frozenset[str] = frozenset()
MANIFEST = frozenset({"Manifest"})
EVALUATION = frozenset({"Evaluate", "EvaluateAll"})
EVENTS = EVALUATION | {"OperatingPoint"}
SCORES = EVENTS | {"ScoreVideos"}
HEAD = SCORES | {"TrainHead"}
TEST = SCORES | {"ExtractFeatures test", "ExtractShard test"}
TRAIN = HEAD | {"ExtractFeatures train", "ExtractShard train"}
FEATURES = TRAIN | TEST
ALL = MANIFEST | FEATURES
FINETUNE = TEST | {"FineTune"}


@dataclass(frozen=True)
class Case:
    """A field's other value, the tasks that must then rerun, and which output must then differ.

    `base` are settings of both runs, without which the field would have no effect; `also` are settings of the second
    run only, without which it would be refused.
    """

    value: object
    tasks: frozenset[str]
    differs: str | None = None
    base: dict = field(default_factory=dict)
    also: dict = field(default_factory=dict)


FEW_FRAMES = {"train_sampling": {"clip_frames": 2, "interval_frames": 3}}
TUNED = {"finetune": {"enabled": True, "epochs": 1, "batch_bags": 2, "warmup_steps": 0, "unfreeze": "neck"}}
MORE_VIDEOS = {"dataset": {"train_normal": 4, "train_per_class": 2}}
SYNTHETIC = {
    "experiment": Case("nano2", ALL),
    "dataset(synthetic).name": Case("other", ALL),
    "dataset(synthetic).seed": Case(4, ALL, "manifest"),
    "dataset(synthetic).classes": Case(["Fighting", "Explosion", "Accident"], ALL, "manifest"),
    "dataset(synthetic).train_normal": Case(3, ALL, "manifest"),
    "dataset(synthetic).train_per_class": Case(2, ALL, "manifest"),
    "dataset(synthetic).test_normal": Case(2, ALL, "manifest"),
    "dataset(synthetic).test_anomalous": Case(4, ALL, "manifest"),
    "dataset(synthetic).size": Case(224, ALL, "manifest"),
    "dataset(synthetic).fps": Case(10, ALL, "manifest"),
    "dataset(synthetic).train_frames": Case([17, 24], ALL, "manifest"),
    "dataset(synthetic).test_frames": Case([41, 48], ALL, "manifest"),
    "backbone.weights": Case("random", FEATURES, "train"),
    "backbone.seed": Case(1, FEATURES, "train", base={"backbone": {"weights": "random"}}),
    "decoding.on_damage": Case("quarantine", FEATURES),
    "decoding.keep_share": Case(0.5, FEATURES),
    "decoding.max_megapixels": Case(32.0, NONE),
    "preprocess.short_side": Case(230, FEATURES, "train"),
    "preprocess.crop": Case(192, FEATURES, "test"),
    "train_sampling.segments": Case(3, TRAIN, "train"),
    "train_sampling.clip_frames": Case(5, TRAIN, "train"),
    "train_sampling.interval_frames": Case(1, TRAIN, "train", base=FEW_FRAMES),
    "train_sampling.clips_per_segment": Case(2, TRAIN, "train", base=FEW_FRAMES),
    "train_sampling.views": Case(2, TRAIN, "train"),
    "train_sampling.seed": Case(1, TRAIN, "train", base=FEW_FRAMES),
    "test_sampling.window_frames": Case(7, TEST, "test"),
    "test_sampling.stride_frames": Case(5, TEST, "test"),
    "test_sampling.interval_frames": Case(2, TEST, "test"),
    "storage.dtype": Case("float32", FEATURES, "train"),
    "head(gig).name": Case("pattern_norm", HEAD, "head"),
    "head(gig).k": Case(4, HEAD, "head"),
    "head(gig).p": Case(1, HEAD, "head"),
    "head(gig).dropout": Case(0.2, HEAD, "head"),
    "head(gig).reduction": Case("mean", HEAD, "head"),
    "head(gig).relation": Case("dot", HEAD, "head"),
    "head(gig).enhancement": Case(False, HEAD, "head"),
    "head(gig).lambda0": Case(0.2, HEAD, "head"),
    "head(gig).lambda1": Case(0.2, HEAD, "head"),
    "head(gig).lambda2": Case(0.2, HEAD, "head"),
    "head(gig).lambda3": Case(0.2, HEAD, "head"),
    "head(gig).channel_attention": Case(4, HEAD, "head"),
    "head(gig).standardize": Case(False, HEAD, "head"),
    "head(gig).standardize_offset": Case(0.5, HEAD, "head"),
    "training.epochs": Case(2, HEAD, "head"),
    "training.batch_bags": Case(2, HEAD, "head"),
    "training.optimizer": Case("adam", HEAD, "head"),
    "training.weight_decay": Case(0.1, HEAD, "head"),
    "training.steps": Case(2, HEAD, "head"),
    "training.clip_norm": Case(0.001, HEAD, "head"),
    "training.learning_rate": Case(0.01, HEAD, "head"),
    "training.seed": Case(1, HEAD, "head"),
    "training.permute_labels_seed": Case(1, HEAD, "head"),
    "scoring.smooth_sigma": Case(1.0, SCORES, "scores"),
    "scoring.smooth_on": Case("frames", SCORES, "scores"),
    "scoring.cue": Case("running", SCORES, "scores", base={"scoring": {"smooth_on": "none"}}),
    "events.upper": Case(0.6, EVENTS, "events"),
    "events.lower_share": Case(0.9, EVENTS, "events"),
    "events.merge_gap_s": Case(0.0, EVENTS, "events"),
    "events.min_length_s": Case(0.5, EVENTS, "events"),
    "events.false_alarms_per_hour": Case(2.0, EVENTS, "events"),
    "events.by_class": Case({"Fighting": {"upper": 0.7}}, EVENTS, "events"),
    "evaluation.mode": Case("argmax", EVALUATION, "evaluation", base={"evaluation": {"threshold": 0.0}}),
    "evaluation.threshold": Case(0.1, EVALUATION, "evaluation"),
    "evaluation.resamples": Case(50, EVALUATION, "evaluation"),
    "evaluation.bootstrap_seed": Case(1, EVALUATION, "evaluation"),
    "selection.validation_share": Case(0.5, HEAD, "head", base=MORE_VIDEOS),
    "selection.seed": Case(1, HEAD, "selection", base=MORE_VIDEOS | {"selection": {"validation_share": 0.5}}),
    "runs": Case({"gig": {"head": {"lambda1": 0.3}}}, HEAD, "head"),
    "finetune.enabled": Case(True, FINETUNE, also={"finetune": {"epochs": 1}}),
    "finetune.run": Case(
        "other", FINETUNE, "finetuned", base=TUNED | {"runs": {"gig": {}, "other": {"head": {"lambda3": 1.0}}}}
    ),
    "finetune.unfreeze": Case("all", FINETUNE, "finetuned", base=TUNED),
    "finetune.epochs": Case(2, FINETUNE, "finetuned", base=TUNED),
    "finetune.batch_bags": Case(3, FINETUNE, "finetuned", base=TUNED),
    "finetune.optimizer": Case("adamw", FINETUNE, "finetuned", base=TUNED),
    "finetune.backbone_learning_rate": Case(1e-3, FINETUNE, "finetuned", base=TUNED),
    "finetune.head_learning_rate": Case(1e-2, FINETUNE, "finetuned", base=TUNED),
    "finetune.weight_decay": Case(0.1, FINETUNE, "finetuned", base=TUNED),
    "finetune.warmup_steps": Case(3, FINETUNE, "finetuned", base=TUNED),
    "finetune.schedule": Case("cosine", FINETUNE, "finetuned", base=TUNED),
    "finetune.clip_norm": Case(0.001, FINETUNE, "finetuned", base=TUNED),
    "finetune.patience_epochs": Case(1, FINETUNE, base=TUNED | MORE_VIDEOS | {"selection": {"validation_share": 0.5}}),
    "finetune.seed": Case(1, FINETUNE, "finetuned", base=TUNED),
    "machine.checkpoint_steps": Case(1, NONE, base=TUNED),
    "machine.keep_checkpoints": Case(1, NONE, base=TUNED),
    "machine.finetune_bags": Case(2, NONE, base=TUNED),
    "machine.activation_checkpointing": Case(True, NONE, base=TUNED),
    "machine.processes": Case(2, NONE, base=TUNED),
    "machine.batch_clips": Case(3, NONE),
    "machine.compile": Case(True, NONE),
    "machine.threads": Case(1, NONE),
    "machine.shards": Case(2, NONE),
    "machine.decode_workers": Case(2, NONE),
    "machine.decode_timeout_s": Case(60.0, NONE),
    "machine.max_quarantined": Case(3, NONE),
    "machine.checkpoint_epochs": Case(1, NONE),
    "machine.video_copies": Case("copies", NONE),
    "machine.video_copies_gb": Case(1.0, NONE),
    "machine.engine": Case("dask", NONE),
    "machine.scheduler": Case("tcp://nowhere:8786", NONE, also={"machine": {"engine": "dask"}}),
    "machine.cluster_wait_s": Case(5.0, NONE),
    "machine.cluster_resource": Case("frames", NONE),
    "machine.cluster_workers": Case(1, NONE),
    "paths.output": Case("elsewhere", ALL),
    "paths.cache": Case("other-cache", NONE),
    "paths.scratch": Case("other-mirror", NONE),
}
CSV = {
    "dataset(csv).name": Case("other", ALL),
    "dataset(csv).root": Case("copy", ALL),
    "dataset(csv).videos": Case("same.csv", MANIFEST | EVALUATION),
    "dataset(csv).annotations": Case("longer.csv", MANIFEST | EVALUATION, "evaluation"),
    "dataset(csv).classes": Case(["Fighting", "Explosion", "Accident"], MANIFEST | HEAD, "head"),
    "dataset(csv).normal_label": Case("Calm", MANIFEST | EVALUATION, also={"dataset": {"videos": "calm.csv"}}),
    "dataset(csv).whole_video_anomalous": Case(
        True, MANIFEST | EVALUATION, "evaluation", also={"dataset": {"annotations": None}}
    ),
}
ELSEWHERE = {  # where the field is tested instead
    "dataset(csv).adapter": "another adapter is another data set",
    "dataset(csv).frame_counts": "test_pipeline_frame_counts.py",
    "dataset(synthetic).adapter": "another adapter is another data set",
    "backbone.name": "tpn_slowonly_r50 takes long: test_the_backbone_is_part_of_the_features",
    "backbone.precision": "few CPUs have another: test_the_backbone_is_part_of_the_features and the engine's tests",
    "finetune.precision": "few CPUs have another: test_pipeline_stages_finetune.test_a_gpu_fits_in_mixed_precision",
    "features.train": "test_pipeline_imported_features.py",
    "features.test": "test_pipeline_imported_features.py",
    "machine.device": "test_machine_settings_bind: a CPU may be all there is",
}
PUBLISHED = tuple(f"dataset({name})" for name in ("ucf_crime", "xd_violence", "shanghaitech", "cityscene"))
ELSEWHERE |= {  # at the level of digests
    key: "test_pipeline_data_datasets.test_a_field_moves_exactly_what_depends_on_it"
    for key, _, _ in field_table()
    if key.startswith(PUBLISHED)
}
ELSEWHERE |= {
    key: "test_pipeline_models_heads.test_every_option_of_every_head_decides_something"
    for key, _, _ in field_table()
    if key.startswith("head(") and not key.startswith("head(gig)")
}
ELSEWHERE |= {
    key: "test_pipeline_data_city.test_every_setting_of_the_city_binds"
    for key, _, _ in field_table()
    if key.startswith("dataset(synthetic_city)")
}
ELSEWHERE |= {
    key: "test_expected.test_it_is_in_no_digest" for key, _, _ in field_table() if key.startswith("expected.")
}


def test_every_field_has_its_case():
    assert sorted([*SYNTHETIC, *CSV, *ELSEWHERE]) == sorted(key for key, _, _ in field_table())


OUTPUTS: dict[str, Callable[[Recipes], Step]] = {  # the step that writes what `content` reads
    "manifest": workflow.Manifest,
    "train": lambda recipes: workflow.ExtractFeatures(recipes, "train"),
    "test": lambda recipes: workflow.ExtractFeatures(recipes, "test"),
    "head": lambda recipes: workflow.TrainHead(recipes, "gig"),
    "finetuned": workflow.FineTune,
    "selection": lambda recipes: workflow.TrainHead(recipes, "gig"),
    "scores": lambda recipes: workflow.ScoreVideos(recipes, "gig"),
    "events": lambda recipes: workflow.Evaluate(recipes, "gig"),
    "evaluation": lambda recipes: workflow.Evaluate(recipes, "gig"),
}


def name_of(task: luigi.Task) -> str:
    return f"{task.task_family} {task.split}" if hasattr(task, "split") else task.task_family


def to_do(task: luigi.Task) -> set[str]:
    """The tasks that luigi would run for this one, which is found without running any."""
    if task.complete():
        return set()
    return {name_of(task)}.union(*map(to_do, task.requires()))


class Laboratory:
    """One set of folders in which experiments run, and a record of the tasks that do."""

    def __init__(self, folder: Path, experiment: dict) -> None:
        self.folder, self.experiment = folder, experiment
        self.numbers = itertools.count()
        self.finished: dict[str, Path] = {}

    def write(self, *changes: dict) -> Path:
        """Write the configuration of the experiment with some changes."""
        data = copy.deepcopy(self.experiment)
        for change in changes:
            for section, values in change.items():
                if isinstance(values, dict) and section != "runs":
                    data.setdefault(section, {}).update(values)
                else:
                    data[section] = values
        for section, key in (("paths", "output"), ("paths", "cache"), ("dataset", "root")):
            if key in data[section]:
                data[section][key] = str(self.folder / data[section][key])
        config = self.folder / f"{next(self.numbers)}.yaml"
        config.write_text(yaml.safe_dump(data))
        return config

    def run(self, config: Path) -> set[str]:
        """Run an experiment; the tasks that ran."""
        ran: set[str] = set()

        def note(task: luigi.Task) -> None:
            ran.add(name_of(task))

        luigi.Task.event_handler(luigi.Event.START)(note)
        try:
            assert luigi.build([EvaluateAll(config=str(config))], local_scheduler=True, log_level="ERROR")
        finally:
            luigi.Task.remove_event_handler(luigi.Event.START, note)
        return ran

    def base(self, settings: dict) -> Path:
        """The experiment with these settings, run to its end once for all cases that start from it."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self.finished:
            self.finished[key] = self.write(settings)
            self.run(self.finished[key])
        return self.finished[key]

    def check(self, name: str, case: Case, whole: bool) -> None:
        """Which tasks are to do after the change, and that the output in question differs.

        Args:
            name: of the field.
            case: what is expected.
            whole: run all of these tasks and see that no other one runs; else only the step that writes the output in
                question, and what it needs.
        """
        section, _, key = re.sub(r"\(\w+\)", "", name).partition(".")
        change = {section: {key: case.value}} if key else {section: case.value}
        before, after = self.base(case.base), self.write(case.base, change, case.also)
        assert to_do(EvaluateAll(config=str(before))) == NONE
        assert to_do(EvaluateAll(config=str(after))) == case.tasks
        if whole:
            assert self.run(after) == case.tasks
            assert to_do(EvaluateAll(config=str(after))) == NONE
        if case.differs:
            recipes = Recipes(load_experiment(after))
            ensure(OUTPUTS[case.differs](recipes), lambda step: nullcontext(SILENT))
            assert content(Recipes(load_experiment(before)), case.differs) != content(recipes, case.differs)


def content(recipes: Recipes, what: str) -> str:
    """A hash of what a stage wrote, without names of folders, digests and times."""
    parts: list[bytes] = []
    if what == "manifest":
        folder = recipes.manifest_folder
        for path in sorted([*folder.glob("*.csv"), *folder.glob("videos/*")]):
            parts += [path.name.encode(), path.read_bytes()]
    elif what in ("train", "test"):
        store, namespace = FeatureStore.open(recipes.experiment.paths.cache), recipes.namespace(what)
        for video_id in sorted(store.video_ids(namespace)):
            reader = store.reader(namespace, video_id)
            for view in range(reader.shape[0]):
                parts += [str((video_id, reader.shape, reader.record.dtype)).encode(), reader.features(view).tobytes()]
    elif what == "head":
        parts.append((recipes.head_folder("gig") / "head.safetensors").read_bytes())
    elif what == "finetuned":
        parts += [
            (recipes.finetune_folder / name).read_bytes() for name in ("backbone.safetensors", "head.safetensors")
        ]
    elif what == "selection":
        parts.append((recipes.head_folder("gig") / "selection.json").read_bytes())
    elif what == "scores":
        for path in sorted((recipes.scores_folder("gig") / "frames").iterdir()):
            parts += [path.name.encode(), str(pq.read_table(path).to_pydict()).encode()]
    elif what == "events":
        parts.append((recipes.operating_point_folder("gig") / "config.yaml").read_bytes())
        facts = json.loads((recipes.evaluation_folder("gig") / "metrics.json").read_text())
        parts.append(json.dumps(facts["events"]).encode())
    else:
        folder = recipes.evaluation_folder("gig")
        facts = json.loads((folder / "metrics.json").read_text())
        metrics = {key: facts[key] for key in ("auc", "ap", "mf1", "anomalous_frames", "figures", "events")}
        parts += [json.dumps(metrics).encode(), (folder / "per_class.csv").read_bytes()]
    assert parts
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Laboratory:
    """Generated videos."""
    experiment = copy.deepcopy(NANO) | {"runs": {"gig": {}}, "paths": {"output": "var", "cache": "cache"}}
    experiment["machine"]["decode_workers"] = 1  # many extractions, of few videos each
    return Laboratory(tmp_path_factory.mktemp("scenes"), experiment)


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> Laboratory:
    """The same videos as a CSV data set, with variants of its two files and a copy of the folder."""
    folder = tmp_path_factory.mktemp("listed")
    data = folder / "data"
    generate(SyntheticSpec(3, CLASSES, 2, 1, 1, 3, (16, 24), (40, 48)), data)
    videos, intervals = (data / "videos.csv").read_text(), (data / "annotations.csv").read_text()
    shutil.copy(data / "videos.csv", data / "same.csv")
    (data / "calm.csv").write_text(videos.replace(",Normal,", ",Calm,"))
    (data / "longer.csv").write_text(
        re.sub(r"\d+$", lambda match: str(int(match[0]) - 1), intervals, count=1, flags=re.MULTILINE)
    )
    shutil.copytree(data, folder / "copy")
    experiment = copy.deepcopy(NANO) | {"runs": {"gig": {}}, "paths": {"output": "var", "cache": "cache"}}
    experiment["machine"]["decode_workers"] = 1  # many extractions, of few videos each
    experiment["dataset"] = {"adapter": "csv", "name": "listed", "root": "data", "annotations": "annotations.csv"}
    experiment["dataset"]["classes"] = list(CLASSES)
    return Laboratory(folder, experiment)


def one_of_each(cases: dict[str, Case]) -> set[str]:
    """For every set of tasks the first case in which these rerun."""
    return set({case.tasks: name for name, case in reversed(cases.items())}.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_setting_of_a_generated_data_set(scenes, name):
    scenes.check(name, SYNTHETIC[name], whole=name in one_of_each(SYNTHETIC))


@pytest.mark.slow
@pytest.mark.parametrize("name", CSV)
def test_a_setting_of_a_listed_data_set(listed, name):
    listed.check(name, CSV[name], whole=name in one_of_each(CSV))


def test_the_backbone_is_part_of_the_features(nano):
    before = Recipes(parse_experiment(nano | {"backbone": {"name": "tpn_tiny", "weights": "random"}}))
    for change in ({"name": "tpn_slowonly_r50"}, {"precision": "bfloat16"}):
        after = Recipes(parse_experiment(nano | {"backbone": {"name": "tpn_tiny", "weights": "random"} | change}))
        for split in ("train", "test"):
            assert before.namespace(split) != after.namespace(split)
            assert before.features_digest(split) != after.features_digest(split)


def test_machine_settings_bind(nano, tmp_path):
    nano["machine"] = {
        "device": "cpu",
        "threads": 3,
        "batch_clips": 3,
        "decode_workers": 5,
        "decode_timeout_s": 7.0,
        "shards": 4,
    }
    experiment = parse_experiment(nano)
    threads = torch.get_num_threads()
    try:
        extractor = Extractor(experiment)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert extractor.engine.batch_clips == 3
    workers = experiment_workers(experiment)
    assert (workers.count, workers.timeout_s) == (5, 7.0)
    config = tmp_path / "machine.yaml"
    config.write_text(yaml.safe_dump(nano))
    assert [task.shard for task in ExtractFeatures(config=str(config), split="test").requires()] == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="'cuda:99' is not there"):
        pick_device("cuda:99")


def test_checkpoints_are_written_as_often_as_asked(tmp_path, monkeypatch):
    bags = Bags(("a", "b"), torch.rand(2, 1, 8), torch.rand(2, 1, 3, 8))
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    saved = []
    monkeypatch.setattr("pipeline.stages.training.train._checkpoint", lambda *state: saved.append(len(state[-1])))
    fit_head(bags, labels, Run.model_validate({"training": {"epochs": 9}}), 1, tmp_path, checkpoint_epochs=4)
    assert saved == [4, 8]
