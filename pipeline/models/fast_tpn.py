"""The fast form of TPN on SlowOnly: the loaded module's own weights, arranged for speed. Knows no mmaction2.

- Batch norms are folded into the convolutions before them: once where the weights are frozen, in every pass where they
  are trained.
- Convolutions with temporal kernel 1 are 2-D ones on a batch of frames, channels last. Those with kernel (3, 1, 1) are
  2-D ones too, on one picture that is as high as the clip is long and as wide as there are positions.
- On a CUDA device the neck's grouped convolutions are matrix products; in bfloat16, where nothing is trained, bias, sum
  with the block's input and ReLU are part of the convolution's kernel.
- Stem, layer1 and layer2 look at one frame at a time (SlowOnly inflates layer3 and layer4 only), so `frames` computes
  them once a frame, whatever the number of windows it lies in, and `clips` does the rest.

Clips are time-major, (L, N, C, h, w): a shift in time is then a slice.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import conv2d, max_pool2d
from torch.utils.checkpoint import checkpoint

__all__ = ["FastTPN"]


class FastTPN(nn.Module):
    """TPN features in two steps; equal to the module it is made of but for rounding.

    Weights that require a gradient stay the network's own and get theirs through this form; frozen ones are copies.

    Args:
        network: a `pipeline.models.backbone.Backbone` in evaluation mode. It is not changed.
        checkpointing: compute the blocks' activations a second time in the backward pass instead of keeping them.

    Raises:
        ValueError: the network has a convolution that is neither (1, k, k) nor (3, 1, 1), or norms in training mode.
    """

    def __init__(self, network: nn.Module, *, checkpointing: bool = False) -> None:
        super().__init__()
        if network.training:
            raise ValueError(
                "expected a backbone in evaluation mode: its norms are folded with their running statistics"
            )
        self.checkpointing = checkpointing
        self.name, self.channels, self.weights_sha256 = network.name, network.channels, network.weights_sha256
        backbone, neck = network.backbone, network.neck
        self.register_buffer("mean", network.mean.flatten()[:, None, None].clone(), persistent=False)
        self.register_buffer("std", network.std.flatten()[:, None, None].clone(), persistent=False)
        stages = [nn.ModuleList(_Block(block) for block in getattr(backbone, name)) for name in backbone.res_layers]
        self.stem, self.pool = _Convolution(backbone.conv1), backbone.maxpool
        self.early, self.late = nn.ModuleList(stages[:2]), nn.ModuleList(stages[2:])
        if any(conv.taps > 1 for conv in (*self.early.modules(), self.stem) if isinstance(conv, _Convolution)):
            raise ValueError(
                "expected stem, layer1 and layer2 without a temporal kernel: they are computed frame by frame"
            )
        self.neck = _Neck(neck)
        self.eval()

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in float32, bfloat16 or float16; what goes in and comes out stays as it is."""
        for module in self.modules():
            if isinstance(module, _Convolution):
                module.to(dtype)

    def frames(self, images: torch.Tensor) -> torch.Tensor:
        """Stem, layer1 and layer2 of single frames.

        Args:
            images: (n, S, S, 3) uint8 RGB, S a multiple of 32.

        Returns:
            (n, C, S / 8, S / 8), channels last in memory, in the type of the weights.
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"expected images (n, S, S, 3), got {tuple(images.shape)}")
        inputs = images.permute(0, 3, 1, 2).float().sub_(self.mean).div_(self.std)  # channels last, as the images are
        maps = self.stem(inputs.to(self.stem.dtype)[None])[0]
        maps = max_pool2d(maps, self.pool.kernel_size[1:], self.pool.stride[1:], self.pool.padding[1:])[None]
        for stage in self.early:
            for block in stage:
                maps = self._block(block, maps)
        return maps[0]

    def clips(self, frames: torch.Tensor) -> torch.Tensor:
        """Layer3, layer4 and the neck.

        Args:
            frames: (L, N, C, h, w), outputs of `frames`, L at most 8.

        Returns:
            (N, S / 32, S / 32, 2048) float32, non-negative.
        """
        if not 1 <= len(frames) <= 8:
            raise ValueError(f"a clip of {len(frames)} frames is not one step after the neck; use at most 8")
        levels, maps = [], frames
        for stage in self.late:
            for block in stage:
                maps = self._block(block, maps)
            levels.append(maps)
        return self.neck(levels).permute(0, 2, 3, 1).float().contiguous()

    def _block(self, block: _Block, maps: torch.Tensor) -> torch.Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, maps, use_reentrant=False)
        return block(maps)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Feature maps of clips (N, L, S, S, 3) uint8, as `Backbone.forward` gives them."""
        if clips.ndim != 5:
            raise ValueError(f"expected clips (N, L, S, S, 3), got {tuple(clips.shape)}")
        features = self.frames(clips.transpose(0, 1).flatten(0, 1))
        return self.clips(features.unflatten(0, (clips.shape[1], clips.shape[0])))


