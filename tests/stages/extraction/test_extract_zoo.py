"""Extraction with a recogniser of mmaction2's zoo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_dataset import extract

from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.data.decoding.decode import iter_frames
from pipeline.errors import ConfigError
from pipeline.models.backbones import load_backbone
from pipeline.stages.common.picture import check_backbone, fit_of

SLOWFAST = "mmaction:slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb"
X3D = "mmaction:x3d_s_13x6x1_facebook-kinetics400-rgb"


@pytest.fixture
def zoo(nano, tmp_path):
    """Settings for X3D on pictures of 96 x 96 pixels."""
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting", "Robbery"]}
    nano["backbone"] = {"name": X3D, "weights": "random"}
    nano["preprocess"] = {"short_side": 96, "crop": 96}
    nano["machine"]["batch_clips"] = 2  # a window has frames of several batches
    nano["test_sampling"] = {"window_frames": 4, "stride_frames": 4}
    return nano


def test_windows_are_what_the_backbone_makes_of_them(zoo, manifest):
    experiment = parse_experiment(zoo)
    (video,) = (video for video in manifest.split("test") if video.video_id == "t1")
    report = extract(experiment, manifest, "test", [video], "ns")
    assert report.extracted == ("t1",)
    reader = FeatureStore.open(experiment.paths.cache).reader("ns", "t1")
    assert reader.shape[2:] == (3, 3, 432)
    frames = iter_frames(manifest.video_path("t1"), fit=fit_of(experiment))
    pictures = np.stack([frame.image for frame in frames])
    indices = reader.frames()[0]
    clips = torch.from_numpy(pictures)[torch.from_numpy(np.asarray(indices))]
    with torch.inference_mode():
        expected = load_backbone(experiment.backbone)(clips).numpy()
    assert clips.shape[1] == 4
    np.testing.assert_allclose(reader.features(0), expected, rtol=2e-3, atol=1e-3 * expected.max())


@pytest.mark.parametrize(
    ("section", "setting"), [("train_sampling", "clip_frames"), ("test_sampling", "window_frames")]
)
def test_clips_that_a_recogniser_does_not_take_are_said_with_their_setting(zoo, section, setting):
    zoo["backbone"]["name"] = SLOWFAST
    zoo["train_sampling"]["clip_frames"], zoo["test_sampling"]["window_frames"] = 8, 8
    check_backbone(parse_experiment(zoo))
    zoo[section][setting] = 6
    with pytest.raises(
        ConfigError, match=rf"^{section}\.{setting}: {SLOWFAST} takes clips of 8 or more frames \(a mult"
    ):
        check_backbone(parse_experiment(zoo))
    zoo["features"] = {section.partition("_")[0]: "imported"}
    check_backbone(parse_experiment(zoo))
