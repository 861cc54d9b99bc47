"""Choices made on the validation split; nothing but the evaluation can reach the ground truth of test videos."""

from __future__ import annotations

import ast
import json
import shutil

import luigi
import numpy as np
import pytest
import torch
from places import ROOT
from sklearn.metrics import f1_score

from pipeline.config import Run, load_experiment
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.saved_heads import load_head
from pipeline.stages.training.train import fit_head
from pipeline.stages.training.validation import Validation, best_threshold, read_thresholds
from tasks import Evaluate, EvaluateAll, Manifest, ScoreVideos


def bags(videos: int, seed: int) -> tuple[Bags, torch.Tensor]:
    """Bags in which class 1 shows in channel 0 and class 2 in channel 1."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(videos, 2, 4, 6, generator=generator)
    labels = torch.zeros(videos, 3)
    for i in range(videos):
        labels[i, i % 3] = 1
        if i % 3:
            patterns[i, :, i % 4, i % 3 - 1] += 1.5
    return Bags(tuple(f"v{i:02d}" for i in range(videos)), patterns.amax(dim=2), patterns), labels


def run(epochs: int) -> Run:
    return Run.model_validate({"training": {"epochs": epochs, "learning_rate": 0.05}})


def test_the_best_threshold_is_that_of_the_best_f1():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, positive = rng.random(12).round(1), rng.random(12) < 0.4
        positive[0] = True
        theta = best_threshold(scores, positive)
        candidates = [f1_score(positive, scores >= t) for t in np.linspace(0, 1.05, 22)]  # all there can be
        assert f1_score(positive, scores >= theta) == pytest.approx(max(candidates))
    assert best_threshold(np.array([0.9, 0.6, 0.2]), np.array([True, True, False])) == pytest.approx(0.4)
    assert best_threshold(np.array([0.9, 0.8]), np.array([True, True])) == pytest.approx(0.4)
    assert best_threshold(np.array([0.9]), np.array([False])) is None


def test_the_epoch_that_is_best_on_validation_is_kept(tmp_path):
    fitting, labels = bags(24, 0)
    validation = Validation(*bags(12, 1), p=2)
    states = []

    class Spy(Validation):
        def consider(self, head):
            super().consider(head)
            assert head.training
            states.append({name: value.clone() for name, value in head.state_dict().items()})

    validation.__class__ = Spy
    head = fit_head(fitting, labels, run(8), 2, tmp_path, validation=validation)
    assert len(validation.aucs) == 8
    best = validation.best_epoch
    assert validation.aucs[best - 1] == max(validation.aucs)
    assert max(validation.aucs[: best - 1], default=-1) < max(validation.aucs)  # the earliest of equals
    for name, value in head.state_dict().items():
        assert torch.equal(value, states[best - 1][name])


def test_looking_at_validation_changes_no_weight(tmp_path):
    fitting, labels = bags(24, 0)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = fit_head(fitting, labels, run(1), 2, tmp_path / "a")
    watched = fit_head(fitting, labels, run(1), 2, tmp_path / "b", validation=Validation(*bags(12, 1), p=2))
    assert all(torch.equal(value, watched.state_dict()[name]) for name, value in plain.state_dict().items())


def test_an_interrupted_selection_chooses_the_same_epoch(tmp_path):
    fitting, labels = bags(24, 0)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = Validation(*bags(12, 1), p=2)
    expected = fit_head(fitting, labels, run(8), 2, tmp_path / "a", validation=whole)

    def kill(done, total, message):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_head(fitting, labels, run(8), 2, tmp_path / "b", kill, 2, Validation(*bags(12, 1), p=2))
    again = Validation(*bags(12, 1), p=2)
    resumed = fit_head(fitting, labels, run(8), 2, tmp_path / "b", checkpoint_epochs=2, validation=again)
    assert again.aucs == whole.aucs
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in expected.state_dict().items())


def test_thresholds_are_written_and_read_by_class(tmp_path):
    validation = Validation(*bags(12, 1), p=2)
    validation.labels[:, 2] = False
    head = fit_head(*bags(24, 0), run(2), 2, tmp_path, validation=validation)
    validation.write(tmp_path, head, ("x", "y"))
    first, second = read_thresholds(tmp_path, ("x", "y"))
    assert 0 < first < 1
    assert second is None
    assert read_thresholds(tmp_path, ("y", "x")) == [None, first]
    (tmp_path / "none").mkdir()
    assert read_thresholds(tmp_path / "none", ("x", "y")) is None


@pytest.fixture
def selecting(nano, write_config):
    """The nano experiment with a validation split."""
    nano["dataset"] |= {"train_normal": 4, "train_per_class": 2}
    nano["selection"] = {"validation_share": 0.5}
    nano["runs"] = {"gig": {}}
    return write_config(nano)


@pytest.mark.slow
def test_training_selection_and_scoring_work_with_the_ground_truth_unreadable(selecting):
    """A folder in the place of every file with ground truth makes it unreadable, for any user."""
    assert luigi.build([Manifest(config=str(selecting))], local_scheduler=True, log_level="ERROR")
    recipes = Recipes(load_experiment(selecting))
    folder = recipes.manifest_folder
    files = [*(folder / "truth").iterdir(), folder / "annotations.csv", folder / "boxes.csv", folder / "videos.csv"]
    kept = folder.parent / "kept"
    kept.mkdir()
    for file in files:
        shutil.move(file, kept / file.name)
        file.mkdir()
    assert luigi.build([ScoreVideos(config=str(selecting))], local_scheduler=True, log_level="ERROR")
    index = json.loads((recipes.scores_folder("gig") / "index.json").read_text())
    assert len(index["thresholds"]) == 3
    assert not luigi.build([Evaluate(config=str(selecting))], local_scheduler=True, log_level="CRITICAL")
    for file in files:
        file.rmdir()
        shutil.move(kept / file.name, file)
    assert luigi.build([EvaluateAll(config=str(selecting))], local_scheduler=True, log_level="ERROR")
    metrics = json.loads((recipes.evaluation_folder("gig") / "metrics.json").read_text())
    assert metrics["threshold_from"] == "validation"
    chosen = json.loads((recipes.head_folder("gig") / "selection.json").read_text())
    assert metrics["threshold"] == list(chosen["thresholds"].values())
    assert len(chosen["validation_videos"]) == 2 + 3
    assert load_head(recipes.head_folder("gig") / "head.safetensors").classes == tuple(chosen["thresholds"])


def test_only_the_evaluation_asks_for_the_ground_truth():
    asking = set()
    for path in [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("tasks/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and any(
                k.arg == "truth" and getattr(k.value, "value", None) is True for k in node.keywords
            ):
                asking.add(path.relative_to(ROOT).as_posix())
    # An ablation judges all settings on the same videos.
    # The page shows the ground truth; gig explain draws it and gig export writes it, both only with --truth.
    evaluation = {f"pipeline/stages/evaluation/{name}.py" for name in ("evaluate", "judged")}
    evaluation.add("pipeline/ablation/judging.py")
    shown = {
        "pipeline/workflow/report.py",
        "pipeline/stages/report/from_tables.py",
        "pipeline/cli/explain.py",
        "pipeline/cli/export.py",
    }
    assert asking == evaluation | shown
