"""The learning rate of every step: its course, in both learners, over an interruption, and in digests."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from pipeline.config import Run, Training, digest
from pipeline.config.published import PUBLISHED
from pipeline.errors import ConfigError
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.joint import JointLearner
from pipeline.stages.training.learner import ModuleLearner
from pipeline.stages.training.saved_heads import make_head
from pipeline.stages.training.schedule import Schedule
from pipeline.stages.training.train import fit_head

BAGS, SIZE = 12, 4  # three steps per epoch


def training(**settings: object) -> Training:
    return Training.model_validate({"epochs": 4, "batch_bags": SIZE, "learning_rate": 0.1} | settings)


def bags_and_labels() -> tuple[Bags, torch.Tensor]:
    patterns = torch.rand(BAGS, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(2)[torch.arange(BAGS) % 2]
    return Bags(tuple(f"v{i:02d}" for i in range(BAGS)), patterns.amax(dim=2), patterns), labels


def rates(schedule: torch.optim.lr_scheduler.LRScheduler, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def torchs_cosine(length: int, count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return rates(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=length), optimizer, count)


class TestShares:
    def test_a_constant_rate_is_the_rate_in_every_step(self):
        assert {Schedule(training(), 3, 12).share(step) for step in range(12)} == {1.0}

    def test_a_cosine_falls_step_by_step_as_torchs_does(self):
        schedule = Schedule(training(schedule="cosine"), 3, 12)
        assert [schedule.share(step) for step in range(12)] == pytest.approx(torchs_cosine(12, 12))

    def test_a_cosine_by_epoch_is_that_of_torch_stepped_once_per_epoch(self):
        schedule = Schedule(training(schedule="cosine_by_epoch", schedule_epochs=6), 3, 12)
        expected = [share for share in torchs_cosine(6, 4) for _ in range(3)]
        assert [schedule.share(step) for step in range(12)] == pytest.approx(expected)

    @pytest.mark.parametrize("kind", ["constant", "cosine"])
    def test_a_warm_up_rises_evenly_to_the_rate(self, kind):
        schedule = Schedule(training(schedule=kind, warmup_steps=4), 3, 12)
        rest = torchs_cosine(8, 8) if kind == "cosine" else [1.0] * 8
        assert [schedule.share(step) for step in range(12)] == pytest.approx([0.25, 0.5, 0.75, 1.0, *rest])

    def test_a_warm_up_within_an_epoch_leaves_its_rest_at_the_full_rate(self):
        schedule = Schedule(training(schedule="cosine_by_epoch", warmup_steps=2), 3, 12)
        assert [schedule.share(step) for step in range(4)] == pytest.approx([0.5, 1, 1, torchs_cosine(10, 2)[1]])

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"warmup_steps": 12}, "warmup_steps: expected fewer than the 12 steps of this training, got 12"),
            (
                {"steps": 12, "schedule": "cosine", "schedule_epochs": 3},
                "schedule_epochs: expected at least the 12 steps of this training, got 3 epochs of 3 steps",
            ),
        ],
    )
    def test_what_does_not_fit_the_steps_is_said_before_the_first(self, tmp_path, settings, expected):
        bags, labels = bags_and_labels()
        with pytest.raises(ConfigError, match=expected):
            fit_head(bags, labels, Run(training=training(**settings)), 1, tmp_path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule_epochs": 4}, "decides nothing with schedule constant"),
        ({"schedule": "cosine", "schedule_epochs": 3}, "expected at least the 4 epochs of the training, got 3"),
        ({"steps": 5, "warmup_steps": 5}, "expected fewer than the 5 steps, got 5"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(settings, expected):
    with pytest.raises(ValidationError, match=expected):
        training(**settings)


COURSE = {"schedule": "cosine", "warmup_steps": 4}


@pytest.mark.parametrize("kind", [JointLearner, ModuleLearner])
def test_both_learners_take_their_steps_at_these_rates(tmp_path, monkeypatch, kind):
    bags, labels = bags_and_labels()
    run = Run.model_validate({"head": {"name": "gig" if kind is JointLearner else "mil_ranking"}})
    run = run.model_copy(update={"training": training(batch_bags=4, **COURSE)})
    taken, step = [], kind.step

    def watched(self, *batch):
        taken.append(self.rates[0].item() if kind is JointLearner else self.optimizer.param_groups[0]["lr"])
        return step(self, *batch)

    monkeypatch.setattr(kind, "step", watched)
    fit_head(bags, labels, run, 1, tmp_path)
    schedule = Schedule(run.training, 3, 12)
    assert taken == pytest.approx([0.1 * schedule.share(step) for step in range(12)])


def test_the_joint_learner_steps_as_the_plain_one_at_any_rate():
    bags, labels = bags_and_labels()
    run = Run.model_validate({"head": {"dropout": 0.0}})
    first, second = (make_head(run.head, run.training, 6, 1) for _ in range(2))
    for learner in (JointLearner([first], [run]), ModuleLearner(second, run.training)):
        for share in (0.5, 0.1):
            learner.set_rate(share)
            learner.step(bags.cues[:, 0], bags.patterns[:, 0], labels)
        learner.write()
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[name])
        assert not torch.equal(value, make_head(run.head, run.training, 6, 1).state_dict()[name])


@pytest.mark.parametrize("head", ["gig", "mil_ranking"])
@pytest.mark.parametrize("course", [COURSE, {"schedule": "cosine_by_epoch", "schedule_epochs": 6}, {"warmup_steps": 8}])
def test_an_interrupted_training_goes_on_at_the_rates_it_would_have_had(tmp_path, head, course):
    bags, labels = bags_and_labels()
    run = Run.model_validate({"head": {"name": head}}).model_copy(update={"training": training(**course)})
    whole = fit_head(bags, labels, run, 1, tmp_path / "whole").state_dict()

    def kill(done, total, message):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_head(bags, labels, run, 1, tmp_path / "broken", progress=kill, checkpoint_epochs=1)
    resumed = fit_head(bags, labels, run, 1, tmp_path / "broken").state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    plain = fit_head(bags, labels, run.model_copy(update={"training": training()}), 1, tmp_path / "plain").state_dict()
    assert not all(torch.equal(value, plain[name]) for name, value in whole.items())


def test_the_published_training_of_pel4vad_ends_before_its_cosine():
    published = Training.model_validate(PUBLISHED["pel4vad"])
    shares = [Schedule(published, 3, 150).share(step) for step in range(150)]
    assert shares == pytest.approx([share for share in torchs_cosine(60, 50) for _ in range(3)])
    assert shares[-1] == pytest.approx(0.0807, abs=1e-4)


def test_a_training_without_a_schedule_keeps_the_digest_it_had():
    assert digest(training()) == "2e42327f"  # of the version without one
    others = [training(**COURSE), training(warmup_steps=4), training(schedule="cosine")]
    assert len({digest(each) for each in [training(), *others]}) == 4
