"""The backbones of the program do what every backbone must."""

from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import save_file

from pipeline.config.features import Backbone
from pipeline.models.backbones.testing import BackboneTests
from pipeline.models.backbones.timm_library import import_timm

with_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


class TestTpnTiny(BackboneTests):
    @pytest.fixture(scope="class")
    def settings(self):
        return Backbone(name="tpn_tiny", weights="bundled")


@with_timm
class TestPatches(BackboneTests):
    """With a weight file, and the change between frames."""

    @pytest.fixture(scope="class")
    def settings(self, tmp_path_factory):
        torch.manual_seed(3)
        path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
        save_file(import_timm().create_model("test_vit").state_dict(), path)
        return Backbone(name="timm:test_vit", weights=str(path), temporal="diff")


@with_timm
class TestPatchesOf14WithRegisters(BackboneTests):
    """As DINOv2: patches of 14 pixels, made for 518 x 518, a class token and four registers, and a scale of layers."""

    @pytest.fixture(scope="class")
    def settings(self):
        return Backbone(name="timm:vit_small_patch14_reg4_dinov2", weights="random", temporal="max")


@with_timm
class TestClip(BackboneTests):
    """As CLIP: a norm before the blocks, no class in use."""

    @pytest.fixture(scope="class")
    def settings(self):
        return Backbone(name="timm:vit_xsmall_patch16_clip_224", weights="random")


@with_timm
class TestResNet(BackboneTests):
    @pytest.fixture(scope="class")
    def settings(self):
        return Backbone(name="timm:test_resnet", weights="random", seed=2)


@with_timm
class TestConvNeXt(BackboneTests):
    @pytest.fixture(scope="class")
    def settings(self):
        return Backbone(name="timm:test_convnext", weights="random", temporal="max")


@with_timm
class TestFixedSize(BackboneTests):
    """A network that takes pictures of one size only."""

    @pytest.fixture(scope="class")
    def settings(self):
        return Backbone(name="timm:test_vit_relpos", weights="random")


@with_timm
class TestChannelsLast(BackboneTests):
    """A network whose own maps are (n, h, w, D)."""

    @pytest.fixture(scope="class")
    def settings(self):
        return Backbone(name="timm:test_mambaout", weights="random")