class _Convolution(nn.Module):
    """One of mmaction2's convolution modules (convolution, norm, ReLU) on (L, N, C, h, w).

    Attributes:
        taps: temporal kernel, 1 or 3.
        weights: (O, I / groups, k, k), or (O, I / groups, 3, 1) of a temporal kernel of 3.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        conv, norm = module.conv, getattr(module, "bn", None)
        self.taps = conv.kernel_size[0]
        self.stride, self.padding, self.groups = conv.stride[1:], conv.padding[1:], conv.groups
        steps_in_time = conv.stride[0] == 1 and conv.dilation == (1, 1, 1) and conv.padding[0] == self.taps // 2
        positions_apart = (conv.kernel_size[1:], self.stride, self.padding) == ((1, 1), (1, 1), (0, 0))
        if self.taps not in (1, 3) or (self.taps == 3 and not positions_apart) or not steps_in_time:
            raise ValueError(f"expected a convolution (1, k, k) or (3, 1, 1) that keeps the time steps, got {conv}")
        if self.taps == 3:
            self.padding = (1, 0)
        self.by_group = self.groups > 1 and positions_apart
        self.relu = getattr(module, "activate", None) is not None
        trained = any(p.requires_grad for p in module.parameters())
        self._sources = (conv, norm) if trained else None  # a tuple, so that they are no second parameters of ours
        if not trained:
            weights, bias = _folded(conv, norm, torch.float64)
            self.register_buffer("weights", weights.float())
            self.register_buffer("bias", bias.float())

    @property
    def dtype(self) -> torch.dtype:
        """Of the input."""
        return torch.float32 if self._sources else self.weights.dtype

    def forward(self, maps: torch.Tensor, plus: torch.Tensor | None = None) -> torch.Tensor:
        """`plus`, of the output's shape, is added, and ReLU then comes last."""
        weights, bias = _folded(*self._sources, torch.float32) if self._sources else (self.weights, self.bias)
        pictures, shape = self._pictures(maps), (self.stride, self.padding, (1, 1), self.groups)
        relu = self.relu or plus is not None
        if relu and self._fused(maps):
            if plus is None:
                output = torch.cudnn_convolution_relu(pictures, weights, bias, *shape)
            else:
                output = torch.cudnn_convolution_add_relu(pictures, weights, self._pictures(plus), 1.0, bias, *shape)
            return self._maps(output, maps.shape)
        if maps.is_cuda and self.by_group:
            output = self._by_group(maps, weights, bias)
        else:
            output = self._maps(conv2d(pictures, weights, bias, *shape), maps.shape)
        output = output if plus is None else output.add_(plus)
        return output.relu_() if relu else output

    def _pictures(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (L, N, C, h, w) as what the 2-D convolution sees: (L N, C, h, w), or (1, C, L, N h w) for time steps as
        rows."""
        if self.taps == 1:
            return maps.flatten(0, 1)
        return maps.permute(0, 1, 3, 4, 2).flatten(1, 3).permute(2, 0, 1)[None]

    def _maps(self, pictures: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """`_pictures` undone, for maps of a shape (L, N, _, h, w) before the convolution."""
        if self.taps == 1:
            return pictures.unflatten(0, shape[:2])
        return pictures[0].permute(1, 2, 0).unflatten(1, (shape[1], *shape[3:])).permute(0, 1, 4, 2, 3)

    def _by_group(self, maps: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The convolution as a matrix product for each group, where a position of a step sees no other position."""
        (steps, clips), side = maps.shape[:2], maps.shape[3:]
        rows = maps.permute(0, 1, 3, 4, 2).flatten(0, 3).unflatten(1, (self.groups, -1)).transpose(0, 1)
        taps = (
            weights.squeeze(3).unflatten(0, (self.groups, -1)).permute(0, 2, 3, 1)
        )  # (groups, I / groups, taps, O / groups)
        parts = torch.bmm(rows, taps.flatten(2)).unflatten(2, taps.shape[2:]).unflatten(1, (steps, -1))
        output = parts[..., self.taps // 2, :]
        if self.taps == 3:
            output = output.clone()
            output[:, 1:] += parts[:, :-1, :, 0]
            output[:, :-1] += parts[:, 1:, :, 2]
        output = output.permute(1, 2, 0, 3).flatten(2) + bias.to(output.dtype)
        return output.unflatten(1, (clips, *side)).permute(0, 1, 4, 2, 3)

    def _fused(self, maps: torch.Tensor) -> bool:
        """Whether there is one kernel for all of it: on CUDA, without gradients, and not while torch.compile makes its
        own.

        In bfloat16 alone: its range is that of float32. In float16 a value can overflow, and the kernel's ReLU need not
        keep the NaN that comes of it; in float32 the kernels are no faster (docs/gpu.md).
        """
        if torch.compiler.is_compiling() or not maps.is_cuda or not torch.is_inference_mode_enabled():
            return False
        return self.groups == 1 and self.dtype == torch.bfloat16 and not torch.is_autocast_enabled("cuda")


def _folded(conv: nn.Module, norm: nn.Module | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, channels last, and bias (O,) of a convolution and the norm after it, as one; differentiable."""
    weight = conv.weight.to(dtype)
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.to(dtype)
    if norm is not None:
        scale = norm.weight.to(dtype) / (norm.running_var.to(dtype) + norm.eps).sqrt()
        weight = weight * scale.view(-1, 1, 1, 1, 1)
        bias = norm.bias.to(dtype) + (bias - norm.running_mean.to(dtype)) * scale
    # One of the kernel's time and height is 1, or its height and width are.
    weight = weight.squeeze(2) if weight.shape[2] == 1 else weight.squeeze(4)
    return weight.contiguous(memory_format=torch.channels_last), bias


class _Block(nn.Module):
    """A residual block: its convolutions, then the sum with its input, then ReLU."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        names = [name for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
        *first, last = (_Convolution(getattr(block, name)) for name in names)
        self.path, self.last = nn.Sequential(*first), last
        self.shortcut = _Convolution(block.downsample) if block.downsample is not None else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.last(self.path(maps), plus=self.shortcut(maps))


class _Neck(nn.Module):
    """TPN: the levels brought to one size and one time step, then two flows, top-down and bottom-up, fused (CVPR
    2020)."""

    def __init__(self, neck: nn.Module) -> None:
        super().__init__()
        self.spatial = nn.ModuleList(
            nn.Sequential(*map(_Convolution, ops)) if isinstance(ops, nn.ModuleList) else nn.Identity()
            for ops in neck.spatial_modulation.spatial_modulation
        )
        self.temporal = nn.ModuleList(_Convolution(op.conv) for op in neck.temporal_modulation_ops)
        self.pooled_steps = [op.pool.kernel_size[0] for op in neck.temporal_modulation_ops]
        self.upsample = neck.upsample_ops
        self.downsample = nn.ModuleList(_Convolution(op.conv) for op in neck.downsample_ops)
        self.fusions = nn.ModuleList(_Fusion(fusion) for fusion in (neck.level_fusion_1, neck.level_fusion_2))
        self.last = _Convolution(neck.pyramid_fusion)
        self.parallel = neck.flow_type == "parallel"
        pools = [op.pool for op in neck.downsample_ops]
        pools += [op.pool for fusion in (neck.level_fusion_1, neck.level_fusion_2) for op in fusion.downsamples]
        if any(tuple(_triple(pool.kernel_size)) != (1, 1, 1) for pool in pools) or min(self.pooled_steps) < 8:
            raise ValueError("expected a TPN neck that pools 8 time steps into one and nothing else")

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """Levels (L, N, C, h, w) -> (N, 2048, S / 32, S / 32)."""
        pooled = [
            temporal(spatial(level)).amax(dim=0, keepdim=True)
            for level, spatial, temporal in zip(levels, self.spatial, self.temporal, strict=True)
        ]
        flow = list(pooled)
        for i in range(len(flow) - 1, 0, -1):
            flow[i - 1] = flow[i - 1] + self._upsampled(i - 1, flow[i])
        top_down = self.fusions[0](flow)
        if self.parallel:
            flow = list(pooled)
        for i, downsample in enumerate(self.downsample):
            flow[i + 1] = flow[i + 1] + downsample(flow[i])
        bottom_up = self.fusions[1](flow)
        return self.last(torch.cat([top_down, bottom_up], dim=2))[0]

    def _upsampled(self, index: int, maps: torch.Tensor) -> torch.Tensor:
        if tuple(_triple(self.upsample[index].scale_factor)) == (1, 1, 1):
            return maps
        return self.upsample[index](maps.transpose(0, 1).transpose(1, 2)).transpose(1, 2).transpose(0, 1)


class _Fusion(nn.Module):
    """Level fusion: every level through its own convolution, then all of them through one."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.each = nn.ModuleList(_Convolution(op.conv) for op in fusion.downsamples)
        self.all = _Convolution(fusion.fusion_conv)

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        return self.all(torch.cat([conv(level) for conv, level in zip(self.each, levels, strict=True)], dim=2))


def _triple(value: float | tuple) -> tuple:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * 3
