"""Names of backbones: which there can be, and what they are called in namespaces."""

import itertools
import re

import pytest

from pipeline.config import parse_experiment
from pipeline.config.backbone_names import check_backbone_name, name_in_paths
from pipeline.config.features import NAMESPACE_PATTERN, Backbone
from pipeline.errors import ConfigError

GOOD = (
    "tpn_tiny",
    "timm:vit_base_patch16_clip_224.openai",
    "timm:convnextv2_atto",
    "mmaction:i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb",
    "mmaction:recognition/slowfast/slowfast_r50",
    "python:my_package.my_backbone",
)
BAD = (
    "tpn_huge",
    "vit_base",
    "timm:",
    ":vit",
    "timm:vit base",
    "timm:../vit",
    "mmaction:../../x",
    "python:os;x",
    "python:.x",
)


@pytest.mark.parametrize("name", GOOD)
def test_names_are_taken_and_safe_in_paths(name):
    assert check_backbone_name(name) == name
    assert re.fullmatch(NAMESPACE_PATTERN, name_in_paths(name))


@pytest.mark.parametrize("name", [*BAD, "timm:" + "x" * 200])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="backbone"):
        check_backbone_name(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet50", "timm:resnet50"),
        ("vit_base_patch16_clip_224.openai", "timm:vit_base_patch16_clip_224.openai"),
        ("tim:resnet50", "timm:resnet50"),
        ("x3d_m_16x5x1_facebook-kinetics400-rgb", "mmaction:x3d_m_16x5x1_facebook-kinetics400-rgb"),
        ("tpn_slowonly", "tpn_slowonly_r50"),
    ],
)
def test_the_name_that_was_probably_meant_is_said(name, meant):
    with pytest.raises(ValueError, match=re.escape(f"unknown backbone {name!r}; did you mean {meant}?")):
        check_backbone_name(name)
    assert check_backbone_name(meant) == meant


def test_tpn_keeps_its_name_in_paths():
    assert name_in_paths("tpn_slowonly_r50") == "tpn_slowonly_r50"


def test_different_names_differ_in_paths():
    models = ["".join(letters) for length in range(1, 6) for letters in itertools.product("aA-/4", repeat=length)]
    names = [f"{family}:{model}" for family in ("timm", "mmaction") for model in models] + ["timm:--41-", "tpn_tiny"]
    assert len({name_in_paths(name) for name in names}) == len(set(names))


def test_temporal_is_for_image_models_and_not_written_where_it_is_the_mean():
    with pytest.raises(ValueError, match="takes clips"):
        Backbone(name="tpn_tiny", weights="bundled", temporal="diff")
    mean, diff = (Backbone(name="timm:vit", weights="random", temporal=how) for how in ("mean", "diff"))
    assert "temporal" not in mean.model_dump()
    assert diff.model_dump()["temporal"] == "diff"


def test_tpn_takes_eight_frames_and_is_the_only_one_that_can_be_tuned(nano):
    nano["test_sampling"] = {"window_frames": 9}
    with pytest.raises(ConfigError, match="test_sampling.window_frames: tpn_tiny takes clips of 1 to 8 frames, got 9"):
        parse_experiment(nano)
    nano["backbone"] = {"name": "timm:vit_tiny_patch16_224", "weights": "random"}
    parse_experiment(nano)
    nano["finetune"] = {"enabled": True}
    with pytest.raises(ConfigError, match="finetune: only tpn_slowonly_r50, tpn_small, tpn_tiny can be fine-tuned"):
        parse_experiment(nano)


def test_the_own_picture_of_tpn_is_the_default_by_another_name(nano):
    own, plain = (parse_experiment(nano | {"preprocess": preprocess}) for preprocess in ({"crop": "own"}, {}))
    assert own.preprocess == plain.preprocess
    assert own.preprocess.size == (224, 224)
    with pytest.raises(ConfigError, match="preprocess.crop: tpn_tiny takes a number, 224 where it is left out"):
        parse_experiment(nano | {"preprocess": {"crop": "own", "fit": "crop"}})


@pytest.mark.parametrize("preprocess", [None, {}, {"fit": "crop"}, {"fit": "crop", "height": None, "width": None}])
def test_an_image_model_sees_its_own_size_unless_one_is_said(nano, preprocess):
    nano["backbone"] = {"name": "timm:test_vit", "weights": "random"}
    assert parse_experiment(nano | {"preprocess": preprocess}).preprocess.crop == "own"
    said = parse_experiment(nano | {"preprocess": {"fit": "crop", "crop": 224}})
    assert said.preprocess.size == (224, 224)
