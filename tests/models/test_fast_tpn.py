"""The fast form computes what the module does."""

from __future__ import annotations

import copy

import pytest
import torch

from pipeline.models.backbone import Backbone, build_backbone
from pipeline.models.fast_convolution import fast_convolution, folded
from pipeline.models.fast_tpn import FastTPN


def unsettled(network: Backbone) -> Backbone:
    """The network with batch norms whose statistics and weights all differ from those of a fresh one."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
            module.weight.data *= torch.empty_like(module.weight.data).uniform_(0.7, 1.3, generator=generator)
    return network


def clips(count: int, frames: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, side, side, 3), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return unsettled(build_backbone("tpn_tiny", "bundled"))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("name", "weights", "side"),
    [
        ("tpn_tiny", "bundled", 224),
        ("tpn_small", "random", 224),
        pytest.param("tpn_slowonly_r50", "random", 224, marks=pytest.mark.slow),
    ],
)
def test_it_equals_the_module_to_a_ten_thousandth(name, weights, side):
    network = unsettled(build_backbone(name, weights))
    inputs = clips(2, 6, 224)
    with torch.inference_mode():
        expected, found = network(inputs), FastTPN(network)(inputs)
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert relative(found, expected) < 1e-4


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_clips_of_any_length(tiny, frames):
    inputs = clips(2, frames, 64)
    with torch.inference_mode():
        assert relative(FastTPN(tiny)(inputs), tiny(inputs)) < 1e-4


def test_both_flows_of_the_neck(tiny):
    cascade = copy.deepcopy(tiny)
    cascade.neck.flow_type = "cascade" if tiny.neck.flow_type == "parallel" else "parallel"
    inputs = clips(1, 6, 64)
    with torch.inference_mode():
        assert relative(FastTPN(cascade)(inputs), cascade(inputs)) < 1e-4
        assert relative(FastTPN(cascade)(inputs), tiny(inputs)) > 1e-3


def test_overlapping_windows_may_share_their_frames(tiny):
    fast, video = FastTPN(tiny), clips(1, 12, 64)[0]
    with torch.inference_mode():
        frames = fast.frames(video)
        for start in (0, 3, 6):
            shared = fast.clips(frames[start : start + 6, None])
            assert (
                relative(shared, fast(video[None, start : start + 6])) < 1e-5
            )  # other batches, other code of a library


@pytest.mark.parametrize("taps", [1, 3])
def test_a_grouped_convolution_as_matrix_products(taps):
    module = torch.nn.Module()
    module.conv = torch.nn.Conv3d(12, 8, (taps, 1, 1), padding=(taps // 2, 0, 0), groups=4)
    module.bn = torch.nn.BatchNorm3d(8)
    module.bn.running_mean.normal_()
    convolution, maps = fast_convolution(module.eval()), torch.randn(5, 2, 12, 3, 4)
    weights, bias = folded(module.conv, module.bn, torch.float32)
    found, expected = convolution._by_group(maps, weights, bias), convolution(maps)
    assert convolution.by_group
    assert relative(found.detach(), expected.detach()) < 1e-5
    assert found.permute(0, 1, 3, 4, 2).is_contiguous()
    with torch.autocast("cpu", torch.bfloat16):
        half = convolution._by_group(maps, weights, bias)
    assert half.dtype == torch.bfloat16
    assert relative(half.detach().float(), expected.detach()) < 0.02
    theirs, ours = (
        torch.autograd.grad(output.square().sum(), list(module.parameters())) for output in (expected, found)
    )
    assert all(relative(a, b) < 1e-4 for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("taps", [1, 3])
def test_kernels_that_do_it_all_are_asked_for_the_same(taps, monkeypatch):
    """cuDNN's fused kernels are on a GPU alone; here plain operations stand in for them."""

    def relu(maps, weights, bias, stride, padding, dilation, groups):
        return torch.conv2d(maps, weights, bias, stride, padding, dilation, groups).relu()

    def add_relu(maps, weights, plus, alpha, bias, stride, padding, dilation, groups):
        return (torch.conv2d(maps, weights, bias, stride, padding, dilation, groups) + alpha * plus).relu()

    module = torch.nn.Module()
    kernel, padding = ((1, 3, 3), (0, 1, 1)) if taps == 1 else ((3, 1, 1), (1, 0, 0))
    module.conv = torch.nn.Conv3d(6, 6, kernel, padding=padding)
    module.activate = torch.nn.ReLU()
    convolution = fast_convolution(module.requires_grad_(False).eval())
    maps, plus = torch.randn(5, 2, 6, 3, 4), torch.randn(5, 2, 6, 3, 4)
    expected = [convolution(maps), convolution(maps, plus)]
    monkeypatch.setattr(torch, "cudnn_convolution_relu", relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", add_relu)
    monkeypatch.setattr(type(convolution), "_fused", lambda self, maps: True)
    for found, wanted in zip([convolution(maps), convolution(maps, plus)], expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_network_of_another_kind_is_named(tiny):
    other = copy.deepcopy(tiny)
    del other.neck.pyramid_fusion
    with pytest.raises(ValueError, match="TPN.pyramid_fusion: expected Module, got NoneType"):
        FastTPN(other)


def test_the_module_is_left_as_it_was(tiny):
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    FastTPN(tiny).set_precision(torch.bfloat16)
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())


def test_half_precision_is_close_and_gives_float32(tiny):
    fast, inputs = FastTPN(tiny), clips(1, 6, 64)
    with torch.inference_mode():
        expected = fast(inputs)
        fast.set_precision(torch.bfloat16)
        found = fast(inputs)
    assert found.dtype == torch.float32
    assert 0 < relative(found, expected) < 0.05


def test_more_than_eight_frames_and_wrong_shapes_are_refused(tiny):
    fast = FastTPN(tiny)
    with pytest.raises(ValueError, match="at most 8"):
        fast(clips(1, 9, 64))
    with pytest.raises(ValueError, match=r"expected images \(n, S, S, 3\), got"):
        fast.frames(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"expected clips \(N, L, H, W, 3\), got"):
        fast(clips(1, 6, 64)[0])


def test_what_it_cannot_stand_for_is_refused(tiny):
    training = copy.deepcopy(tiny)
    training.training = True
    with pytest.raises(ValueError, match="evaluation mode"):
        FastTPN(training)
    strided = copy.deepcopy(tiny)
    strided.backbone.conv1.conv.stride = (2, 2, 2)
    with pytest.raises(ValueError, match="keeps the time steps"):
        FastTPN(strided)
    pooling = copy.deepcopy(tiny)
    pooling.neck.temporal_modulation_ops[0].pool.kernel_size = (4, 1, 1)
    with pytest.raises(ValueError, match="pools 8 time steps"):
        FastTPN(pooling)
