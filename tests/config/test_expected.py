"""The section `expected`: what it accepts, that it decides nothing, and that the shipped ones are about their files."""

from __future__ import annotations

import pytest
from places import ROOT

from pipeline.config import Experiment, load_experiment, parse_experiment
from pipeline.config.ablation import load_ablation
from pipeline.config.doubts import expected_warnings
from pipeline.errors import ConfigError
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.evaluation.evaluate import config_digest

METRIC = {"metric": "auc", "low": 0.7, "high": 0.8, "basis": "measured", "source": "gig evaluate"}
EXPECTED = {"train": {"videos": 4, "classes": {"Fighting": 1}}, "intervals": 3, "metrics": [METRIC | {"run": "gig"}]}


def folders(experiment: Experiment) -> list:
    recipes = Recipes(experiment)
    runs = [
        getattr(recipes, f"{kind}_folder")("gig")
        for kind in ("head", "scores", "operating_point", "events", "evaluation")
    ]
    found = config_digest(experiment, experiment.run("gig"), "frozen")
    whole = [recipes.manifest_folder, recipes.summary_folder, recipes.report_folder, recipes.proxies_folder]
    return [*runs, *whole, recipes.namespace("train"), recipes.namespace("test"), recipes.finetune_digest, found]


def test_it_is_in_no_digest(nano):
    without = folders(parse_experiment(nano))
    assert folders(parse_experiment(nano | {"expected": EXPECTED})) == without


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"metrics": [METRIC | {"low": 0.9}]}, "low (0.9) is more than high (0.8)"),
        ({"metrics": [METRIC | {"lo": 0.9}]}, "unknown key; did you mean 'low'?"),
        ({"metrics": [METRIC | {"metric": "accuracy"}]}, "expected one of auc, ap"),
        ({"test": {"frames": [9, 8]}}, "frames: the least (9) is more than the most (8)"),
        ({"test": {"video": 9}}, "expected.test.video: unknown key; did you mean 'videos'?"),
        ({"train": {"videos": -1}}, "expected.train.videos: expected at least 0"),
    ],
)
def test_bad_values_are_named(nano, expected, message):
    with pytest.raises(ConfigError) as error:
        parse_experiment(nano | {"expected": expected})
    assert message in str(error.value)


def test_names_that_are_not_there_are_warnings(nano):
    expected = {"test": {"classes": {"Fire": 2}}, "metrics": [METRIC | {"run": "best"}, METRIC]}
    lines = expected_warnings(parse_experiment(nano | {"expected": expected}))
    assert len(lines) == 2
    assert "no class 'Fire'" in lines[0]
    assert "no run 'best'" in lines[1]


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("configs/*.yaml"), *ROOT.glob("configs/recipes/*.yaml")]), ids=lambda p: p.stem
)
def test_shipped_expectations_add_up(path):
    experiment = load_experiment(path)
    assert expected_warnings(experiment) == []
    for split in (experiment.expected.train, experiment.expected.test):
        if split.classes and split.normal is not None:
            labels = sum(split.classes.values())
            if experiment.dataset.adapter in ("xd_violence", "synthetic_city"):  # several labels per video
                assert labels >= split.videos - split.normal
            else:
                assert labels == split.videos - split.normal


def test_an_ablation_keeps_the_counts_and_drops_the_metrics(nano, write_config):
    base = write_config(nano | {"expected": EXPECTED})
    settings = {"a": {}, "b": {"head": {"k": 4}}}
    path = write_config({"name": "parts", "base": str(base), "seeds": [0], "list": settings}, "ablation.yaml")
    for setting in load_ablation(path).settings:
        assert setting.experiment.expected.train.videos == 4
        assert setting.experiment.expected.metrics == ()
