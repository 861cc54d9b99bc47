"""From videos to scores with an image model of timm, whose weight file the test writes."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from packs import outputs_of
from safetensors.torch import save_file

from cache import FeatureStore
from pipeline import Detector
from pipeline.config import parse_experiment
from pipeline.errors import ConfigError, DetectorError, WeightsError
from pipeline.models.backbones.timm_library import import_timm
from pipeline.stages.common.picture import check_backbone, fit_of, map_size
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.detector.export import export_onnx
from pipeline.stages.detector.packing import pack_detector
from pipeline.stages.scoring.score_loose import score_files
from pipeline.stages.scoring.tables import read_scores
from pipeline.steps import SILENT, ensure
from pipeline.workflow import ScoreVideos, usable_manifest

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


@pytest.fixture
def with_vit(nano, tmp_path) -> dict:
    """The nano experiment with a small image model; the weights differ from what any seed gives."""
    torch.manual_seed(5)
    save_file(import_timm().create_model("test_vit", num_classes=3).state_dict(), tmp_path / "vit.safetensors")
    nano["backbone"] = {"name": "timm:test_vit", "weights": str(tmp_path / "vit.safetensors"), "temporal": "diff"}
    nano["runs"] = {"gig": {}}
    return nano


def test_videos_become_maps_heads_and_scores(with_vit):
    recipes = Recipes(parse_experiment(with_vit))
    folder = ensure(ScoreVideos(recipes, "gig"), lambda step: nullcontext(SILENT))
    store, namespace = FeatureStore.open(recipes.experiment.paths.cache), recipes.namespace("test")
    assert "-timm-test_vit-windows-" in namespace
    video_id, *_ = sorted(store.video_ids(namespace))
    reader, record = store.reader(namespace, video_id), store.record(namespace, video_id)
    assert reader.shape[2:] == (10, 10, 2 * 64)  # its own 160 pixels in patches of 16; means, then changes
    assert record.provenance["backbone"]["name"] == "timm:test_vit"
    assert record.provenance["backbone"]["temporal"] == "diff"
    assert "timm" in record.provenance["versions"]
    maps = reader.features(0).astype(np.float32)
    assert maps[..., :64].min() < 0  # no ReLU ends such a network
    assert maps[..., 64:].min() >= 0
    scores, _ = read_scores(folder, usable_manifest(recipes).classes)
    assert all(np.isfinite(values).all() for values in scores.values())


def test_other_weights_and_another_way_through_time_are_other_features(with_vit, tmp_path):
    def namespace(**changes: object) -> str:
        return Recipes(parse_experiment(with_vit | {"backbone": with_vit["backbone"] | changes})).namespace("train")

    save_file(import_timm().create_model("test_vit").state_dict(), tmp_path / "other.safetensors")
    names = [namespace(), namespace(temporal="max"), namespace(temporal="mean"), namespace(name="timm:test_vit2")]
    names += [namespace(weights=str(tmp_path / "other.safetensors")), namespace(weights="random")]
    assert len(set(names)) == len(names)


def test_a_detector_holds_the_image_model(with_vit, make_video, tmp_path):
    experiment = parse_experiment(with_vit)
    outputs = outputs_of(experiment, tmp_path / "run")
    video = make_video("one.mp4", frames=9)
    score_files(experiment, "gig", outputs.head, [video], tmp_path / "scores")
    expected, _ = read_scores(tmp_path / "scores", outputs.manifest.classes)
    whole, light = tmp_path / "whole.safetensors", tmp_path / "light.safetensors"
    pack_detector(outputs, whole)
    pack_detector(outputs, light, with_backbone=False)
    weights = tmp_path / "vit.safetensors"
    for detector in (Detector.load(whole), Detector.load(light, weights=weights)):
        np.testing.assert_array_equal(detector.score(video).scores, expected["one.mp4"][:, : len(detector.classes)])
    with pytest.raises(DetectorError, match="only detectors with one of tpn_"):
        export_onnx(Detector.load(whole), tmp_path / "onnx")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(WeightsError, match="expected weights of timm:test_vit with SHA-256"):
        Detector.load(light, weights=weights).score(video)


def test_pictures_have_the_models_own_size_unless_it_is_named(with_vit):
    own = parse_experiment(with_vit)
    assert (map_size(own), check_backbone(own)) == ((10, 10), [])
    assert (fit_of(own).height, fit_of(own).width, fit_of(own).short_side) == (160, 160, 183)
    wide = parse_experiment(with_vit | {"preprocess": {"fit": "letterbox", "height": 96, "width": 160}})
    assert map_size(wide) == (6, 10)
    assert fit_of(wide).colour == (128, 128, 128)  # the mean that this model subtracts
    size, padding = check_backbone(wide)
    assert "was made for pictures of 160 x 160 pixels and sees 96 x 160" in size
    assert "features of timm:test_vit can be negative, and the padding of a letterbox has features of 0" in padding
    stretched = parse_experiment(with_vit | {"preprocess": {"fit": "stretch", "height": 96, "width": 160}})
    assert check_backbone(stretched) == [size]


def test_features_of_tpn_are_never_negative_so_nothing_is_said_of_padding(nano):
    box = {"fit": "letterbox", "height": 96, "width": 160}
    assert check_backbone(parse_experiment(nano | {"preprocess": box})) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preprocess": {"short_side": 128, "crop": 100}}, "160 x 160 pixels, or any multiples of 16; got 100 x 100"),
        ({"runs": {"gig": {"head": {"k": 101}}}}, "runs.gig: head.k is 101, a feature map has 100 positions"),
        ({"backbone": {"name": "timm:test_vot", "weights": "random"}}, "has no model 'test_vot'.*test_vit"),
        ({"backbone": {"name": "timm:test_vit.nonsense", "weights": "random"}}, "nonsense"),
        ({"backbone": {"name": "timm:test_vit_relpos", "weights": "random"}, "preprocess": {"crop": 224}}, "160 x 160"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_loaded(with_vit, changes, words):
    with pytest.raises(ConfigError, match=words):
        check_backbone(parse_experiment(with_vit | changes))
