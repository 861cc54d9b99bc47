"""One of mmaction2's convolution modules (convolution, norm, ReLU) as a single 2-D convolution, for `fast_tpn`.

The norm is folded into the convolution: once where the weights are frozen, in every pass where they are trained. Maps
are time-major, (L, N, C, h, w) for L time steps of N clips.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn
from torch.nn.functional import conv2d

__all__ = ["FastConvolution", "SpatialConvolution", "TemporalConvolution", "fast_convolution", "folded", "part"]

Part = TypeVar("Part")
Pair = tuple[int, int]


def part(owner: nn.Module, name: str, kind: type[Part]) -> Part:
    """An attribute of a module whose class says nothing of its attributes.

    Args:
        owner: the module.
        name: of the attribute, a submodule or a plain value.
        kind: the type that it has.

    Raises:
        ValueError: there is none, or it is of another type: the network is not the one expected.
    """
    found = getattr(owner, name, None)
    if not isinstance(found, kind):
        raise ValueError(
            f"{type(owner).__name__}.{name}: expected {kind.__name__}, got {type(found).__name__}; not TPN on SlowOnly"
        )
    return found


def fast_convolution(module: nn.Module) -> FastConvolution:
    """The fast form of one of mmaction2's convolution modules.

    Args:
        module: `conv`, then `bn` and `activate` where it has them.

    Raises:
        ValueError: the kernel is neither (1, k, k) nor (3, 1, 1), or time steps are lost.
    """
    conv = part(module, "conv", nn.Conv3d)
    norm = part(module, "bn", nn.BatchNorm3d) if getattr(module, "bn", None) is not None else None
    relu = getattr(module, "activate", None) is not None
    taps = conv.kernel_size[0]
    keeps_steps = conv.stride[0] == 1 and conv.dilation == (1, 1, 1) and conv.padding[0] == taps // 2
    if taps == 1 and keeps_steps:
        return SpatialConvolution(conv, norm, relu)
    if taps == 3 and keeps_steps and _pointwise(conv):
        return TemporalConvolution(conv, norm, relu)
    raise ValueError(f"expected a convolution (1, k, k) or (3, 1, 1) that keeps the time steps, got {conv}")


class FastConvolution(nn.Module):
    """A convolution with its norm and ReLU. The subclasses say what picture the 2-D convolution sees.

    Args:
        conv, norm: the module's own; `norm` is None where it has none.
        relu: whether a ReLU comes last.

    Attributes:
        weights: (O, I / groups, height, width) of the 2-D kernel; of frozen modules only.
        bias: (O,); of frozen modules only.
        stride, padding: (height, width) of the 2-D convolution.
        by_group: whether a grouped convolution can be a matrix product for each group, as every position is by itself.
    """

    weights: torch.Tensor
    bias: torch.Tensor
    stride: Pair
    padding: Pair

    def __init__(self, conv: nn.Conv3d, norm: nn.BatchNorm3d | None, relu: bool) -> None:
        super().__init__()
        self.groups, self.relu = conv.groups, relu
        self.by_group = self.groups > 1 and _pointwise(conv)
        trained = any(p.requires_grad for module in (conv, norm) if module is not None for p in module.parameters())
        # In a tuple, so that they are not registered here: their parameters belong to the network.
        self._trained = (conv, norm) if trained else None
        if not trained:
            weights, bias = folded(conv, norm, torch.float64)
            self.register_buffer("weights", weights.float())
            self.register_buffer("bias", bias.float())

    @property
    def dtype(self) -> torch.dtype:
        """Of the input."""
        return torch.float32 if self._trained else self.weights.dtype

    def forward(self, maps: torch.Tensor, plus: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve.

        Args:
            maps: (L, N, I, h, w).
            plus: of the output's shape; is added to the output, and a ReLU follows.

        Returns:
            (L, N, O, h', w').
        """
        weights, bias = self._weights()
        relu = self.relu or plus is not None
        if relu and self._fused(maps):
            return self._in_one_kernel(maps, plus, weights, bias)
        if maps.is_cuda and self.by_group:
            output = self._by_group(maps, weights, bias)
        else:
            pictures = conv2d(self._pictures(maps), weights, bias, self.stride, self.padding, (1, 1), self.groups)
            output = self._maps(pictures, maps.shape)
        output = output if plus is None else output.add_(plus)
        return output.relu_() if relu else output

    def _weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self._trained is None:
            return self.weights, self.bias
        conv, norm = self._trained
        return folded(conv, norm, torch.float32)

    def _pictures(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (L, N, C, h, w) as the pictures that the 2-D convolution sees."""
        raise NotImplementedError

    def _maps(self, pictures: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """`_pictures` undone. `shape` is that of the maps before the convolution, (L, N, _, h, w)."""
        raise NotImplementedError

    def _sum_of_taps(self, parts: torch.Tensor) -> torch.Tensor:
        """Products (groups, L, N h w, taps, O / groups) of every tap summed in time: (groups, L, N h w, O / groups)."""
        raise NotImplementedError

    def _by_group(self, maps: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The convolution as a matrix product for each group."""
        (steps, clips), side = maps.shape[:2], maps.shape[3:]
        rows = maps.permute(0, 1, 3, 4, 2).flatten(0, 3)  # (L N h w, I)
        rows = rows.unflatten(1, (self.groups, -1)).transpose(0, 1)  # (groups, L N h w, I / groups)
        kernel = weights.squeeze(3).unflatten(0, (self.groups, -1))  # (groups, O / groups, I / groups, taps)
        kernel = kernel.permute(0, 2, 3, 1)  # (groups, I / groups, taps, O / groups)
        parts = torch.bmm(rows, kernel.flatten(2)).unflatten(2, kernel.shape[2:])  # (groups, L N h w, taps, O / groups)
        output = self._sum_of_taps(parts.unflatten(1, (steps, -1)))  # (groups, L, N h w, O / groups)
        output = output.permute(1, 2, 0, 3).flatten(2) + bias.to(output.dtype)  # (L, N h w, O)
        return output.unflatten(1, (clips, *side)).permute(0, 1, 4, 2, 3)

    def _fused(self, maps: torch.Tensor) -> bool:
        """Whether one kernel does all of it: on CUDA, without gradients, and not while torch.compile makes its own.

        In bfloat16 alone: its range is that of float32. In float16 a value can overflow, and the kernel's ReLU need not
        keep the NaN that results; in float32 the kernels are no faster (docs/gpu.md).
        """
        if torch.compiler.is_compiling() or not maps.is_cuda or not torch.is_inference_mode_enabled():
            return False
        return self.groups == 1 and self.dtype == torch.bfloat16 and not torch.is_autocast_enabled("cuda")

    def _in_one_kernel(
        self, maps: torch.Tensor, plus: torch.Tensor | None, weights: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Convolution, bias, sum and ReLU by one of cuDNN's kernels."""
        pictures, dilation = self._pictures(maps), (1, 1)
        if plus is None:
            output = torch.cudnn_convolution_relu(
                pictures, weights, bias, self.stride, self.padding, dilation, self.groups
            )
        else:
            output = torch.cudnn_convolution_add_relu(
                pictures, weights, self._pictures(plus), 1.0, bias, self.stride, self.padding, dilation, self.groups
            )
        return self._maps(output, maps.shape)


class SpatialConvolution(FastConvolution):
    """A kernel of (1, k, k): a 2-D convolution of every frame. `weights` are (O, I / groups, k, k)."""

    def __init__(self, conv: nn.Conv3d, norm: nn.BatchNorm3d | None, relu: bool) -> None:
        super().__init__(conv, norm, relu)
        self.stride, self.padding = _stride(conv), _padding(conv)

    def _pictures(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.flatten(0, 1)  # (L N, C, h, w)

    def _maps(self, pictures: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        return pictures.unflatten(0, shape[:2])  # (L, N, C, h', w')

    def _sum_of_taps(self, parts: torch.Tensor) -> torch.Tensor:
        return parts[..., 0, :]


class TemporalConvolution(FastConvolution):
    """A kernel of (3, 1, 1): a 2-D convolution of one picture, of which a row is a time step and a column a position.

    `weights` are (O, I / groups, 3, 1).
    """

    stride, padding = (1, 1), (1, 0)

    def _pictures(self, maps: torch.Tensor) -> torch.Tensor:
        rows = maps.permute(0, 1, 3, 4, 2).flatten(1, 3)  # (L, N h w, C)
        return rows.permute(2, 0, 1)[None]  # (1, C, L, N h w)

    def _maps(self, pictures: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        rows = pictures[0].permute(1, 2, 0)  # (L, N h w, C)
        return rows.unflatten(1, (shape[1], *shape[3:])).permute(0, 1, 4, 2, 3)  # (L, N, C, h, w)

    def _sum_of_taps(self, parts: torch.Tensor) -> torch.Tensor:
        output = parts[..., 1, :].clone()
        output[:, 1:] += parts[:, :-1, :, 0]  # the step before
        output[:, :-1] += parts[:, 1:, :, 2]  # the step after
        return output


def folded(conv: nn.Conv3d, norm: nn.BatchNorm3d | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, channels last, and bias (O,) of a convolution and the norm after it, as one; differentiable."""
    weight = conv.weight.to(dtype)
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.to(dtype)
    if norm is not None:
        # Never None: the norms have running statistics.
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.to(dtype) / (norm.running_var.to(dtype) + norm.eps).sqrt()
        weight = weight * scale.view(-1, 1, 1, 1, 1)
        bias = norm.bias.to(dtype) + (bias - norm.running_mean.to(dtype)) * scale
    # The kernel is (1, k, k) or (3, 1, 1): its time or its width goes.
    weight = weight.squeeze(2) if weight.shape[2] == 1 else weight.squeeze(4)
    return weight.contiguous(memory_format=torch.channels_last), bias


def _stride(conv: nn.Conv3d) -> Pair:
    _, height, width = conv.stride
    return height, width


def _padding(conv: nn.Conv3d) -> Pair:
    if isinstance(conv.padding, str):
        raise ValueError(f"expected a convolution whose padding is given in numbers, got {conv}")
    _, height, width = conv.padding
    return height, width


def _pointwise(conv: nn.Conv3d) -> bool:
    """Whether a position sees no other position."""
    return (conv.kernel_size[1:], _stride(conv), _padding(conv)) == ((1, 1), (1, 1), (0, 0))
