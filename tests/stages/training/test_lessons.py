"""Making the bundled weights: the same command gives the same weights, also when it is interrupted."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file

from pipeline.errors import PipelineError
from pipeline.models.backbone import build_backbone
from pipeline.models.weights import BUNDLED
from pipeline.stages.training import lessons as module
from pipeline.stages.training.lessons import Lessons, Pretraining, Schooling, pretrain

SHORT = Pretraining(backbone="tpn_tiny", steps=3, batch=2, seed=3)


def test_every_lesson_is_in_two_batches_once_mirrored():
    first, second = (Lessons(SHORT)[step] for step in (0, 1))
    assert first[0].shape[:2] == (2, 6)
    torch.testing.assert_close(second[0][1].flip(2), first[0][0], rtol=0, atol=0)
    assert not torch.equal(second[0][0], first[0][0])


def test_batches_begin_where_a_run_was_interrupted():
    for whole, rest in zip(Lessons(SHORT)[2], Lessons(SHORT, start=2)[0], strict=True):
        torch.testing.assert_close(whole, rest, rtol=0, atol=0)
    assert len(Lessons(SHORT, start=2)) == 1
    with pytest.raises(IndexError):
        Lessons(SHORT, start=2)[1]


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    expected = pretrain(SHORT, workers=0).state_dict()
    monkeypatch.setattr(module, "KEEP_EVERY", 1)
    drawn = Lessons.__getitem__

    def breaks(lessons: Lessons, index: int):
        if lessons.start + index == 2:
            raise KeyboardInterrupt
        return drawn(lessons, index)

    monkeypatch.setattr(Lessons, "__getitem__", breaks)
    with pytest.raises(KeyboardInterrupt):
        pretrain(SHORT, tmp_path / "state", workers=0)
    monkeypatch.setattr(Lessons, "__getitem__", drawn)
    torch.testing.assert_close(pretrain(SHORT, tmp_path / "state", workers=0).state_dict(), expected)
    with pytest.raises(PipelineError, match="state: expected the state of a run with .*'seed': 4"):
        pretrain(Pretraining(backbone="tpn_tiny", steps=3, batch=2, seed=4), tmp_path / "state", workers=0)


def test_the_loss_falls_when_the_same_lessons_are_learnt():
    batch = Lessons(SHORT)[0]
    torch.manual_seed(0)
    network = build_backbone("tpn_tiny", "random")
    network.requires_grad_(True)
    school = Schooling(network, Lessons(replace(SHORT, batch=16))[2], seed=0)
    optimizer = torch.optim.AdamW(school.parameters(), lr=1e-2)
    losses = []
    for _ in range(6):
        loss = school(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


class Plain(torch.nn.Module):
    """Maps that are given, in place of a network."""

    channels = 2048

    def __init__(self, maps: torch.Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps


def test_channels_may_be_anything_below_zero_only_where_they_should_say_nothing():
    examples = Lessons(replace(SHORT, batch=16))[2]
    images, attributes, values = (part[:1] for part in examples)
    school = Schooling(Plain(torch.zeros(1)), examples, seed=0)
    wanted = school.codes(attributes, values)
    losses = []
    for said in (wanted, torch.where(wanted > 0, wanted, -1), torch.where(wanted > 0, -1, wanted), wanted + 1):
        school.network = Plain(said)
        losses.append(float(school(images, attributes, values)))
    assert losses[:2] == [0, 0]
    assert losses[2] > 0
    assert losses[3] == pytest.approx(1, rel=0.02)  # bfloat16


@pytest.mark.slow
def test_the_command_writes_weights_that_load(tmp_path):
    out = tmp_path / "weights.safetensors"
    arguments = ["--out", out, "--backbone", "tpn_tiny", "--steps", 2, "--batch", 2, "--workers", 0]
    result = CliRunner().invoke(module.main, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    assert build_backbone("tpn_tiny", str(out)).weights_sha256 != "random-0"
    assert {tensor.dtype for tensor in load_file(out).values()} <= {torch.float16, torch.int64}
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_the_bundled_weights_are_those_of_the_defaults():
    with safe_open(BUNDLED["tpn_small"], "pt") as file:
        recipe = json.loads(file.metadata()["recipe"])
    assert {key: recipe[key] for key in asdict(Pretraining())} == asdict(Pretraining())
    assert BUNDLED["tpn_small"].stat().st_size < 8_000_000
    assert build_backbone("tpn_small", "bundled").weights_sha256 != "random-0"
