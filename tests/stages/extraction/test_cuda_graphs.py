"""Steps that a GPU replays from a recording."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.backbone import build_backbone
from pipeline.models.fast_tpn import FastTPN
from pipeline.stages.extraction import cuda_graphs as replay
from pipeline.stages.extraction.cuda_graphs import Replayed


def counted(step):
    """The step, and a list that grows with its calls."""
    calls = []

    def run(inputs):
        calls.append(inputs.shape)
        return step(inputs)

    return run, calls


def takes_every_step_itself(device: str, **options) -> bool:
    step, calls = counted(lambda inputs: inputs + 1)
    replayed = Replayed(step, torch.device(device), **options)
    results = [replayed(torch.full((2,), float(value))).tolist() for value in range(4)]
    return results == [[value + 1] * 2 for value in range(4)] and len(calls) == 4


def test_a_cpu_takes_every_step_itself():
    assert takes_every_step_itself("cpu")


@pytest.mark.gpu
def test_a_step_is_not_recorded_where_it_should_not_be():
    assert takes_every_step_itself("cuda", recording=False)
    assert not takes_every_step_itself("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recording_gives_what_the_step_gives(precision):
    network = FastTPN(build_backbone("tpn_tiny", "bundled")).cuda()
    network.set_precision(getattr(torch, precision))
    (early, early_calls), (late, late_calls) = counted(network.frames), counted(network.clips)
    frames, clips = Replayed(early, torch.device("cuda")), Replayed(late, torch.device("cuda"))
    generator, found, expected = torch.Generator().manual_seed(0), [], []
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        for count in (12, 12, 6, 12, 6, 6, 12):
            pictures = torch.randint(0, 256, (count, 96, 96, 3), dtype=torch.uint8, generator=generator).pin_memory()
            # Nothing waits: a result that a later replay wrote over would differ.
            found += [features := frames(pictures), clips(features.unflatten(0, (-1, 2)))]
            expected += [features := network.frames(pictures.cuda()), network.clips(features.unflatten(0, (-1, 2)))]
    assert all(map(torch.equal, found, expected))
    assert [len(early_calls), len(late_calls)] == [4, 4]  # twice for each of two shapes


@pytest.mark.gpu
def test_without_memory_for_a_recording_the_step_goes_on(monkeypatch):
    def full(*arguments):
        raise torch.cuda.OutOfMemoryError("no more memory")

    monkeypatch.setattr(replay, "_Recording", full)
    assert takes_every_step_itself("cuda")


@pytest.mark.gpu
def test_memory_is_given_back():
    device = torch.device("cuda")
    replayed = Replayed(lambda inputs: (inputs * 2) + 1, device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(3):
        replayed(torch.zeros(64 * 2**20, device=device))
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() >= before + 512 * 2**20
    replayed.forget()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before
    assert replayed(torch.zeros(3)).tolist() == [1, 1, 1]
