"""Behaviour of the strict configuration and its digests."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.config import digest, field_table, load_experiment, parse_experiment, to_yaml
from pipeline.config_published import PUBLISHED, training_warnings
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


class TestPublishedTraining:
    def test_a_run_takes_all_of_it_and_can_change_some(self, nano):
        nano["training"] = {"learning_rate": 0.5, "weight_decay": 0.1, "seed": 3}
        head = {"name": "bn_wvad"}
        nano["runs"] = {
            "whole": {"training": "paper", "head": head},
            "part": {"head": head, "training": {"preset": "paper", "steps": 5}},
        }
        experiment = parse_experiment(nano)
        whole, part = (experiment.run(name).training for name in nano["runs"])
        assert (whole.optimizer, whole.learning_rate, whole.weight_decay, whole.clip_norm) == ("adam", 1e-4, 5e-5, 1.0)
        assert (whole.batch_bags, whole.steps, whole.seed) == (128, 1000, 3)
        assert part == whole.model_copy(update={"steps": 5})
        assert parse_experiment(yaml.safe_load(to_yaml(experiment))) == experiment

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_every_one_is_valid(self, nano, name):
        nano["runs"] = {"it": {"head": {"name": name}, "training": "paper"}}
        training = parse_experiment(nano).run("it").training
        assert all(getattr(training, field) == value for field, value in PUBLISHED[name].items())

    @pytest.mark.parametrize(
        ("runs", "expected"),
        [
            ({"gig": {"training": "papr"}}, "runs.gig.training.preset: there is only 'paper', got 'papr'"),
            (
                {"a": {"head": {"name": "attention_mil"}, "training": "paper"}},
                "runs.a.training: paper: no training of attention_mil",
            ),
            ({"a": {"training": {"preset": "paper", "stps": 3}}}, "runs.a.training.stps: unknown key; did you mean 'steps'?"),
        ],
    )
    def test_what_there_is_not_is_named(self, nano, runs, expected):
        nano["runs"] = runs
        with pytest.raises(ConfigError) as error:
            parse_experiment(nano)
        assert expected in str(error.value)

    def test_it_is_for_runs(self, nano):
        nano["training"] = "paper"
        with pytest.raises(ConfigError, match="a run can say `paper`: runs.<name>.training: paper"):
            parse_experiment(nano)

    def test_settings_that_nobody_chose_for_a_method_are_a_warning(self, nano):
        nano["training"] = {"learning_rate": 0.02}
        nano["runs"] = {
            "gig": {},
            "norm": {"head": {"name": "pattern_norm"}},
            "ranking": {"head": {"name": "mil_ranking"}},
            "cleaner": {"head": {"name": "gcn_label_noise"}, "training": {"epochs": 3}},
            "chosen": {"head": {"name": "rtfm", "p": 2}, "training": {"optimizer": "adam"}},
            "published": {"head": {"name": "ur_dmu"}, "training": "paper"},
        }
        ranking, cleaner = training_warnings(parse_experiment(nano))
        assert ranking.startswith(
            "runs.ranking: mil_ranking trains with adagrad, learning rate 0.02, those set for gig; its authors' are"
        )
        assert "adagrad, 0.01: `training: paper`" in ranking
        assert cleaner.startswith(
            "runs.cleaner: gcn_label_noise trains with adagrad, learning rate 0.02, those set for gig; choose"
        )

    def test_the_defaults_are_those_of_gig(self, nano):
        del nano["training"]
        nano["head"] = {"name": "bn_wvad"}
        nano["runs"] = {"it": {}}
        (line,) = training_warnings(parse_experiment(nano))
        assert "bn_wvad trains with adagrad, learning rate 0.001, the defaults, which are of gig" in line
        nano["head"] = {"k": 8}
        assert training_warnings(parse_experiment(nano)) == []
