"""Behaviour of the strict configuration and its digests."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.config import digest, field_table, load_experiment, parse_experiment, to_yaml
from pipeline.errors import ConfigError

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_config_is_valid(path):
    assert load_experiment(path).runs


def test_cityscene_is_the_paper():
    experiment = load_experiment(ROOT / "configs" / "cityscene.yaml")
    train, test, run = experiment.train_sampling, experiment.test_sampling, experiment.run("gig")
    assert (train.segments, train.clip_frames, train.interval_frames) == (8, 6, 5)
    assert (test.window_frames, test.stride_frames, test.interval_frames) == (6, 3, 1)
    assert (run.training.batch_bags, run.training.epochs, run.training.learning_rate) == (8, 100, 1e-3)
    assert run.training.optimizer == "adagrad"
    assert (run.head.lambda1, run.head.lambda2, run.head.lambda3, run.head.dropout) == (1.0, 0.5, 0.1, 0.5)
    assert (run.scoring.smooth_sigma, run.scoring.smooth_on) == (2.0, "windows")
    assert len(experiment.dataset.classes) == 12
    assert not run.head.standardize


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        ("head", {"lamda1": 3}, "head.lamda1: unknown key; did you mean 'lambda1'?"),
        ("hed", {}, "hed: unknown key; did you mean 'head'?"),
        ("head", {"k": 50}, "head.k is 50, a feature map has 49 positions"),
        ("head", {"p": 9}, "head.p is 9, a bag has 4 segments"),
        ("head", {"dropout": 1.0}, "head.dropout"),
        ("runs", {"gig": {"head": {"kk": 1}}}, "runs.gig.head.kk: unknown key; did you mean 'k'?"),
        ("runs", {"gig": {"backbone": {}}}, "a run changes only head, training, selection, scoring, evaluation"),
        ("runs", {}, "runs is empty"),
        ("test_sampling", {"stride_frames": 7}, "leaves frames between windows"),
        ("preprocess", {"crop": 288}, "crop (288) is larger than short_side (256)"),
    ],
)
def test_bad_values_are_named(nano, write_config, section, values, expected):
    nano[section] = values
    path = write_config(nano)
    with pytest.raises(ConfigError) as error:
        load_experiment(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)


def test_all_problems_are_listed_at_once(nano):
    nano["head"] = {"k": 0, "lamda1": 1}
    nano["training"] = {"epochs": 0}
    with pytest.raises(ConfigError, match="3 problem"):
        parse_experiment(nano)


@pytest.mark.parametrize("name", ["score", "frame", "Normal"])
def test_class_names_that_are_columns_of_the_tables_are_refused(nano, name):
    nano["dataset"]["classes"] = ["Explosion", name]
    with pytest.raises(ConfigError, match=name):
        parse_experiment(nano)


def test_missing_file_and_bad_yaml_are_config_errors(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        load_experiment(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_experiment(tmp_path / "bad.yaml")


def test_resolved_yaml_round_trips(nano):
    experiment = parse_experiment(nano)
    assert parse_experiment(yaml.safe_load(to_yaml(experiment))) == experiment


def test_digest_follows_content(nano):
    first = parse_experiment(nano)
    nano["head"]["k"] = 9
    assert digest(first.head) != digest(parse_experiment(nano).head)
    assert digest(first.training) == digest(parse_experiment(nano).training)


def test_every_field_is_documented():
    undocumented = [key for key, _, text in field_table() if not text and not key.endswith(".adapter")]
    assert undocumented == []
