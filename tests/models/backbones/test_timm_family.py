"""Image models: what timm itself computes, of a clip the mean, maximum or change; and weights that are theirs alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from pipeline.cli.main import main
from pipeline.config.features import Backbone
from pipeline.errors import ConfigError, WeightsError
from pipeline.models.backbones import backbone_facts, load_backbone
from pipeline.models.backbones.testing import pictures, relative
from pipeline.models.backbones.timm_family import TimmBackbone
from pipeline.models.backbones.timm_library import import_timm

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


@pytest.fixture(scope="module")
def whole():
    """A model of timm with a classifier, as its authors would publish it."""
    torch.manual_seed(11)
    return import_timm().create_model("test_vit", num_classes=7).eval()


@pytest.fixture
def weights(whole, tmp_path):
    path = tmp_path / "vit.safetensors"
    save_file(whole.state_dict(), path)
    return path


def load(weights, name: str = "timm:test_vit", **settings: object):
    return load_backbone(Backbone(name=name, weights=str(weights), **settings))


def test_features_are_those_of_timm_without_the_class_token(whole, weights):
    images = pictures(2, 160, 160)
    inputs = images.permute(0, 3, 1, 2) / 255
    inputs = (inputs - 0.5) / 0.5  # mean and std of its pretrained_cfg
    with torch.inference_mode():
        tokens = whole.forward_features(inputs)
        found = load(weights).frames(images)
    assert whole.pretrained_cfg["mean"] == whole.pretrained_cfg["std"] == (0.5, 0.5, 0.5)
    expected = tokens[:, 1:].reshape(2, 10, 10, 64).permute(0, 3, 1, 2)  # row by row
    assert relative(found, expected) < 1e-5


def test_each_model_has_its_own_mean_and_size():
    clip, dino, siglip = (
        backbone_facts(Backbone(name=f"timm:{name}", weights="random"))
        for name in ("vit_base_patch16_clip_224.openai", "vit_small_patch14_dinov2", "vit_so400m_patch14_siglip_384")
    )
    assert [round(value / 255, 4) for value in clip.mean] == [0.4815, 0.4578, 0.4082]
    assert (clip.map_size(224, 224), clip.map_size(224, 384)) == ((14, 14), (14, 24))
    assert (dino.size, dino.map_size(518, 518), dino.map_size(224, 224)) == ((518, 518), (37, 37), (16, 16))
    assert (siglip.size, siglip.map_size(378, 378)) == ((378, 378), (27, 27))  # 6 of its 384 pixels fill no patch
    with pytest.raises(ConfigError, match="378 x 378 pixels, or any multiples of 14; got 384 x 384"):
        siglip.map_size(384, 384)


def test_a_size_that_is_not_whole_patches_is_that_of_timm():
    name, small = "vit_so400m_patch14_siglip_384", {"depth": 1, "embed_dim": 32, "num_heads": 2, "num_classes": 0}
    own = import_timm().create_model(name, **small).eval()
    flexible = import_timm().create_model(name, **small, dynamic_img_size=True).eval()
    flexible.load_state_dict(own.state_dict())
    images = pictures(1, 384, 384)
    with torch.inference_mode():
        expected = own.forward_features((images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
        backbone = TimmBackbone(Backbone(name=f"timm:{name}", weights="random"), flexible, "random-0")
        found = backbone.frames(images[:, :378, :378])
    assert relative(found.flatten(2).transpose(1, 2), expected) < 1e-5


@pytest.mark.parametrize("temporal", ["mean", "max", "diff"])
def test_clips_of_known_frames(weights, temporal):
    frames = torch.tensor([[1.0, -2.0], [4.0, -3.0], [2.0, -7.0]]).reshape(3, 1, 2, 1, 1)  # L = 3, N = 1, D = 2
    expected = {
        "mean": [7 / 3, -4.0],
        "max": [4.0, -2.0],
        "diff": [7 / 3, -4.0, (3 + 2) / 2, (1 + 4) / 2],
    }[temporal]
    found = load(weights, temporal=temporal).clips(frames)
    assert found.shape == (1, 1, 1, len(expected))
    torch.testing.assert_close(found.flatten(), torch.tensor(expected))


def test_a_single_frame_does_not_change(weights):
    found = load(weights, temporal="diff").clips(torch.ones(1, 2, 64, 3, 5))
    assert found.shape == (2, 3, 5, 128)
    assert found[..., :64].eq(1).all()
    assert found[..., 64:].eq(0).all()


def test_only_the_classifier_is_left_out_and_by_name(whole, weights, tmp_path):
    assert load(weights).notes == ("the classifier in vit.safetensors is not used: head.bias, head.weight",)
    state = whole.state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "vit.pth")
    assert load(tmp_path / "vit.pth").state_dict().keys() == load(weights).state_dict().keys()
    for name, change, words in (
        ("missing", {"norm.weight": None}, "missing norm.weight"),
        ("more", {"header.weight": torch.ones(1)}, "unexpected header.weight"),
        ("shape", {"cls_token": torch.ones(1, 1, 63)}, r"cls_token: expected \(1, 1, 64\), got \(1, 1, 63\)"),
    ):
        other = {key: value for key, value in (state | change).items() if value is not None}
        save_file(other, tmp_path / f"{name}.safetensors")
        with pytest.raises(WeightsError, match=words):
            load(tmp_path / f"{name}.safetensors")


def test_an_original_checkpoint_is_converted_by_timm_and_said(tmp_path):
    torch.manual_seed(1)
    small = import_timm().create_model("vit_small_patch14_reg4_dinov2", num_classes=0)
    own = small.state_dict()
    original = {key: value for key, value in own.items() if key not in ("cls_token", "reg_token", "pos_embed")}
    original["register_tokens"], original["mask_token"] = own["reg_token"], torch.zeros(1, 384)
    original["cls_token"] = torch.zeros(1, 1, 384)  # whose position is one of those in the file
    original["pos_embed"] = torch.cat([own["cls_token"], own["pos_embed"]], dim=1)
    torch.save(original, tmp_path / "dinov2.pth")
    loaded = load(tmp_path / "dinov2.pth", name="timm:vit_small_patch14_reg4_dinov2")
    (note,) = loaded.notes
    assert "dinov2.pth has names of another project" in note
    assert all(torch.equal(value, own[key]) for key, value in loaded.network.state_dict().items())
    original["pos_embed"] = original["pos_embed"][:, : 1 + 16 * 16]  # of pictures of 224 x 224
    torch.save(original, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no weights of timm:vit_small_patch14_reg4_dinov2 by the names of timm"):
        load(tmp_path / "other.pth", name="timm:vit_small_patch14_reg4_dinov2")


def test_position_embeddings_of_another_size_are_not_made_to_fit(whole, tmp_path):
    state = whole.state_dict()
    save_file(state | {"pos_embed": state["pos_embed"][:, :65].contiguous()}, tmp_path / "small.safetensors")
    with pytest.raises(WeightsError, match=r"pos_embed: expected \(1, 101, 64\), got \(1, 65, 64\)"):
        load(tmp_path / "small.safetensors")


def test_weights_of_another_model_and_missing_ones_are_refused(weights, tmp_path):
    with pytest.raises(WeightsError, match="no weights of timm:test_vit2 by the names of timm"):
        load(weights, name="timm:test_vit2")
    with pytest.raises(WeightsError, match=r"no such weight file .*you bring \(docs/backbones\.md\)"):
        load(tmp_path / "nowhere.safetensors")
    with pytest.raises(WeightsError, match="has no bundled weights"):
        load("bundled")


def test_the_command_checks_weights(weights):
    result = CliRunner().invoke(main, ["weights", "check", str(weights), "--backbone", "timm:test_vit"])
    assert result.exit_code == 0, result.output
    assert "the classifier in vit.safetensors is not used: head.bias, head.weight" in result.output
    assert "fits timm:test_vit, sha256" in result.output
    refused = CliRunner().invoke(main, ["weights", "check", str(weights), "--backbone", "tim:test_vit"])
    assert refused.exit_code != 0
    assert "unknown backbone 'tim:test_vit'" in str(refused.output) + str(refused.exception)


def test_nothing_is_asked_of_the_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("something is downloaded"))
    settings = Backbone(name="timm:test_vit.r160_in1k", weights="random")
    assert load_backbone(settings).weights_sha256 == "random-0"
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_configuration_is_read_without_torch_and_timm():
    program = (
        "import sys; from pipeline.config.features import Backbone; Backbone(name='timm:vit', weights='random'); "
        "sys.exit(len({'torch', 'timm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
