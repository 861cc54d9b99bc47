"""The tests of a backbone as a class, for the tests of any backbone to inherit. Needs pytest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.config.features import Backbone as Settings
from pipeline.errors import ConfigError
from pipeline.models.backbones.interface import VideoBackbone
from pipeline.models.backbones.registry import (
    backbone_facts,
    backbone_tensors,
    can_be_packed,
    load_backbone,
    restore_backbone,
)
from pipeline.models.weights import weights_sha256

__all__ = ["BackboneTests", "pictures", "relative"]

ROUNDING = 1e-4
"""Relative difference that another size of the batch may make in float32."""


def pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Pictures (count, height, width, 3) uint8 of blocks in random colours, without a pattern that repeats."""
    values = np.random.default_rng(seed).integers(0, 256, (count, -(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return torch.from_numpy(values.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].copy())


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative difference: norm of the difference over norm of the other."""
    return float((one - other).norm() / other.norm().clamp_min(1e-30))


class BackboneTests:
    """What every backbone must do. Inherit from it and give the fixture `settings`:

    class TestMyBackbone(BackboneTests):
        @pytest.fixture(scope="class")
        def settings(self):
            return Backbone(name="python:my_package.my_backbone", weights="random")

    Attributes:
        half: relative difference that bfloat16 may make.
    """

    half = 5e-2

    @pytest.fixture(scope="class")
    def settings(self) -> Settings:
        """The section `backbone` of a configuration."""
        raise NotImplementedError("a subclass provides the settings of the backbone that is tested")

    @pytest.fixture(scope="class")
    def backbone(self, settings: Settings) -> VideoBackbone:
        """The backbone, loaded once for all tests."""
        return load_backbone(settings)

    @pytest.fixture(scope="class")
    def size(self, backbone: VideoBackbone) -> tuple[int, int]:
        """(height, width) of the pictures of the tests: not square, and small, where the backbone allows it."""
        facts = backbone.facts
        return (4 * facts.cell, 3 * facts.cell) if facts.any_size else facts.size

    @pytest.fixture(scope="class")
    def length(self, backbone: VideoBackbone) -> int:
        """Frames of the clips of the tests."""
        return max(backbone.facts.shortest_clip, min(backbone.facts.longest_clip or 4, 4))

    @pytest.fixture(scope="class")
    def clips(self, size: tuple[int, int], length: int) -> torch.Tensor:
        """Two clips (2, L, H, W, 3) uint8."""
        return pictures(2 * length, *size).unflatten(0, (2, length))

    @pytest.fixture(scope="class")
    def maps(self, backbone: VideoBackbone, clips: torch.Tensor) -> torch.Tensor:
        """The maps of the two clips."""
        with torch.inference_mode():
            return backbone(clips)

    def test_the_facts_are_known_before_it_is_loaded(self, settings: Settings, backbone: VideoBackbone) -> None:
        assert backbone.facts == backbone_facts(settings)
        assert backbone.name == settings.name
        assert backbone.facts.name == settings.name

    def test_maps_have_the_shape_and_type_that_the_facts_say(
        self, backbone: VideoBackbone, maps: torch.Tensor, size: tuple[int, int]
    ) -> None:
        assert maps.shape == (2, *backbone.facts.map_size(*size), backbone.channels)
        assert maps.dtype == torch.float32
        assert torch.isfinite(maps).all()
        assert maps.amin() >= 0 or not backbone.facts.non_negative

    def test_pictures_of_another_size_are_refused(self, backbone: VideoBackbone) -> None:
        height, width = backbone.facts.size
        with pytest.raises(ConfigError, match="takes pictures of"):
            backbone.facts.map_size(height + 1, width)

    def test_clips_of_another_length_are_refused(self, backbone: VideoBackbone) -> None:
        with pytest.raises(ConfigError, match="takes clips of"):
            backbone.facts.check_clip(backbone.facts.shortest_clip - 1)
        if backbone.facts.longest_clip:
            with pytest.raises(ConfigError, match="takes clips of"):
                backbone.facts.check_clip(backbone.facts.longest_clip + 1)

    def test_it_is_frozen(self, backbone: VideoBackbone) -> None:
        assert not any(module.training for module in backbone.modules())
        assert not any(parameter.requires_grad for parameter in backbone.parameters())

    def test_the_same_clips_give_the_same_maps(
        self, backbone: VideoBackbone, clips: torch.Tensor, maps: torch.Tensor
    ) -> None:
        before = clips.clone()
        with torch.inference_mode():
            assert torch.equal(backbone(clips), maps)
        assert torch.equal(clips, before)

    def test_every_clip_counts(self, backbone: VideoBackbone, maps: torch.Tensor) -> None:
        assert relative(maps[0], maps[1]) > 10 * ROUNDING

    def test_a_clip_does_not_depend_on_the_others(
        self, backbone: VideoBackbone, clips: torch.Tensor, maps: torch.Tensor
    ) -> None:
        with torch.inference_mode():
            alone = backbone(clips[1:])
        assert relative(alone[0], maps[1]) < ROUNDING

    def test_a_frame_does_not_depend_on_the_others(self, backbone: VideoBackbone, clips: torch.Tensor) -> None:
        images = clips.flatten(0, 1)
        with torch.inference_mode():
            together, alone = backbone.frames(images).float(), backbone.frames(images[2:3]).float()
        assert len(together) == len(images)
        assert relative(alone[0], together[2]) < ROUNDING

    def test_frames_that_windows_share_are_computed_once(
        self, backbone: VideoBackbone, size: tuple[int, int], length: int
    ) -> None:
        video = pictures(length + 2, *size, seed=1)
        windows = torch.stack([video[start : start + length] for start in range(3)])
        with torch.inference_mode():
            frames = backbone.frames(video)
            steps = torch.stack([frames[step : step + 3] for step in range(length)])
            assert relative(backbone.clips(steps), backbone(windows)) < ROUNDING

    def test_it_also_computes_in_bfloat16(self, settings: Settings, clips: torch.Tensor, maps: torch.Tensor) -> None:
        other = load_backbone(settings)
        other.set_precision(torch.bfloat16)
        with torch.inference_mode():
            rounded = other(clips)
        assert rounded.dtype == torch.float32
        assert 0 < relative(rounded, maps) < self.half

    def test_the_weights_are_known_by_their_hash(self, settings: Settings, backbone: VideoBackbone) -> None:
        random = settings.weights == "random"
        expected = f"random-{settings.seed}" if random else weights_sha256(settings.weights, settings.name)
        assert backbone.weights_sha256 == expected

    def test_it_is_the_same_when_loaded_again(
        self, settings: Settings, clips: torch.Tensor, maps: torch.Tensor
    ) -> None:
        before = torch.random.get_rng_state()
        again = load_backbone(settings)
        assert torch.equal(torch.random.get_rng_state(), before)
        with torch.inference_mode():
            assert torch.equal(again(clips), maps)

    def test_a_detector_gives_it_back(
        self, settings: Settings, backbone: VideoBackbone, clips: torch.Tensor, maps: torch.Tensor, tmp_path
    ) -> None:
        if not can_be_packed(settings):
            pytest.skip("a backbone that no detector holds")
        again = restore_backbone(settings, backbone_tensors(settings), backbone.weights_sha256, tmp_path / "detector")
        assert (again.facts, again.weights_sha256) == (backbone.facts, backbone.weights_sha256)
        with torch.inference_mode():
            assert torch.equal(again(clips), maps)
