"""The fast form of TPN on SlowOnly: the loaded module's own weights, arranged for speed. Knows no mmaction2.

- Every convolution is a 2-D one with its batch norm folded in (`pipeline.models.fast_convolution`). With a temporal
  kernel of 1 it runs on a batch of frames, channels last; with a kernel of (3, 1, 1) on one picture with one row per
  time step and one column per position.
- On a CUDA device the neck's grouped convolutions are matrix products; in bfloat16, where nothing is trained, bias, sum
  with the block's input and ReLU are part of the convolution's kernel.
- What comes before the first temporal kernel looks at one frame at a time, so `frames` computes it once per frame,
  however many windows the frame lies in, and `clips` does the rest. SlowOnly inflates layer3 and layer4 only; the small
  network `tpn_small` looks at time from layer2 on.

Clips are time-major, (L, N, C, h, w): a shift in time is then a slice.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pipeline.config.backbone_names import TPN_LONGEST_CLIP
from pipeline.models.backbone import MEAN, STD, Backbone
from pipeline.models.backbones.interface import BackboneFacts, VideoBackbone
from pipeline.models.fast_convolution import FastConvolution, TemporalConvolution, fast_convolution, part

__all__ = ["FastTPN", "tpn_facts"]


def tpn_facts(name: str) -> BackboneFacts:
    """What is known of `tpn_slowonly_r50` and the small stand-ins without their weights."""
    return BackboneFacts(
        name=name,
        channels=Backbone.channels,
        cell=32,
        longest_clip=TPN_LONGEST_CLIP,
        size=(224, 224),
        any_size=True,
        mean=MEAN,
        std=STD,
        non_negative=True,
    )


class FastTPN(VideoBackbone):
    """TPN features in two steps; equal to the module it is made of but for rounding.

    Weights that require a gradient stay the network's own and get theirs through this form; frozen ones are copies.

    Args:
        network: in evaluation mode. It is not changed.
        checkpointing: compute the blocks' activations a second time in the backward pass instead of keeping them.

    Raises:
        ValueError: the network has a convolution that is neither (1, k, k) nor (3, 1, 1), a stem that looks at time, or
            norms in training mode.
    """

    recordable = True
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Backbone, *, checkpointing: bool = False) -> None:
        super().__init__(tpn_facts(network.name), network.weights_sha256)
        if network.training:
            raise ValueError(
                "expected a backbone in evaluation mode: its norms are folded with their running statistics"
            )
        self.checkpointing = checkpointing
        self.register_buffer("mean", network.mean.flatten()[:, None, None].clone(), persistent=False)
        self.register_buffer("std", network.std.flatten()[:, None, None].clone(), persistent=False)
        layer1, layer2, layer3, layer4 = (
            [_Block(block) for block in part(network.backbone, name, nn.Sequential)]
            for name in ("layer1", "layer2", "layer3", "layer4")
        )
        self.stem = fast_convolution(part(network.backbone, "conv1", nn.Module))
        if isinstance(self.stem, TemporalConvolution):
            raise ValueError("expected a stem without a temporal kernel: it is computed frame by frame")
        self.pool = _pool_of_frames(part(network.backbone, "maxpool", nn.MaxPool3d))
        fine = layer1 + layer2
        of_frames = next((i for i, block in enumerate(fine) if _is_temporal(block)), len(fine))
        self.early, self.middle = nn.ModuleList(fine[:of_frames]), nn.ModuleList(fine[of_frames:])
        self.layer3, self.layer4 = nn.ModuleList(layer3), nn.ModuleList(layer4)
        self.neck = _Neck(network.neck)
        self.eval()

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in float32, bfloat16 or float16; inputs and outputs keep their types."""
        for module in self.modules():
            if isinstance(module, FastConvolution):
                module.to(dtype)

    def frames(self, images: torch.Tensor) -> torch.Tensor:
        """Stem and the first blocks of single frames.

        Args:
            images: (n, S, S, 3) uint8 RGB, S a multiple of 32.

        Returns:
            (n, C, S / 8, S / 8), or (n, C, S / 4, S / 4) where layer2 looks at time; channels last in memory, in the
            type of the weights.
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"expected images (n, S, S, 3), got {tuple(images.shape)}")
        inputs = images.permute(0, 3, 1, 2).float().sub_(self.mean).div_(self.std)  # channels last, as the images are
        maps = self.stem(inputs.to(self.stem.dtype)[None])[0]
        return self._through(self.early, self.pool(maps)[None])[0]

    def clips(self, frames: torch.Tensor) -> torch.Tensor:
        """The other blocks and the neck.

        Args:
            frames: (L, N, C, h, w), outputs of `frames`, L at most 8.

        Returns:
            (N, S / 32, S / 32, 2048) float32, non-negative.
        """
        if not 1 <= len(frames) <= TPN_LONGEST_CLIP:
            raise ValueError(f"a clip of {len(frames)} frames is not one step after the neck; use at most 8")
        fine = self._through(self.layer3, self._through(self.middle, frames))
        coarse = self._through(self.layer4, fine)
        return self.neck([fine, coarse]).permute(0, 2, 3, 1).float().contiguous()

    def _through(self, blocks: nn.ModuleList, maps: torch.Tensor) -> torch.Tensor:
        for block in blocks:
            if self.checkpointing and torch.is_grad_enabled():
                maps = checkpoint(block, maps, use_reentrant=False)
            else:
                maps = block(maps)
        return maps


class _Block(nn.Module):
    """A residual block: its convolutions, then the sum with its input, then ReLU."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        names = [name for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
        *first, last = (fast_convolution(part(block, name, nn.Module)) for name in names)
        self.path, self.last = nn.Sequential(*first), last
        changes_shape = getattr(block, "downsample", None) is not None
        self.shortcut = fast_convolution(part(block, "downsample", nn.Module)) if changes_shape else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.last(self.path(maps), plus=self.shortcut(maps))


