"""Joint training against single training."""

from __future__ import annotations

import csv

import pytest
import torch

from pipeline.config import Run
from pipeline.errors import PipelineError
from pipeline.stages.training import train
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.joint import fit_jointly, joint_key
from pipeline.stages.training.train import fit_head
from pipeline.stages.training.validation import Validation


def bags(videos: int = 24) -> tuple[Bags, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(videos, 2, 4, 12, generator=generator)
    labels = torch.nn.functional.one_hot(torch.arange(videos) % 3, 3).float()
    patterns[:, :, 1, :3] += 2 * labels[:, None]
    return Bags(tuple(f"v{i:02d}" for i in range(videos)), patterns.amax(dim=2), patterns), labels


class TestJointTraining:
    runs = tuple(
        Run.model_validate({"head": head, "training": {"epochs": 4, "seed": 3, "weight_decay": 0.01} | training})
        for head, training in (
            ({}, {}),
            ({"p": 1, "lambda3": 0.0}, {}),
            ({"p": 4, "lambda1": 0.3, "lambda2": 2.0}, {"learning_rate": 0.01}),
            ({"lambda0": 0.0}, {}),
        )
    )

    def test_a_stack_is_the_single_trainings_by_autograd(self, tmp_path, monkeypatch):
        monkeypatch.setattr(train, "joint_key", lambda run: None)
        fitted, labels = bags()
        held_out = fitted.subset(torch.arange(24) < 6), labels[:6]
        assert len({joint_key(run) for run in self.runs}) == 1
        judges = [Validation(*held_out, run.head.p) for run in self.runs]
        for i, (head, history) in enumerate(fit_jointly(fitted, labels, self.runs, 2, judges)):
            folder = tmp_path / str(i)
            folder.mkdir()
            judge = Validation(*held_out, self.runs[i].head.p)
            single = fit_head(fitted, labels, self.runs[i], 2, folder, validation=judge)
            for name, value in single.state_dict().items():
                torch.testing.assert_close(head.state_dict()[name], value, rtol=1e-5, atol=1e-6)
            assert judges[i].best_epoch == judge.best_epoch
            with (folder / "losses.csv").open() as stream:
                for row, means in zip(csv.DictReader(stream), history, strict=True):
                    assert {name: float(row[name]) for name in means} == pytest.approx(means, abs=2e-6)

    def test_one_run_trained_alone_is_a_stack_of_one(self, tmp_path):
        fitted, labels = bags()
        (head, _), single = (
            fit_jointly(fitted, labels, self.runs[:1], 2)[0],
            fit_head(fitted, labels, self.runs[0], 2, tmp_path),
        )
        for name, value in single.state_dict().items():
            assert torch.equal(head.state_dict()[name], value)

    def test_a_run_that_diverges_is_named_and_spoils_no_other(self):
        fitted, labels = bags()
        runs = [
            self.runs[0],
            self.runs[0].model_copy(
                update={"training": self.runs[0].training.model_copy(update={"learning_rate": 1e38})}
            ),
        ]
        judges = [Validation(fitted, labels, run.head.p) for run in runs]
        (head, history), error = fit_jointly(fitted, labels, runs, 2, judges)
        assert isinstance(error, PipelineError)
        assert "learning rate 1e+38" in str(error)
        alone = fit_jointly(fitted, labels, runs[:1], 2, [Validation(fitted, labels, runs[0].head.p)])[0]
        assert history == [pytest.approx(means, rel=1e-5) for means in alone[1]]
        for name, value in alone[0].state_dict().items():
            torch.testing.assert_close(head.state_dict()[name], value, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        "change",
        [
            {"training": {"seed": 4}},
            {"training": {"epochs": 5}},
            {"training": {"batch_bags": 4}},
            {"training": {"permute_labels_seed": 1}},
            {"head": {"dropout": 0.1}},
            {"selection": {"validation_share": 0.2}},
        ],
    )
    def test_runs_of_another_course_are_not_trained_jointly(self, change):
        assert joint_key(Run.model_validate(change)) != joint_key(Run())

    def test_only_gig_with_adagrad_is_trained_jointly(self):
        assert joint_key(Run.model_validate({"head": {"name": "rtfm"}})) is None
        assert joint_key(Run.model_validate({"training": {"optimizer": "adam"}})) is None
