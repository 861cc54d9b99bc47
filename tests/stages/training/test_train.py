"""Training on reduced bags: the same weights whatever happens on the way, and every setting binds."""

from __future__ import annotations

import pytest
import torch

from pipeline.config import Run
from pipeline.errors import PipelineError, WeightsError
from pipeline.models.reduction import global_pattern_cue, spatial_patterns
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.joint import JointLearner, joint_key
from pipeline.stages.training.learner import ModuleLearner, epoch_count
from pipeline.stages.training.pretrain import pretrain
from pipeline.stages.training.saved_heads import load_head, make_head
from pipeline.stages.training.train import fit_head


def planted_bags(videos: int = 24, views: int = 2) -> tuple[Bags, torch.Tensor]:
    """Bags whose anomalous videos hold class 1 in channels 0 or class 2 in channel 1 of one segment."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(videos, views, 4, 6, generator=generator)
    labels = torch.zeros(videos, 3)
    for i in range(videos):
        kind = i % 3
        labels[i, kind] = 1
        if kind:
            patterns[i, :, i % 4, kind - 1] += 3
    return Bags(tuple(f"v{i:02d}" for i in range(videos)), patterns.amax(dim=2), patterns), labels


class TestTraining:
    def test_two_runs_give_identical_weights(self, tmp_path):
        bags, labels = planted_bags()
        run = Run.model_validate({"training": {"epochs": 5}})
        first, second = (
            fit_head(bags, labels, run, 2, tmp_path / name).state_dict() for name in self.folders(tmp_path)
        )
        assert all(torch.equal(first[k], second[k]) for k in first)

    @staticmethod
    def folders(tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        return "a", "b"

    @pytest.mark.parametrize("stop", [1, 4, 7])
    def test_a_broken_off_training_goes_on_to_the_same_weights(self, tmp_path, stop):
        bags, labels = planted_bags()
        run = Run.model_validate({"training": {"epochs": 8}})
        whole = fit_head(bags, labels, run, 2, tmp_path / "whole", checkpoint_epochs=1)

        def kill(done, total, message):
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit_head(bags, labels, run, 2, tmp_path / "broken", progress=kill, checkpoint_epochs=2)
        epochs = []
        resumed = fit_head(
            bags,
            labels,
            run,
            2,
            tmp_path / "broken",
            progress=lambda done, *_: epochs.append(done),
            checkpoint_epochs=2,
        )
        assert epochs[0] == stop // 2 * 2 + 1
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name
        losses = [(tmp_path / folder / "losses.csv").read_bytes() for folder in ("whole", "broken")]
        assert losses[0] == losses[1]

    def test_a_checkpoint_cut_short_is_passed_over(self, tmp_path):
        bags, labels = planted_bags()
        run = Run.model_validate({"training": {"epochs": 4}})
        whole = fit_head(bags, labels, run, 2, tmp_path / "whole", checkpoint_epochs=1)
        checkpoint = tmp_path / "whole" / "checkpoint.pt"
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "checkpoint.pt").write_bytes(checkpoint.read_bytes()[:1000])
        again = fit_head(bags, labels, run, 2, tmp_path / "cut")
        assert all(torch.equal(v, again.state_dict()[n]) for n, v in whole.state_dict().items())

    def test_a_checkpoint_that_does_not_fit_is_an_error_once(self, tmp_path):
        bags, labels = planted_bags()
        run = Run.model_validate({"training": {"epochs": 2}})
        fit_head(bags, labels, run, 2, tmp_path, checkpoint_epochs=1)
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        torch.save(state | {"learner": {"another": "form"}}, tmp_path / "checkpoint.pt")
        with pytest.raises(PipelineError, match=r"checkpoint\.pt: does not fit this training .* begins anew"):
            fit_head(bags, labels, run, 2, tmp_path)
        fit_head(bags, labels, run, 2, tmp_path)

    def test_the_global_generator_is_left_alone(self, tmp_path):
        bags, labels = planted_bags()
        torch.manual_seed(9)
        expected = torch.rand(3)
        torch.manual_seed(9)
        fit_head(bags, labels, Run.model_validate({"training": {"epochs": 1}}), 2, tmp_path)
        assert torch.equal(torch.rand(3), expected)

    def test_a_planted_anomaly_is_found(self, tmp_path):
        bags, labels = planted_bags()
        run = Run.model_validate(
            {"training": {"epochs": 100, "learning_rate": 0.1}, "head": {"p": 1, "dropout": 0.0, "lambda3": 0.0}}
        )
        head = fit_head(bags, labels, run, 2, tmp_path)
        with torch.inference_mode():
            scores = head(bags.cues[:, 0], bags.patterns[:, 0]).segment_scores[..., 1:].amax(dim=2)
        truth = torch.zeros(24, 4, dtype=torch.bool)
        truth[[i for i in range(24) if i % 3], [i % 4 for i in range(24) if i % 3]] = True
        assert scores[truth].min() > scores[~truth].max()

    @pytest.mark.parametrize(("head", "pairs"), [("gig", False), ("mil_ranking", True)])
    def test_steps_take_the_place_of_epochs(self, tmp_path, monkeypatch, head, pairs):
        bags, labels = planted_bags()  # 8 normal and 16 anomalous ones
        taken = []
        kind = JointLearner if head == "gig" else ModuleLearner
        step = kind.step
        monkeypatch.setattr(kind, "step", lambda self, *batch: taken.append(len(batch[2])) or step(self, *batch))
        run = Run.model_validate({"head": {"name": head}, "training": {"steps": 7, "batch_bags": 8}})
        assert epoch_count(run.training, labels, pairs) == (2 if pairs else 3)  # of 4 and 3 steps
        done = []
        fit_head(bags, labels, run, 2, tmp_path, progress=lambda *now: done.append(now[:2]))
        assert taken == [8] * 7
        assert done[-1] == ((2, 2) if pairs else (3, 3))

    def test_a_resumed_training_takes_the_steps_that_are_left(self, tmp_path):
        bags, labels = planted_bags()
        run = Run.model_validate({"training": {"steps": 7, "batch_bags": 8}})
        whole = fit_head(bags, labels, run, 2, tmp_path / "whole")

        def kill(done, total, message):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit_head(bags, labels, run, 2, tmp_path / "broken", progress=kill, checkpoint_epochs=1)
        resumed = fit_head(bags, labels, run, 2, tmp_path / "broken")
        assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())

    def test_long_gradients_are_cut_to_the_limit(self):
        bags, labels = planted_bags()
        chosen = torch.arange(24)[labels[:, 0].argsort(descending=True, stable=True)][4:12]  # 4 normal, 4 anomalous
        lengths = []
        for limit in (0.0, 1e-3):
            run = Run.model_validate({"head": {"name": "mil_ranking"}, "training": {"clip_norm": limit}})
            head = make_head(run.head, run.training, 6, 2)
            torch.manual_seed(0)
            ModuleLearner(head, run.training).step(bags.cues[chosen, 0], bags.patterns[chosen, 0], labels[chosen])
            lengths.append(torch.cat([p.grad.flatten() for p in head.parameters()]).norm().item())
        assert lengths[0] > 0.1
        assert lengths[1] == pytest.approx(1e-3, rel=1e-3)
        assert joint_key(Run.model_validate({"training": {"clip_norm": 1.0}})) is None  # which knows no limit

    @pytest.mark.parametrize(
        ("head", "rate"),
        [({"name": "gig"}, 1e38), ({"name": "rtfm"}, 1e20), ({"name": "bn_wvad"}, 1e30), ({"name": "gig"}, 1e30)],
    )
    def test_a_training_that_diverges_is_an_error_and_leaves_no_head(self, tmp_path, head, rate):
        bags, labels = planted_bags()
        bags = Bags(bags.video_ids, bags.cues[..., :4] * 1e12, bags.patterns[..., :4] * 1e12)
        run = Run.model_validate({"head": head, "training": {"epochs": 4, "learning_rate": rate}})
        with pytest.raises(
            PipelineError, match=f"training: .*{head['name']}.* in epoch .; lower training.learning_rate|learning rate"
        ):
            fit_head(bags, labels, run, 2, tmp_path, checkpoint_epochs=1)
        assert not (tmp_path / "losses.csv").exists()
        path = tmp_path / "checkpoint.pt"
        if path.exists():  # of the epochs before
            assert torch.isfinite(torch.tensor([means["total"] for means in torch.load(path)["history"]])).all()

    def test_weights_that_are_not_finite_after_the_last_step_are_an_error(self, tmp_path, monkeypatch):
        bags, labels = planted_bags()
        write = JointLearner.write

        def spoil(self):
            write(self)
            self.heads[0].phi2.bias.data[1] = float("inf")

        monkeypatch.setattr(JointLearner, "write", spoil)
        with pytest.raises(PipelineError, match="gig holds values that are not finite, in phi2.bias, in epoch 1"):
            fit_head(bags, labels, Run.model_validate({"training": {"epochs": 1}}), 2, tmp_path)

    @pytest.mark.parametrize("name", ["lambda1", "lambda2", "lambda3", "p", "dropout"])
    def test_every_setting_of_the_loss_binds(self, tmp_path, name):
        bags, labels = planted_bags()
        changed = {"head": {name: {"p": 1, "dropout": 0.0}.get(name, 0.3)}, "training": {"epochs": 2}}
        runs = [Run.model_validate({"training": {"epochs": 2}}), Run.model_validate(changed)]
        first, second = (
            fit_head(bags, labels, run, 2, tmp_path / folder).phi2.weight
            for run, folder in zip(runs, self.folders(tmp_path), strict=True)
        )
        assert not torch.equal(first, second)

    def test_a_file_that_is_no_head_is_refused(self, tmp_path):
        with pytest.raises(WeightsError, match="head.safetensors"):
            load_head(tmp_path / "head.safetensors")


def test_loss_on_cached_maps_equals_loss_on_live_maps_within_half_precision():
    torch.manual_seed(0)
    live = torch.rand(2, 4, 7, 7, 64) * 3
    stored = live.half().float()
    from pipeline.models.heads import build_head

    head = build_head("gig", channels=64, classes=2, dropout=0.0)
    labels = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    totals = []
    for maps in (live, stored):
        cue = global_pattern_cue(maps)
        output = head(cue, spatial_patterns(maps, cue, 8).vectors)
        totals.append(head.loss(output, labels)["total"].item())
    assert totals[0] == pytest.approx(totals[1], rel=1e-2)


def test_pretraining_that_diverges_is_an_error():
    with pytest.raises(PipelineError, match="pretraining: the (loss is|weights are not)"):
        pretrain(steps=4, batch=1, learning_rate=1e30, seed=0)
