"""Recognisers of mmaction2's zoo as backbones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmaction.apis import init_recognizer
from mmaction.structures import ActionDataSample
from torch import nn

from pipeline.config.features import Backbone
from pipeline.errors import ConfigError, WeightsError
from pipeline.models.backbone import build_quietly
from pipeline.models.backbones import mmaction_family as family
from pipeline.models.backbones.mmaction_network import (
    MapsOfClips,
    build_recognizer,
    initialise,
    shipped_config,
    shipped_names,
)
from pipeline.models.backbones.mmaction_survey import survey
from pipeline.models.backbones.mmaction_zoo import ZOO_FILE, recognisers, without_maps
from pipeline.models.backbones.registry import load_backbone
from pipeline.models.backbones.testing import BackboneTests

X3D = "x3d_s_13x6x1_facebook-kinetics400-rgb"
SLOWFAST = "slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb"
TSM = "tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb"
TSN = "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb"
SWIN = "swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb"
UNIFORMER = "uniformer-small_imagenet1k-pre_16x4x1_kinetics400-rgb"
SLOW = [
    ("c2d_r50-in1k-pre_8xb32-8x8x1-100e_kinetics400-rgb", 8, 64),
    ("ircsn_ig65m-pretrained-r50-bnfrozen_8xb12-32x2x1-58e_kinetics400-rgb", 8, 64),
    ("i3d_imagenet-pretrained-r50-nl-dot-product_8xb8-32x2x1-100e_kinetics400-rgb", 16, 64),
    ("mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb", 16, 64),
    ("slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb", 8, 64),
    ("r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb", 8, 64),
    ("slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb", 4, 64),
    (SWIN, 8, 64),
    ("tanet_imagenet-pretrained-r50_8xb8-dense-1x1x8-100e_kinetics400-rgb", 8, 64),
    ("tpn-slowonly_r50_8xb8-8x8x1-150e_kinetics400-rgb", 6, 64),
    ("tpn-tsm_imagenet-pretrained-r50_8xb8-1x1x8-150e_sthv1-rgb", 8, 64),
    (TSN, 3, 64),
    ("trn_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb", 3, 64),
    (UNIFORMER, 16, 64),
    ("vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400", 16, 64),
]
FAMILIES = [(X3D, 4, 64), (TSM, 8, 64)] + [pytest.param(*each, marks=pytest.mark.slow) for each in SLOW]


def settings(name: str, weights: object = "random") -> Backbone:
    return Backbone(name=f"mmaction:{name}", weights=str(weights), seed=1)


def clips_of(count: int, length: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, length, height, width, 3), generator=generator, dtype=torch.uint8)


def checkpoint(name: str, path: Path) -> Path:
    """A file of the whole recogniser, with weights and running statistics that no layer was made with."""
    recognizer = build_recognizer(name, 3)
    initialise(recognizer, 3)
    for module in recognizer.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.8, 1.5)
    torch.save({"meta": {"epoch": 1}, "state_dict": recognizer.state_dict()}, path)
    return path


def mmactions_own(name: str, path: Path, clips: torch.Tensor) -> list[object]:
    """What mmaction2 extracts of each clip, with its own loading, standardising and test mode."""
    config = shipped_config(name)
    config.model.backbone.pop("init_cfg", None)
    if config.model.backbone.type == "VisionTransformer":
        config.model.backbone.return_feat_map = True
    theirs = init_recognizer(config, str(path), device="cpu")
    found = []
    for clip in clips:
        of_frames = config.model.type == "Recognizer2D"
        inputs = clip.permute(0, 3, 1, 2) if of_frames else clip.permute(3, 0, 1, 2)[None]
        data = {"inputs": [inputs], "data_samples": [ActionDataSample()]}
        with torch.inference_mode():
            result = theirs.extract_feat(theirs.data_preprocessor(data)["inputs"], test_mode=True)
        found.append(result[0] if isinstance(result, tuple) else result)
    return found


def averaged(features: object) -> torch.Tensor:
    """A clip's features (rows, columns, D): maps averaged over time, pathways one behind the other."""
    if isinstance(features, tuple) and isinstance(features[0], list):  # MViT: [map, class token]
        features = features[0][0]
    levels = features if isinstance(features, tuple) else (features,)
    means = [level[0].mean(1) if level.ndim == 5 else level.mean(0) for level in levels]
    return torch.cat(means).permute(1, 2, 0)


