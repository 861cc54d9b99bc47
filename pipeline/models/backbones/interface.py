"""What a backbone is: a step for single frames, a step for clips, and facts that are known before it is loaded.

A frame lies in several windows, so what depends on one frame alone is computed once, by `frames`; `clips` does the
rest for the frames of a clip. A backbone that has nothing to compute of single frames passes the pictures on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.errors import ConfigError

__all__ = ["BackboneFacts", "VideoBackbone"]


@dataclass(frozen=True)
class BackboneFacts:
    """What is known of a backbone without its weights.

    Attributes:
        name: as in the configuration.
        channels: D of the maps.
        cell: pixels of the picture per position of a map, in each direction.
        longest_clip: most frames of a clip; None for any number.
        size: (height, width) of the pictures for which the weights were made, pixels; multiples of `cell`, so that the
            map covers the picture.
        any_size: whether it takes pictures of other sizes than `size`: all whose sides are multiples of `cell`.
        mean, std: by channel (RGB) of pictures with values 0 to 255; the backbone itself standardises its input.
        non_negative: whether all features are at least 0.
        shortest_clip: least frames of a clip.
        clip_multiple: number of which the frames of a clip must be a multiple.
    """

    name: str
    channels: int
    cell: int
    longest_clip: int | None
    size: tuple[int, int]
    any_size: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    non_negative: bool
    shortest_clip: int = 1
    clip_multiple: int = 1

    def __post_init__(self) -> None:
        if self.size[0] % self.cell or self.size[1] % self.cell:
            raise ConfigError(
                f"backbone.name: {self.name}: its facts say pictures of {self.size[0]} x {self.size[1]} pixels; "
                f"expected multiples of the {self.cell} pixels of a cell"
            )

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of the maps of pictures of a size in pixels.

        Raises:
            ConfigError: the backbone does not take pictures of this size.
        """
        fits = height % self.cell == width % self.cell == 0 and min(height, width) >= self.cell
        if (height, width) != self.size and not (self.any_size and fits):
            expected = f"{self.size[0]} x {self.size[1]} pixels"
            if self.any_size:
                expected += f", or any multiples of {self.cell}"
            raise ConfigError(f"backbone.name: {self.name} takes pictures of {expected}; got {height} x {width}")
        return height // self.cell, width // self.cell

    def check_clip(self, frames: int, setting: str = "backbone.name") -> None:
        """Raise ConfigError, which names the setting, if the backbone does not take clips of so many frames."""
        too_many = self.longest_clip is not None and frames > self.longest_clip
        if frames < self.shortest_clip or too_many or frames % self.clip_multiple:
            most = "or more" if self.longest_clip is None else f"to {self.longest_clip}"
            lengths = (
                str(self.shortest_clip) if self.shortest_clip == self.longest_clip else f"{self.shortest_clip} {most}"
            )
            multiple = f" (a multiple of {self.clip_multiple})" if self.clip_multiple > 1 else ""
            raise ConfigError(f"{setting}: {self.name} takes clips of {lengths} frames{multiple}; got {frames}")


class VideoBackbone(nn.Module, ABC):
    """A frozen feature extractor in evaluation mode.

    Attributes:
        facts: of it; the same as are known without its weights.
        weights_sha256: SHA-256 of its weight file, or `random-<seed>`.
        notes: what a person should know of how it was loaded, a sentence each.
        recordable: whether its steps launch the same kernels for all inputs of one shape and never wait for the device,
            so that a GPU can run them as CUDA graphs.
    """

    recordable = False

    def __init__(self, facts: BackboneFacts, weights_sha256: str) -> None:
        super().__init__()
        self.facts, self.weights_sha256 = facts, weights_sha256
        self.notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As in the configuration."""
        return self.facts.name

    @property
    def channels(self) -> int:
        """D of the maps."""
        return self.facts.channels

    @abstractmethod
    def frames(self, images: torch.Tensor) -> torch.Tensor:
        """What can be computed of single frames.

        Args:
            images: (n, H, W, 3) uint8 RGB, of a size that the facts allow.

        Returns:
            (n, C, h, w) of any C, h and w, in any type; row i depends on image i alone.
        """

    @abstractmethod
    def clips(self, frames: torch.Tensor) -> torch.Tensor:
        """The rest.

        Args:
            frames: (L, N, C, h, w), outputs of `frames`: step l of N clips of L frames.

        Returns:
            (N, rows, columns, D) float32, `facts.map_size` and `facts.channels`; row i depends on clip i alone.
        """

    @abstractmethod
    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in float32, bfloat16 or float16; inputs of `frames` and outputs of `clips` keep their types."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Feature maps (N, rows, columns, D) of clips (N, L, H, W, 3) uint8: both steps."""
        if clips.ndim != 5:
            raise ValueError(f"expected clips (N, L, H, W, 3), got {tuple(clips.shape)}")
        features = self.frames(clips.transpose(0, 1).flatten(0, 1))
        return self.clips(features.unflatten(0, (clips.shape[1], clips.shape[0])))
