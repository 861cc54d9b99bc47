"""Behaviour of the strict configuration and its digests."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from places import ROOT

from pipeline.config import Preprocess, digest, field_table, load_experiment, parse_experiment, to_yaml
from pipeline.config.doubts import training_warnings
from pipeline.config.published import PUBLISHED
from pipeline.config.runs import Selection
from pipeline.config.text import read_yaml
from pipeline.errors import ConfigError

CSV = {"adapter": "csv", "name": "x", "root": "."}


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("configs/*.yaml"), *ROOT.glob("configs/recipes/*.yaml")]), ids=lambda p: p.stem
)
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


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(12), "expected at most 100000 values, got 1234567901"),
        ("a: &a [*a]", "nested too deeply, or an alias"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: 1\nb: 2\na: 3", "the key 'a' is there twice, first in line 1"),
        ("a: 2024-13-45", "not valid YAML: month"),
        ("a: " + "x" * (1 << 20), "expected a configuration of at most 1048576 bytes"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("", "expected sections, `experiment: name` and so on, got nothing"),
        ("- 1", "expected sections"),
    ],
    ids=["aliases of aliases", "within itself", "deep", "twice", "a date", "long", "an object", "empty", "a list"],
)
def test_a_file_that_is_no_configuration_is_refused_at_once(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_experiment(tmp_path / "x.yaml")
    assert message in str(error.value)
    assert str(tmp_path / "x.yaml") in str(error.value)


def test_aliases_that_stay_small_are_resolved(tmp_path):
    (tmp_path / "x.yaml").write_text("base: &b {x: 1, y: 2}\nmore: {<<: *b, x: 3}\nsame: *b\n")
    assert read_yaml(tmp_path / "x.yaml") == {
        "base": {"x": 1, "y": 2},
        "more": {"x": 3, "y": 2},
        "same": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are_can_be_read(tmp_path, encoding):
    (tmp_path / "x.yaml").write_text("a: caf\u00e9", encoding=encoding)
    assert read_yaml(tmp_path / "x.yaml") == {"a": "caf\u00e9"}


def test_resolved_yaml_round_trips(nano):
    experiment = parse_experiment(nano)
    assert parse_experiment(yaml.safe_load(to_yaml(experiment))) == experiment


def test_a_tilde_is_the_home_folder(nano, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    nano["dataset"] = CSV | {"root": "~/videos", "classes": ["Fire"]}
    nano["backbone"]["weights"] = "~/w.pth"
    nano["paths"] = {"output": "~/out", "cache": "~/cache"}
    experiment = parse_experiment(nano)
    assert (experiment.dataset.root, experiment.backbone.weights) == (Path("/home/me/videos"), "/home/me/w.pth")
    assert (experiment.paths.output, experiment.paths.cache) == (Path("/home/me/out"), "/home/me/cache")
    nano["paths"] = {"cache": "s3://bucket/~me"}
    assert parse_experiment(nano).paths.cache == "s3://bucket/~me"


def test_digest_follows_content(nano):
    first = parse_experiment(nano)
    nano["head"]["k"] = 9
    assert digest(first.head) != digest(parse_experiment(nano).head)
    assert digest(first.training) == digest(parse_experiment(nano).training)


def test_a_backbone_may_be_left_out_where_nothing_is_extracted(nano):
    bare = {name: section for name, section in nano.items() if name != "backbone"}
    imported = {"train": "i3d-train", "test": "i3d-test"}
    assert parse_experiment(bare | {"features": imported}).backbone.weights == "bundled"
    assert parse_experiment(nano | {"features": imported}).backbone == parse_experiment(nano).backbone
    for features in ({}, {"test": "i3d-test"}):
        with pytest.raises(ConfigError, match="backbone: is missing"):
            parse_experiment(bare | {"features": features})


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
            (
                {"a": {"training": {"preset": "paper", "stps": 3}}},
                "runs.a.training.stps: unknown key; did you mean 'steps'?",
            ),
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


def test_events_of_a_class_have_its_changes_and_the_rest_of_the_section(nano):
    nano["events"] = {
        "merge_gap_s": 2.0,
        "by_class": {"Fighting": {"upper": 0.9}, "anomaly": {"false_alarms_per_hour": 0}},
    }
    events = parse_experiment(nano).events
    assert (events.of("Fighting").upper, events.of("Fighting").merge_gap_s, events.of("Accident").upper) == (
        0.9,
        2.0,
        0.5,
    )
    assert (events.of("anomaly").false_alarms_per_hour, events.of("Accident").false_alarms_per_hour) == (0.0, 1.0)
    assert [events.fixed(name) for name in ("Fighting", "Accident", "anomaly")] == [True, False, False]


def test_a_field_that_came_later_is_in_no_digest_unless_it_is_used():
    before = {"short_side": 256, "crop": 224}
    assert Preprocess().model_dump() == before == Preprocess(fit="crop").model_dump(mode="json")
    assert digest(Preprocess()) == digest(before)
    wide = Preprocess(fit="stretch", height=224, width=384)
    assert wide.model_dump() == {"fit": "stretch", "height": 224, "width": 384, **before}
    assert "fit: crop\n" in to_yaml(Preprocess())
    assert "train_videos" not in Selection().model_dump()
    assert Selection(train_videos=25).model_dump()["train_videos"] == 25


def test_k_is_a_number_of_cells_or_a_share_of_them(nano):
    nano["runs"] = {"number": {"head": {"k": 8.0}}, "share": {"head": {"k": 0.16}}}
    experiment = parse_experiment(nano)
    assert repr([experiment.run(name).head.k for name in nano["runs"]]) == "[8, 0.16]"
    assert parse_experiment(yaml.safe_load(to_yaml(experiment))) == experiment
