"""Making the bundled weights: the same command gives the same weights, also when it is interrupted."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from pipeline.data.synthetic.playground.lesson import ATTRIBUTES, VALUES
from pipeline.errors import PipelineError
from pipeline.models.backbone import build_backbone
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
    school = Schooling(network, batch)
    optimizer = torch.optim.AdamW(school.parameters(), lr=1e-2)
    losses = []
    for _ in range(6):
        terms = school(*batch)
        assert set(terms) == {"attributes", "values", "clips"}
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


class Plain(torch.nn.Module):
    """Maps that are given, in place of a network."""

    channels = 4

    def __init__(self, maps: torch.Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps


def test_in_silence_empty_cells_say_nothing_and_features_of_theirs_cost():
    torch.manual_seed(0)
    values = torch.rand(1, 1, 2, len(VALUES))
    values[..., VALUES.index("number")] = torch.tensor([[[0.0, 1.0]]])
    batch = (torch.zeros(1, 6, 32, 64, 3), torch.zeros(1, 1, 2, len(ATTRIBUTES)), values)
    loud, quiet = torch.ones(1, 1, 2, 4), torch.tensor([[0.0], [1.0]]).expand(1, 1, 2, 4)
    school = Schooling(Plain(loud), batch)
    assert float(school(*batch, silent=True)["silence"].detach()) == pytest.approx(0.5)
    school.network = Plain(quiet)
    assert float(school(*batch, silent=True)["silence"].detach()) == 0
    other = values.clone()
    other[:, :, 0, : VALUES.index("number")] += 1
    silent, spoken = (
        [float(school(*batch[:2], told, silent=silent)["values"].detach()) for told in (values, other)]
        for silent in (True, False)
    )
    assert silent[0] == silent[1]
    assert spoken[0] != spoken[1]


@pytest.mark.slow
def test_the_command_writes_weights_that_load(tmp_path):
    out = tmp_path / "weights.safetensors"
    arguments = ["--out", out, "--backbone", "tpn_tiny", "--steps", 2, "--batch", 2, "--workers", 0]
    result = CliRunner().invoke(module.main, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    assert build_backbone("tpn_tiny", str(out)).weights_sha256 != "random-0"
    assert {tensor.dtype for tensor in load_file(out).values()} <= {torch.float16, torch.int64}
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
