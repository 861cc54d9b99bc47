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
from pathlib import Path

import luigi
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import NANO
from invalidation_cases import CSV, ELSEWHERE, NONE, SYNTHETIC, Case

from cache import FeatureStore
from pipeline import workflow
from pipeline.config import field_table, load_experiment
from pipeline.data.synthetic.generate import CLASSES, SyntheticSpec, generate
from pipeline.stages.common.recipes import Recipes
from pipeline.steps import SILENT, Step, ensure
from tasks import EvaluateAll


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
