"""A channel attention before eq. 1: against the literal equations on scaled maps, and through training, ablation and
pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cache import FeatureStore
from pipeline.cli.main import main
from pipeline.config import Run, parse_experiment
from pipeline.config.heads import parse_head
from pipeline.errors import ConfigError
from pipeline.models.heads import build_head
from pipeline.models.losses import LossSettings, vs_loss
from pipeline.models.reduction import Standardizer, global_pattern_cue, pattern_vectors
from pipeline.stages.scoring.score import score_video
from pipeline.stages.training.bags import Bags, CachedBags
from pipeline.stages.training.reduce import reduce_bags
from pipeline.stages.training.saved_heads import load_head, make_head, save_head
from pipeline.stages.training.train import fit_head
from pipeline.stages.training.validation import Validation

LABELS = torch.tensor([[1.0, 0, 0], [0, 1, 0]])


@pytest.fixture
def maps() -> torch.Tensor:
    return torch.randn(2, 3, 4, 4, 10, generator=torch.Generator().manual_seed(0)).relu()


def attentive(**options: object) -> torch.nn.Module:
    """A head whose attention is no longer at its start."""
    torch.manual_seed(1)
    head = build_head("gig", channels=10, classes=2, channel_attention=4, dropout=0.0, **options)
    with torch.no_grad():
        for parameter in head.attention.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return head


@pytest.mark.parametrize("options", [{"k": 3}, {"k": 3, "relation": "dot", "enhancement": False}])
def test_equals_the_equations_on_maps_times_the_scale(maps, options):
    head = attentive(**options)
    found = head(global_pattern_cue(maps), maps)
    head.loss(found, LABELS)["total"].backward()
    gradients = [parameter.grad.clone() for parameter in head.parameters()]
    head.zero_grad()

    scaled = head.attention(global_pattern_cue(maps))[:, None, None, None] * maps
    cue = global_pattern_cue(scaled)
    expected = pattern_vectors(scaled, cue, reduction="spatial", **options)
    video, segments = head.phi1(cue), head.phi2(expected.vectors)
    torch.testing.assert_close(found.video_logits, video)
    torch.testing.assert_close(found.segment_logits, segments)
    assert torch.equal(found.positions, expected.positions)
    vs_loss(video, segments, LABELS, LossSettings(p=2, lambda1=1.0, lambda2=0.5, lambda3=0.1)).total.backward()
    for gradient, parameter in zip(gradients, head.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_pooled_maps_may_be_pooled_before(maps, reduction):
    head, cue = attentive(reduction=reduction), global_pattern_cue(maps)
    settings = parse_head({"reduction": reduction, "channel_attention": 4})
    pooled = pattern_vectors(maps, cue, **settings.kept()).vectors
    assert pooled.shape == (2, 3, 10)
    torch.testing.assert_close(head(cue, pooled).segment_logits, head(cue, maps).segment_logits)


def test_training_begins_at_the_head_without_attention(maps):
    cue = global_pattern_cue(maps)
    plain, attention = (
        make_head(parse_head({"k": 3, "channel_attention": n}), Run().training, 10, 2).eval() for n in (0, 4)
    )
    expected = plain(cue, pattern_vectors(maps, cue, reduction="spatial", k=3).vectors)
    torch.testing.assert_close(attention(cue, maps).segment_logits, expected.segment_logits)


def test_the_cue_loss_teaches_scores_with_an_attention_alone(tmp_path):
    patterns = torch.rand(8, 1, 4, 10, generator=torch.Generator().manual_seed(0))
    bags = Bags(tuple(f"v{i}" for i in range(8)), patterns.amax(dim=2), patterns)

    def trained(width: int, lambda0: float) -> torch.Tensor:
        head = {"reduction": "mean", "lambda0": lambda0, "channel_attention": width}
        run = Run.model_validate({"head": head, "training": {"epochs": 3}})
        module = fit_head(bags, LABELS.repeat(4, 1), run, 2, tmp_path)
        with torch.inference_mode():
            return module(bags.cues[:, 0], bags.patterns[:, 0]).segment_logits

    assert torch.equal(trained(0, 0.0), trained(0, 1.0))
    assert not torch.equal(trained(4, 0.0), trained(4, 1.0))


def test_maps_read_in_every_step_train_as_maps_in_memory(tmp_path):
    store, generator = FeatureStore.open(tmp_path / "cache"), np.random.default_rng(0)
    for number in range(6):
        with store.writer("maps", f"v{number}", views=2, rows=3, columns=3, channels=10, frames_per_clip=6) as writer:
            for view in range(2):
                writer.append(view, generator.random((4, 3, 3, 10), dtype=np.float32), np.zeros((4, 6), np.int64))
            writer.commit({})
    statistics = Standardizer(torch.full((10,), 0.4), torch.full((10,), 0.3), 0.5)
    run = Run.model_validate({"head": {"k": 3, "channel_attention": 4, "standardize": True}, "training": {"epochs": 3}})
    cached = reduce_bags(store, "maps", [f"v{number}" for number in range(6)], run.head, statistics)
    assert isinstance(cached, CachedBags)
    both = [cached.take(torch.full((2,), i), torch.arange(2)) for i in range(6)]
    bags = Bags(cached.video_ids, *(torch.stack(parts) for parts in zip(*both, strict=True)))
    torch.testing.assert_close(bags.patterns.amax(dim=(2, 3, 4)), bags.cues)
    labels, chosen, states = LABELS.repeat(3, 1), torch.arange(6) < 4, []
    for source in (cached, bags):
        judge = Validation(source.subset(~chosen), labels[~chosen], 2)
        head = fit_head(source.subset(chosen), labels[chosen], run, 2, tmp_path, validation=judge)
        states.append(head.state_dict() | {"aucs": torch.tensor(judge.aucs)})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("changes", [{"k": 3}, {"reduction": "max"}])
def test_a_saved_head_scores_a_long_video_by_the_equations(tmp_path, changes):
    store, generator = FeatureStore.open(tmp_path / "cache"), np.random.default_rng(0)
    stored = generator.random((70, 3, 3, 10), dtype=np.float32).astype(np.float16)  # more than are read at a time
    frames = np.arange(70)[:, None] + np.arange(6)
    with store.writer("maps", "v", views=1, rows=3, columns=3, channels=10, frames_per_clip=6) as writer:
        writer.append(0, stored.astype(np.float32), frames)
        writer.set_times(np.arange(75) / 25)
        writer.commit({})
    settings = parse_head({"channel_attention": 4} | changes)
    module = attentive(
        **{name: value for name, value in settings.options().items() if name not in ("channel_attention", "dropout")}
    )
    save_head(tmp_path / "head.safetensors", module, settings, None, ("a", "b"))
    scores = score_video(store, "maps", "v", load_head(tmp_path / "head.safetensors"), Run().scoring)

    maps = torch.from_numpy(stored).float()[None]
    scaled = module.attention(global_pattern_cue(maps))[:, None, None, None] * maps
    patterns = pattern_vectors(scaled, global_pattern_cue(scaled), reduction=settings.reduction, k=settings.k)
    expected = torch.sigmoid(module.phi2(patterns.vectors))[0].detach().numpy()
    np.testing.assert_allclose(scores.windows, expected, rtol=1e-5)
    np.testing.assert_array_equal(scores.positions, patterns.positions[0].numpy())


def test_finetuning_wants_none(nano):
    with pytest.raises(ConfigError, match="gig has a channel attention, which is for frozen features"):
        parse_experiment(nano | {"finetune": {"enabled": True}, "head": {"channel_attention": 4}})


@pytest.mark.slow
def test_an_ablation_trains_it_as_the_single_command_does(nano, write_config, tmp_path):
    changes = {"channel_attention": 4}
    nano["runs"] = {"spatial": {"head": changes}, "mean": {"head": changes | {"reduction": "mean"}}}
    config = write_config(nano)
    file = {"name": "attention", "base": str(config), "seeds": [0, 1]}
    file["list"] = {"gig": {}, "spatial": {"head": changes}, "mean": {"head": changes | {"reduction": "mean"}}}
    path = write_config(file, "ablation.yaml")
    result = CliRunner().invoke(main, ["ablate", "--config", str(path), "--workers", "1"])
    assert result.exit_code == 0, result.output
    output = tmp_path / "var" / "nano"
    (table,) = output.glob("ablation-attention-*/results.json")
    rows = {row["setting"]: row["test"]["auc"]["values"] for row in json.loads(table.read_text())["settings"]}
    assert set(rows) == {"gig", "spatial", "mean"}
    for name in nano["runs"]:
        result = CliRunner().invoke(main, ["evaluate", "--config", str(config), "--run", name])
        assert result.exit_code == 0, result.output
        (metrics,) = output.glob(f"evaluation-{name}-*/metrics.json")
        assert json.loads(metrics.read_text())["auc"] == pytest.approx(rows[name][0])
    result = CliRunner().invoke(
        main,
        ["explain", "test_Explosion_000", "--config", str(config), "--run", "spatial", "--out", str(tmp_path / "why")],
    )
    assert result.exit_code == 0, result.output
    (index,) = (json.loads(path.read_text()) for path in (tmp_path / "why").rglob("index.json"))
    assert len(index["windows"][0]["positions"]) == 8
    assert not index["not_available"]