@pytest.mark.parametrize(("name", "length", "size"), FAMILIES)
def test_features_are_those_of_mmaction2(name, length, size, tmp_path):
    path = checkpoint(name, tmp_path / "weights.pth")
    clips = clips_of(2, length, size, size)
    expected = torch.stack([averaged(each) for each in mmactions_own(name, path, clips)])
    network = family.load(settings(name, path))
    with torch.inference_mode():
        maps = network(clips)
    assert maps.dtype == torch.float32
    assert maps.shape == (2, *network.facts.map_size(size, size), network.channels)
    assert maps.std() > 1e-3
    assert (maps.min() >= 0) or not network.facts.non_negative
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_maps_of_frames_without_time_are_computed_once():
    backbone = {"type": "ResNet", "depth": 18, "norm_eval": False}
    recognizer = _small(backbone, "Recognizer2D")
    network = family.ZooBackbone(family.facts(settings(TSN)), MapsOfClips(recognizer), "random-2")
    clips = clips_of(2, 3, 64, 96)
    with torch.inference_mode():
        frames = network.frames(clips.transpose(0, 1).flatten(0, 1))
        maps = network.clips(frames.unflatten(0, (3, 2)))
        pictures = clips.permute(0, 1, 4, 2, 3).float()
        inputs = (pictures - network.mean.flatten()[:, None, None]) / network.std.flatten()[:, None, None]
        expected = recognizer.extract_feat(inputs)[0].unflatten(0, (2, 3)).mean(1).permute(0, 2, 3, 1)
    assert frames.shape == (6, 512, 2, 3)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


class TestX3D(BackboneTests):
    @pytest.fixture(scope="class")
    def settings(self):
        return Backbone(name=f"mmaction:{X3D}", weights="random")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [Backbone(name=f"mmaction:{name}", weights="random") for name in (SLOWFAST, SWIN, TSM, TSN, UNIFORMER)],
    ids=lambda settings: settings.model.partition("_")[0],
    scope="class",
)
class TestOthers(BackboneTests):
    pass


@pytest.fixture(scope="module")
def x3d():
    return family.load(settings(X3D))