def _is_temporal(block: nn.Module) -> bool:
    return any(isinstance(module, TemporalConvolution) for module in block.modules())


class _Neck(nn.Module):
    """TPN (CVPR 2020): the levels brought to one size and time step, then a top-down and a bottom-up flow, fused."""

    def __init__(self, neck: nn.Module) -> None:
        super().__init__()
        temporal = part(neck, "temporal_modulation_ops", nn.ModuleList)
        downsample = part(neck, "downsample_ops", nn.ModuleList)
        fusions = [part(neck, name, nn.Module) for name in ("level_fusion_1", "level_fusion_2")]
        pools = [
            op for ops in (downsample, *(part(each, "downsamples", nn.ModuleList) for each in fusions)) for op in ops
        ]
        if any(_pooled(op) != (1, 1, 1) for op in pools) or any(_pooled(op)[0] < 8 for op in temporal):
            raise ValueError("expected a TPN neck that pools 8 time steps into one and nothing else")
        self.spatial = nn.ModuleList(
            nn.Sequential(*map(fast_convolution, ops)) if isinstance(ops, nn.ModuleList) else nn.Identity()
            for ops in part(part(neck, "spatial_modulation", nn.Module), "spatial_modulation", nn.ModuleList)
        )
        self.temporal = nn.ModuleList(_convolution_of(op) for op in temporal)
        self.upsample = nn.ModuleList(
            nn.Identity() if _keeps_the_size(op) else op for op in part(neck, "upsample_ops", nn.ModuleList)
        )
        self.downsample = nn.ModuleList(_convolution_of(op) for op in downsample)
        self.top_down, self.bottom_up = (_Fusion(fusion) for fusion in fusions)
        self.last = fast_convolution(part(neck, "pyramid_fusion", nn.Module))
        self.parallel = part(neck, "flow_type", str) == "parallel"

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """Levels (L, N, C, h, w) -> (N, 2048, S / 32, S / 32)."""
        pooled = [
            temporal(spatial(level)).amax(dim=0, keepdim=True)
            for level, spatial, temporal in zip(levels, self.spatial, self.temporal, strict=True)
        ]
        flow = list(pooled)
        for i in range(len(flow) - 1, 0, -1):
            flow[i - 1] = flow[i - 1] + self._upsampled(i - 1, flow[i])
        top_down = self.top_down(flow)
        if self.parallel:
            flow = list(pooled)
        for i, downsample in enumerate(self.downsample):
            flow[i + 1] = flow[i + 1] + downsample(flow[i])
        bottom_up = self.bottom_up(flow)
        return self.last(torch.cat([top_down, bottom_up], dim=2))[0]

    def _upsampled(self, index: int, maps: torch.Tensor) -> torch.Tensor:
        upsample = self.upsample[index]
        if isinstance(upsample, nn.Identity):
            return maps
        clips = maps.transpose(0, 1).transpose(1, 2)  # (N, C, L, h, w)
        return upsample(clips).transpose(1, 2).transpose(0, 1)


class _Fusion(nn.Module):
    """Level fusion: every level through its own convolution, then all of them through one."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.each = nn.ModuleList(_convolution_of(op) for op in part(fusion, "downsamples", nn.ModuleList))
        self.all = fast_convolution(part(fusion, "fusion_conv", nn.Module))

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        return self.all(torch.cat([conv(level) for conv, level in zip(self.each, levels, strict=True)], dim=2))


def _convolution_of(op: nn.Module) -> FastConvolution:
    """Of a convolution with a pool beside it."""
    return fast_convolution(part(op, "conv", nn.Module))


def _pooled(op: nn.Module) -> tuple[float, ...]:
    """How many (steps, rows, columns) the pool beside a convolution makes one."""
    return _triple(part(op, "pool", nn.MaxPool3d).kernel_size)


def _keeps_the_size(op: nn.Module) -> bool:
    """Whether an upsampling changes nothing."""
    return isinstance(op, nn.Upsample) and op.scale_factor is not None and _triple(op.scale_factor) == (1, 1, 1)


def _pool_of_frames(pool: nn.MaxPool3d) -> nn.MaxPool2d:
    """A pool of (1, k, k) as one of single frames."""
    kernel, stride, padding = (
        (int(height), int(width)) for _, height, width in map(_triple, (pool.kernel_size, pool.stride, pool.padding))
    )
    return nn.MaxPool2d(kernel, stride, padding)


def _triple(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * 3
