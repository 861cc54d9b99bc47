"""A head scores only features that were made like those it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.config.heads import parse_head
from pipeline.config.runs import Training
from pipeline.errors import FeatureMismatch
from pipeline.stages.common.feature_recipe import FeatureRecipe, recipe_of, training_recipe
from pipeline.stages.explain.explain import Request, explain_cached
from pipeline.stages.scoring.score import score_split
from pipeline.stages.training.saved_heads import TrainedHead, check_features, load_head, make_head, save_head
from pipeline.stages.training.train import train_head

FILE = Path("head.safetensors")


@pytest.fixture
def recipes(nano) -> tuple[object, FeatureRecipe, FeatureRecipe]:
    """An experiment, and the recipes of its training and its test features."""
    experiment = parse_experiment(nano)
    train, test = experiment.train_sampling.model_dump(), experiment.test_sampling.model_dump()
    trained = FeatureRecipe(
        "tpn_tiny", "1a2b", "float32", experiment.preprocess.model_dump(), train, "float16", (7, 7, 2048)
    )
    return experiment, trained, replace(trained, sampling=test)


def head_on(features: FeatureRecipe | None, channels: int = 2048) -> TrainedHead:
    settings = parse_head({"name": "gig"})
    return TrainedHead(make_head(settings, Training(), channels, 2), settings, None, ("a", "b"), features, channels)


def test_a_head_fits_the_test_features_of_its_experiment(recipes):
    experiment, trained, at_hand = recipes
    assert check_features(head_on(trained), FILE, at_hand, experiment) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"backbone": "tpn_slowonly_r50"}, "backbone.name: the head tpn_tiny, here tpn_slowonly_r50"),
        ({"weights_sha256": "ffff"}, r"backbone.weights \(SHA-256\): the head 1a2b, here ffff"),
        ({"preprocess": {"short_side": 240, "crop": 224}}, "preprocess.short_side: the head 256, here 240"),
        ({"map_shape": (5, 5, 2048)}, "shape of a map: the head 7 x 7 x 2048, here 5 x 5 x 2048"),
        ({"backbone": None}, "the head was trained on tpn_tiny, these features are of imported features"),
    ],
)
def test_other_features_are_an_error_that_names_what_differs(recipes, change, named):
    experiment, trained, at_hand = recipes
    with pytest.raises(FeatureMismatch, match=named):
        check_features(head_on(trained), FILE, replace(at_hand, **change), experiment)


def test_a_configuration_with_other_training_clips_is_not_the_heads(recipes, nano):
    _, trained, at_hand = recipes
    nano["train_sampling"] = {"interval_frames": 2}
    with pytest.raises(FeatureMismatch, match=r"train_sampling\.interval_frames: the head 5, here 2"):
        check_features(head_on(trained), FILE, at_hand, parse_experiment(nano))
    nano["train_sampling"] = {"views": 3, "segments": 9, "seed": 4}  # which clips there are, not what one is
    assert check_features(head_on(trained), FILE, at_hand, parse_experiment(nano)) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"precision": "bfloat16"}, "backbone.precision: the head float32, here bfloat16"),
        ({"dtype": "float32"}, "storage.dtype: the head float16, here float32"),
        ({"sampling": {"window_frames": 9}}, "frames of a clip: the head 6, here 9"),
    ],
)
def test_what_is_only_rounded_or_set_on_purpose_is_a_warning(recipes, change, named):
    experiment, trained, at_hand = recipes
    (warning,) = check_features(head_on(trained), FILE, replace(at_hand, **change), experiment)
    assert named in warning


def test_of_a_head_that_says_nothing_the_channels_are_checked_and_the_rest_is_said(recipes):
    experiment, _, at_hand = recipes
    (warning,) = check_features(head_on(None), FILE, at_hand, experiment)
    assert "before heads recorded how their features were made" in warning
    with pytest.raises(FeatureMismatch, match="maps of 1024 channels, these have 2048"):
        check_features(head_on(None, channels=1024), FILE, at_hand, experiment)


def test_the_recipe_is_kept_in_the_file_of_the_head(recipes, tmp_path):
    _, trained, _ = recipes
    head = head_on(trained)
    save_head(tmp_path / FILE, head.module, head.settings, None, head.classes, trained)
    loaded = load_head(tmp_path / FILE)
    assert (loaded.features, loaded.channels) == (trained, 2048)


def test_training_features_of_two_recipes_are_refused(tmp_path):
    store = FeatureStore.open(tmp_path / "cache")
    for number, weights in enumerate(["aa", "aa", "bb"]):
        with store.writer("ns", f"v{number}", views=1, rows=1, columns=1, channels=4, frames_per_clip=1) as writer:
            writer.append(0, np.zeros((2, 1, 1, 4), np.float32), np.zeros((2, 1), np.int64))
            writer.commit({"backbone": {"name": "tpn_tiny", "weights_sha256": weights, "precision": "float32"}})
    assert training_recipe(store, "ns", ["v1", "v0"]).weights_sha256 == "aa"
    with pytest.raises(FeatureMismatch, match=r"made in different ways:\n  backbone.weights \(SHA-256\): v0 aa, v2 bb"):
        training_recipe(store, "ns", ["v0", "v1", "v2"])


def test_a_split_and_an_explanation_of_other_features_are_refused(cached, nano, tmp_path):
    experiment, manifest = cached
    head, store = tmp_path / "head", FeatureStore.open(experiment.paths.cache)
    train_head(experiment, "gig", manifest, "train", head)
    trained = load_head(head / FILE)
    assert trained.features == recipe_of(store.record("train", "f1"))
    score_split(experiment, "gig", manifest, "test", head, tmp_path / "scores")

    facts = recipe_of(store.record("test", "t1"))
    other = replace(facts, weights_sha256="0" * 64)
    save_head(head / FILE, trained.module, trained.settings, trained.standardizer, trained.classes, other)
    with pytest.raises(FeatureMismatch, match=f"backbone.weights .*: the head {'0' * 64}, here {facts.weights_sha256}"):
        score_split(experiment, "gig", manifest, "test", head, tmp_path / "again")
    with pytest.raises(FeatureMismatch, match="backbone.weights"):
        explain_cached(Request(experiment, "gig", head, 1), manifest, "test", "t1", tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()
