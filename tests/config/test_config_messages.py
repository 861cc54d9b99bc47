"""What is said of a configuration with mistakes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.config import Experiment, load_experiment, parse_experiment
from pipeline.config.ablation import Ablation
from pipeline.config.wording import EXPECTED
from pipeline.errors import ConfigError

CSV = {"adapter": "csv", "name": "x", "root": "."}


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
        ("runs", {"gig": {"events": {}}}, "a run changes only head, training, selection, scoring, evaluation"),
        ("events", {"uper": 0.6}, "events.uper: unknown key; did you mean 'upper'?"),
        ("events", {"lower_share": 1.5}, "events.lower_share"),
        ("events", {"merge_gap_s": float("inf")}, "events.merge_gap_s"),
        (
            "events",
            {"by_class": {"Fire": {}}},
            "events.by_class.Fire: expected anomaly, for anomaly in general, or one of",
        ),
        ("events", {"by_class": {"Fighting": {"uper": 1}}}, "events.by_class.Fighting.uper: unknown key; did you mean"),
        (
            "dataset",
            {"adapter": "csv", "name": "own", "root": "own", "classes": ["Fire", "anomaly"]},
            "dataset.classes: 'anomaly' is the name of anomaly in general",
        ),
        ("test_sampling", {"stride_frames": 7}, "leaves frames between windows"),
        ("preprocess", {"crop": 288}, "crop (288) is larger than short_side (256)"),
        ("preprocess", {"width": 384}, "height and width are for fit stretch and letterbox"),
        ("preprocess", {"fit": "stretch", "width": 384}, "fit stretch needs height and width"),
        (
            "preprocess",
            {"fit": "letterbox", "height": 224, "width": 400},
            "preprocess.width: expected a multiple of 32",
        ),
        (
            "preprocess",
            {"fit": "stretch", "height": 224, "width": 384, "short_side": 288},
            "short_side decides nothing with fit stretch",
        ),
        ("preprocess", {"fit": "zoom"}, "preprocess.fit: expected one of crop, stretch, letterbox, got 'zoom'"),
    ],
)
def test_bad_values_are_named(nano, write_config, section, values, expected):
    nano[section] = values
    path = write_config(nano)
    with pytest.raises(ConfigError) as error:
        load_experiment(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("section", "value", "expected"),
    [
        ("dataset", "csv", "dataset: expected a section of keys with values, got 'csv'"),
        (
            "dataset",
            {"adapter": "cvs"},
            "dataset.adapter: no adapter 'cvs'; did you mean 'csv'? There are csv, ucf_crime",
        ),
        ("dataset", {"name": "x"}, "dataset.adapter: is missing, expected one of csv, ucf_crime"),
        (
            "dataset",
            {**CSV, "classes": "Fire"},
            "classes: expected a list, [a, b], got 'Fire'",
        ),
        ("dataset", {**CSV, "classes": []}, "classes: expected at least 1 value, got []"),
        (
            "dataset",
            {**CSV, "classes": ["a", True]},
            "classes, value 2: expected text, got true",
        ),
        ("dataset", {"adapter": "csv", "name": "x", "classes": ["a"]}, "dataset.root: is missing"),
        ("backbone", {"weights": 3}, "backbone.weights: expected text, got 3; put it in quotes"),
        ("experiment", "My Name", "experiment: expected at most 63 lower-case letters, digits"),
        ("experiment", None, "experiment: expected text, got nothing"),
        ("head", "gig", "head: expected a section of keys with values, got 'gig'"),
        ("head", {"name": "gigg"}, "head.name: no head 'gigg'; did you mean 'gig'?"),
        ("head", {"reduction": "avg"}, "head.reduction: expected one of spatial, mean, max, got 'avg'"),
        ("head", {"k": 1.0}, "head.k: expected a whole number of positions, or a share of them below 1, got 1.0"),
        ("head", {"k": 8.5}, "head.k: expected a whole number of positions, or a share of them below 1, got 8.5"),
        ("head", {"k": 0}, "head.k: expected a whole number of positions, or a share of them below 1, got 0"),
        ("head", {"k": "all"}, "head.k: expected a whole number of positions, or a share of them below 1, got 'all'"),
        ("head", {"dropout": 1.5}, "head.dropout: expected less than 1, got 1.5"),
        ("head", {"enhancement": "maybe"}, "head.enhancement: expected true or false, got 'maybe'"),
        ("head", {"lambda1": float("inf")}, "head.lambda1: expected a finite number, got inf"),
        (
            "training",
            None,
            "training: expected a section of keys with values, got nothing; leave it out, or give it keys",
        ),
        ("training", {"epochs": 1.5}, "training.epochs: expected a whole number, got 1.5"),
        ("training", {"epochs": "ten"}, "training.epochs: expected a whole number, got 'ten'"),
        ("training", {"learning_rate": 0}, "training.learning_rate: expected more than 0, got 0"),
        ("training", {1: 2}, "training.1: expected a key that is text, got 1"),
        ("preprocess", {"crop": 225}, "preprocess.crop: expected a multiple of 32, got 225"),
        ("paths", {"output": 3}, "paths.output: expected a path, got 3"),
        ("runs", [1], "runs: expected a section of keys with values, got [1]"),
        ("runs", {"Bad": {}}, "runs.Bad: expected at most 63 lower-case letters"),
        ("runs", {1: {}}, "runs.1: expected text, got 1; put it in quotes"),
        ("runs", {"gig": {"head": {"dropout": 2}}}, "  runs.gig.head.dropout: expected less than 1, got 2"),
    ],
)
def test_problems_are_said_in_plain_words(nano, section, value, expected):
    nano[section] = value
    with pytest.raises(ConfigError) as error:
        parse_experiment(nano)
    assert expected in str(error.value)
    for phrase in (
        "Input",
        "valid",
        "tuple",
        "dictionary",
        "discriminator",
        "tag",
        "Extra",
        "permitted",
        "string",
        "integer",
    ):
        assert phrase not in str(error.value)


def test_every_kind_of_error_that_the_models_raise_has_its_words():
    """A new type or limit of a field needs a line in `pipeline.config.wording`."""
    limits = {"ge": "greater_than_equal", "gt": "greater_than", "le": "less_than_equal", "lt": "less_than"}
    limits |= {"multiple_of": "multiple_of", "pattern": "string_pattern_mismatch", "min_length": "too_short"}
    limits |= {"max_length": "too_long"}
    types = {"bool": "bool_type", "int": "int_type", "float": "float_type", "str": "string_type", "tuple": "tuple_type"}
    types |= {
        "dict": "dict_type",
        "literal": "literal_error",
        "model": "model_type",
        "tagged-union": "union_tag_not_found",
    }
    silent = {
        "any",
        "default",
        "definitions",
        "definition-ref",
        "function-after",
        "function-plain",
        "is-instance",
        "nullable",
    }
    silent |= {
        "json-or-python",
        "lax-or-strict",
        "model-field",
        "model-fields",
        "no-info",
        "union",
        "function-before",
        "function-wrap",
    }

    def walk(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            if isinstance(kind := part.get("type"), str) and kind not in silent:
                yield types[kind]
                yield from (name for key, name in limits.items() if key in part)
            for value in part.values():
                yield from walk(value)
        elif isinstance(part, list | tuple):
            for value in part:
                yield from walk(value)

    kinds = {*walk(Experiment.__pydantic_core_schema__), *walk(Ablation.__pydantic_core_schema__)}
    assert len(kinds) > 10
    assert kinds <= set(EXPECTED)


def test_all_problems_are_listed_at_once(nano):
    nano["head"] = {"k": 0, "lamda1": 1}
    nano["training"] = {"epochs": 0}
    with pytest.raises(ConfigError, match="3 problem"):
        parse_experiment(nano)
