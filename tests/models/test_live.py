"""The differentiable model of video clips: equal to mmaction2's module and to the paper's equations, gradients too."""

from __future__ import annotations

import copy

import pytest
import torch
from test_fast_tpn import clips, relative, unsettled
from test_losses import SETTINGS
from test_losses import literal as literal_loss
from test_reduction import literal as literal_reduction

from pipeline.config.heads import parse_head
from pipeline.models.backbone import Backbone, build_backbone, full_state
from pipeline.models.checkpoints import read_checkpoint
from pipeline.models.cues import overview
from pipeline.models.fast_tpn import FastTPN
from pipeline.models.heads import build_head
from pipeline.models.live import LiveModel, unfreeze
from pipeline.models.reduction import Standardizer, pattern_vectors


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return unsettled(build_backbone("tpn_tiny", "bundled"))


def thawed(network: Backbone, parts: str) -> Backbone:
    network = copy.deepcopy(network)
    network.eval()
    unfreeze(network, parts)
    return network


def gradients(network: Backbone, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
    weights = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    return dict(zip(named, torch.autograd.grad((outputs * weights).sum(), list(named.values())), strict=True))


@pytest.mark.parametrize("parts", ["neck", "last_stage+neck", "all"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_the_backbone_are_those_of_the_module(tiny, parts, checkpointing):
    network, inputs = thawed(tiny, parts), clips(2, 6, 64)
    expected, found = network(inputs), FastTPN(network, checkpointing=checkpointing)(inputs)
    assert relative(found.detach(), expected.detach()) < 1e-4
    theirs, ours = gradients(network, expected), gradients(network, found)
    assert theirs.keys() == ours.keys()
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).norm() / gradient.norm().clamp_min(1e-6)) < 1e-3, name


def test_what_is_unfrozen(tiny):
    def trained(parts: str) -> set[str]:
        names = [name for name, p in thawed(tiny, parts).named_parameters() if p.requires_grad]
        return {".".join(name.split(".")[: 2 if name.startswith("backbone") else 1]) for name in names}

    assert trained("neck") == {"neck"}
    assert trained("last_stage+neck") == {"neck", "backbone.layer4"}
    assert trained("all") == {
        "neck",
        *(f"backbone.{part}" for part in ("conv1", "layer1", "layer2", "layer3", "layer4")),
    }


def test_the_gradient_of_the_total_loss_at_the_maps_is_that_of_the_literal_equations(tiny):
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(2, 4, 3, 3, 8, generator=generator, dtype=torch.float64).relu().requires_grad_()
    two = one.detach().clone().requires_grad_()
    labels = torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    head = build_head("gig", channels=8, classes=2, dropout=0.0).double()
    model = LiveModel(tiny, head, None, 3)
    found = head.loss(head(*model.reduce(one)), labels)["total"]
    cue, _, vectors = literal_reduction(two, 3)
    output = head(cue, vectors)
    expected = literal_loss(output.video_logits, output.segment_logits, labels, SETTINGS.p)[-1]
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, two.grad)
    assert one.grad.abs().sum() > 0


@pytest.mark.parametrize("options", [{"cue_of": "segment"}, {"cue_of": "top_segments", "relation": "background"}])
def test_live_maps_are_reduced_as_cached_ones(tiny, options):
    settings = parse_head({"k": 3, "cue_segments": 2} | options)
    maps = torch.randn(2, 4, 3, 3, 8, generator=torch.Generator().manual_seed(0)).relu()
    found = LiveModel(tiny, torch.nn.Identity(), None, 3, **options).reduce(maps)
    whole = overview(maps, **settings.overview())
    expected = pattern_vectors(maps, whole.cue, background=whole.background, **settings.kept())
    torch.testing.assert_close(found, (whole.cue, expected.vectors))
    plain = LiveModel(tiny, torch.nn.Identity(), None, 3).reduce(maps)
    assert not torch.allclose(found[1], plain[1])


def test_every_trained_weight_gets_a_gradient(tiny):
    network = thawed(tiny, "all")
    standardizer = Standardizer(torch.zeros(2048), torch.full((2048,), 0.5), 0.1)
    model = LiveModel(network, build_head("gig", channels=2048, classes=2), standardizer, 2)
    model.head.eval()
    (output,) = model.outputs(clips(4, 6, 64)[None, :, None], ["a"])
    model.head.loss(output, torch.tensor([[0.0, 1.0, 0.0]]))["total"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_bag_has_its_dropout_whatever_bags_are_beside_it(tiny):
    model = LiveModel(thawed(tiny, "neck"), build_head("gig", channels=2048, classes=2), None, 2)
    images = clips(6, 6, 64).unflatten(0, (3, 2, 1))
    together = model.outputs(images, ["a", "b", "c"])
    alone = model.outputs(images[1:2], ["b"])[0]
    torch.testing.assert_close(together[1].segment_logits, alone.segment_logits, rtol=1e-4, atol=1e-5)
    other = model.outputs(images[1:2], ["another draw b"])[0]
    assert not torch.allclose(other.segment_logits, alone.segment_logits, rtol=1e-2, atol=1e-3)


def test_clips_of_a_segment_are_averaged(tiny):
    model = LiveModel(thawed(tiny, "neck"), torch.nn.Identity(), None, 2)
    images = clips(4, 6, 64)
    with torch.no_grad():
        single = model.maps(images[None, :, None])[0]
        averaged = model.maps(images.unflatten(0, (2, 2))[None])[0]
    torch.testing.assert_close(averaged, single.unflatten(0, (2, 2)).mean(dim=1))


@pytest.mark.parametrize("name", ["tpn_tiny", pytest.param("tpn_slowonly_r50", marks=pytest.mark.slow)])
def test_a_tuned_network_is_a_checkpoint_of_the_whole_recogniser(name, tmp_path):
    from safetensors.torch import save_file

    network = build_backbone(name, "random", seed=1)
    with torch.no_grad():
        for parameter in network.neck.parameters():
            parameter += 0.01
    save_file(full_state(network), tmp_path / "tuned.safetensors")
    again = build_backbone(name, str(tmp_path / "tuned.safetensors"))
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in again.state_dict().items())
    heads = [
        key for key in read_checkpoint(tmp_path / "tuned.safetensors") if key.startswith(("cls_head", "neck.aux_head"))
    ]
    assert bool(heads) == (name == "tpn_slowonly_r50")


@pytest.mark.gpu
def test_mixed_precision_on_a_gpu_is_close_to_float32(tiny):
    losses = []
    head = build_head("gig", channels=2048, classes=2)
    for precision in (torch.float32, torch.bfloat16, torch.float16):
        model = LiveModel(thawed(tiny, "all"), copy.deepcopy(head), None, 2, precision=precision).cuda()
        (output,) = model.outputs(clips(4, 6, 64)[None, :, None].cuda(), ["a"])
        total = model.head.loss(output, torch.tensor([[0.0, 1.0, 0.0]]).cuda())["total"]
        total.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        losses.append(float(total.detach()))
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=0.1)