def test_pictures_pass_the_first_step_as_they_are(x3d):
    clips = clips_of(1, 4, 64, 64)
    frames = x3d.frames(clips[0])
    assert frames.dtype == torch.uint8
    assert torch.equal(frames.permute(0, 2, 3, 1), clips[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_can_be_undone(dtype):
    network, clips = family.load(settings(X3D)), clips_of(1, 4, 64, 64)
    with torch.inference_mode():
        exact = network(clips)
        network.set_precision(dtype)
        maps = network(clips)
    assert maps.dtype == torch.float32
    assert not torch.equal(maps, exact)
    assert (maps - exact).norm() < 0.05 * exact.norm()
    network.set_precision(torch.float32)
    with torch.inference_mode():
        assert torch.equal(network(clips), exact)


def test_slowfast_gives_both_pathways_one_behind_the_other():
    slow, fast = torch.rand(1, 5, 4, 2, 3), torch.rand(1, 2, 32, 2, 3)
    network = family.ZooBackbone(family.facts(settings(SLOWFAST)), _Fixed([slow, fast]), "random-0")
    maps = network.clips(torch.zeros((32, 1, 3, 64, 96), dtype=torch.uint8))
    expected = torch.cat([slow.mean(2), fast.mean(2)], dim=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(maps, expected)
    assert network.channels == 2048 + 256


class _Fixed(nn.Module):
    """Gives the same maps for all clips."""

    by_frame = False

    def __init__(self, maps: list[torch.Tensor]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, clips: torch.Tensor) -> list[torch.Tensor]:
        return self.maps


@pytest.mark.parametrize("attention", ["divided_space_time", "joint_space_time", "space_only"])
def test_timesformer_gives_the_tokens_of_each_cell_and_step(attention):
    """Without its layers a token is the patch of its own place and time."""
    backbone = {
        "type": "TimeSformer",
        "num_frames": 4,
        "img_size": 64,
        "patch_size": 16,
        "embed_dims": 8,
        "num_heads": 2,
        "num_transformer_layers": 1,
        "attention_type": attention,
    }
    recognizer = _small(backbone)
    part = recognizer.backbone
    part.transformer_layers.forward = lambda tokens, *_: tokens
    part.pos_embed.data.zero_()
    if attention != "space_only":
        part.time_embed.data.zero_()
    clips = torch.randn(2, 3, 4, 64, 64)
    with torch.inference_mode():
        (maps,) = MapsOfClips(recognizer)(clips)
        patches = part.patch_embed.projection(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 4))
        patches = patches.transpose(1, 2)  # (N, D, steps, rows, columns)
        if attention == "space_only":
            patches = patches.mean(2, keepdim=True)
        expected = part.norm(patches.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(maps, expected)


def test_uniformer_v2_gives_the_tokens_of_each_cell_and_step():
    backbone = {
        "type": "UniFormerV2",
        "input_resolution": 64,
        "patch_size": 16,
        "width": 12,
        "layers": 1,
        "heads": 2,
        "t_size": 4,
        "return_list": [0],
        "n_layers": 1,
        "n_dim": 12,
        "n_head": 2,
        "mlp_dropout": [0.0],
        "clip_pretrained": False,
    }
    recognizer = _small(backbone)
    part = recognizer.backbone
    part.transformer.resblocks[0].forward = lambda tokens, *_: tokens
    part.positional_embedding.data.zero_()
    clips = torch.randn(2, 3, 4, 64, 64)
    with torch.inference_mode():
        (maps,) = MapsOfClips(recognizer)(clips)
        expected = part.ln_pre(part.conv1(clips).movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(maps, expected)


def _small(backbone: dict, kind: str = "Recognizer3D") -> nn.Module:
    recognizer = build_quietly({"type": kind, "backbone": backbone}, 2)
    recognizer.eval()
    return recognizer


def test_a_checkpoint_of_another_recogniser_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(3)}}, path)
    with pytest.raises(WeightsError, match=rf"not a checkpoint of mmaction:{X3D}: missing backbone\.conv1_s"):
        family.load(settings(X3D, path))


def test_a_checkpoint_without_its_head_is_refused(tmp_path):
    recognizer = build_recognizer(X3D, 3)
    state = {key: value for key, value in recognizer.state_dict().items() if key != "cls_head.fc2.weight"}
    torch.save({"state_dict": state}, tmp_path / "headless.pth")
    with pytest.raises(WeightsError, match=r"missing cls_head\.fc2\.weight"):
        family.load(settings(X3D, tmp_path / "headless.pth"))


def test_a_detector_holds_no_recognition_head():
    assert not any("head" in key for key in family.tensors(settings(X3D)))


@pytest.mark.parametrize("name", [TSM, SWIN])
def test_nothing_is_loaded_that_a_configuration_names(name, monkeypatch):
    """As shipped both begin with weights from the internet."""
    from mmengine.runner import checkpoint as loading

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a checkpoint was loaded")

    monkeypatch.setattr(loading.CheckpointLoader, "load_checkpoint", refused)
    recognizer = build_recognizer(name)
    assert not getattr(recognizer.backbone, "pretrained", None)
    assert recognizer.backbone.init_cfg is None or "Pretrained" not in str(recognizer.backbone.init_cfg)


def test_unknown_and_unusable_names_say_why():
    with pytest.raises(ConfigError, match=f"similar: .*{X3D}"):
        family.facts(settings("x3d_s_facebook-kinetics400"))
    with pytest.raises(ConfigError, match=f"similar: .*{X3D}"):
        family.facts(settings(X3D[: len("x3d_s")]))
    with pytest.raises(ConfigError, match="cannot be used: it ends in a vector of 4096 numbers"):
        family.facts(settings("c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb"))


@pytest.mark.parametrize(
    ("name", "frames", "message"),
    [
        (SLOWFAST, 12, r"takes clips of 8 or more frames \(a multiple of 8\); got 12"),
        (TSM, 6, "takes clips of 8 frames; got 6"),
    ],
)
def test_lengths_of_clips_that_a_recogniser_does_not_take(name, frames, message):
    with pytest.raises(ConfigError, match=message):
        family.facts(settings(name)).check_clip(frames)


@pytest.mark.slow
def test_the_list_is_what_is_measured():
    assert survey([X3D])["recognisers"][X3D] == json.loads(ZOO_FILE.read_text())["recognisers"][X3D]


@pytest.mark.slow
def test_tpn_in_both_forms_gives_the_same_features(tmp_path):
    name = "tpn-slowonly_imagenet-pretrained-r50_8xb8-8x8x1-150e_kinetics400-rgb"
    path, clips = checkpoint(name, tmp_path / "tpn.pth"), clips_of(1, 6, 64, 96)
    with torch.inference_mode():
        fast = load_backbone(Backbone(name="tpn_slowonly_r50", weights=str(path)))(clips)
        own = load_backbone(settings(name, path))(clips)
    torch.testing.assert_close(own, fast, rtol=1e-3, atol=1e-4 * float(fast.abs().max()))


def test_the_whole_list_has_all_that_mmaction2_ships():
    assert {*recognisers(), *without_maps()} == set(shipped_names())
