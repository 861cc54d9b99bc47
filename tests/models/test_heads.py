"""Heads: their class columns, what they learn, and that every option has an effect."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import SMALL_HEADS

from pipeline.config import Run
from pipeline.config.head_base import MAPS
from pipeline.config.heads import HEADS as SETTINGS
from pipeline.config.heads import parse_head
from pipeline.metrics import frame_auc
from pipeline.models.cues import overview
from pipeline.models.heads import HEADS, build_head
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.learner import draw_batches
from pipeline.stages.training.saved_heads import make_head
from pipeline.stages.training.train import fit_head
from pipeline.stages.training.windows import reduce_maps

LEARNT = [name for name in SETTINGS if name != "pattern_norm"]
BINARY = [name for name in LEARNT if name != "gig"]


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks: threads that wait for one another take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def planted(
    videos: int = 32, segments: int = 8, channels: int = 16, classes: int = 2, width: int = 2
) -> tuple[Bags, torch.Tensor, np.ndarray]:
    """Bags in which every second video has `width` segments with some channels raised.

    Returns:
        The bags, their labels (N, 1 + C), and which segments are raised, (N, T) bool.
    """
    generator = torch.Generator().manual_seed(7)
    patterns = torch.rand(videos, 2, segments, channels, generator=generator)
    labels, truth = torch.zeros(videos, 1 + classes), np.zeros((videos, segments), dtype=bool)
    for i in range(videos):
        kind = 0 if i % 2 == 0 else 1 + (i // 2) % classes
        labels[i, kind] = 1
        if kind:
            place = int(torch.randint(segments - width + 1, (1,), generator=generator))
            truth[i, place : place + width] = True
            patterns[i, :, place : place + width, 3 * kind - 3 : 3 * kind] += 2
    return Bags(tuple(f"v{i:02d}" for i in range(videos)), patterns.amax(dim=2), patterns), labels, truth


def run_of(name: str, epochs: int, rate: float, **head: object) -> Run:
    training = {"epochs": epochs, "optimizer": "adam", "learning_rate": rate, "batch_bags": 16}
    return Run.model_validate({"head": {"name": name} | head, "training": training})


def test_settings_and_modules_have_the_same_names():
    assert set(SETTINGS) == set(HEADS)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_say_whether_a_head_sees_other_windows(name):
    head = build_head(name, channels=8, classes=2, **parse_head({"name": name}).options()).eval()
    vectors, cue = torch.rand(1, 9, 8), torch.rand(1, 8)
    with torch.inference_mode():
        together = head(cue, vectors).segment_scores[0]
        alone = head(cue.expand(9, -1), vectors.transpose(0, 1)).segment_scores[:, 0]
    assert torch.allclose(together, alone, atol=1e-6) != SETTINGS[name].sees_other_windows
    assert (head.context is not None) == SETTINGS[name].sees_other_windows


class TestColumns:
    @pytest.mark.parametrize("classes", [1, 4])
    @pytest.mark.parametrize("name", BINARY)
    def test_the_highest_class_is_the_methods_own_score(self, name, classes):
        head = build_head(name, channels=8, classes=classes).eval()
        vectors = 20 * torch.rand(2, 9, 8)
        with torch.no_grad():
            output = head(vectors.amax(dim=1), vectors)
        scores = output.segment_scores
        assert scores.shape == (2, 9, 1 + classes)
        assert torch.equal(output.segment_logits[..., 1:].amax(dim=-1), output.anomaly_logits)  # copied, not computed
        assert torch.equal(scores[..., 1:].amax(dim=-1), output.anomaly_scores)
        torch.testing.assert_close(output.anomaly_scores, torch.sigmoid(output.anomaly_logits))
        torch.testing.assert_close(scores[..., 0], 1 - output.anomaly_scores)
        if classes > 1:
            share = head.readout(vectors).softmax(dim=-1)
            expected = output.anomaly_scores[..., None] * share / share.amax(dim=-1, keepdim=True)
            torch.testing.assert_close(scores[..., 1:], expected, rtol=1e-4, atol=1e-6)

    def test_a_class_almost_as_likely_as_the_best_does_not_exceed_the_score(self):
        head = build_head("mil_ranking", channels=8, classes=3)
        own = torch.linspace(-20, 20, 4001)[None]
        readout = torch.tensor([0.0, 1e-7, 2e-7]).expand(1, 4001, 3)
        with torch.no_grad():
            assert torch.equal(head._columns(own, readout).amax(dim=-1), own)

    def test_saturated_scores_stay_finite(self):
        head = build_head("mil_ranking", channels=8, classes=3)
        with torch.no_grad():
            columns = head._columns(torch.tensor([[-200.0, 0.0, 200.0]]), torch.rand(1, 3, 3))
        assert torch.isfinite(columns).all()


@pytest.mark.parametrize("name", LEARNT)
def test_gradients_reach_every_parameter(name):
    torch.manual_seed(0)
    head = build_head(name, channels=16, classes=2, **SMALL_HEADS.get(name, {})).train()
    bags, labels, _ = planted(videos=8)
    order = draw_batches(labels, 8, head.pairs, torch.Generator().manual_seed(0))[0]
    trained = {n: p for n, p in head.named_parameters() if p.requires_grad}  # averages have none
    optimizer = torch.optim.Adam(trained.values(), lr=1e-3)
    reached = set()
    for _ in range(2):  # of rtfm a norm that begins at zero keeps what is before it from the first step
        optimizer.zero_grad()
        head.loss(head(bags.cues[order, 0], bags.patterns[order, 0]), labels[order])["total"].backward()
        reached |= {n for n, p in trained.items() if p.grad is not None and p.grad.abs().max() > 0}
        optimizer.step()
    assert reached == set(trained)


LEARNING = {  # epochs, learning rate and options that suffice for a small problem
    "gig": (60, 0.05, {"p": 8, "lambda3": 0.0}),
    "mil_ranking": (200, 3e-3, {}),
    "attention_mil": (60, 3e-3, {"normalize": False}),
    "rtfm": (40, 1e-3, {"p": 2}),
    "mgfn": (20, 1e-3, {"width": 64, "dropout": 0.0}),
    "pel4vad": (40, 1e-3, {"causal_segments": 1}),
    "prodisc_vad": (40, 1e-3, {}),
    "bn_wvad": (15, 3e-4, {}),
    "gcn_label_noise": (60, 3e-3, {}),
    "ur_dmu": (10, 3e-4, {"dropout": 0.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNT)
def test_planted_segments_are_found(name, tmp_path):
    # UR-DMU's attention by distance and MGFN's many convolutions blur the ends of an event, which then has to be longer
    # than its ends.
    size = {"ur_dmu": {"segments": 16, "width": 5}, "mgfn": {"segments": 32, "width": 8}}.get(name, {})
    bags, labels, _ = planted(**size)
    epochs, rate, options = LEARNING[name]
    head = fit_head(bags, labels, run_of(name, epochs, rate, **options), 2, tmp_path)
    fresh, _, truth = planted(videos=64, **size)
    with torch.inference_mode():
        scores = head(fresh.cues[:, 0], fresh.patterns[:, 0]).anomaly_scores.numpy()
    by_video = dict(zip(fresh.video_ids, scores, strict=True))
    assert frame_auc(by_video, dict(zip(fresh.video_ids, truth, strict=True))) >= 0.95


OTHER = {
    "normalize": False,
    "power_norm": False,
    "segments_per_top": 2,
    "reduction": "max",
    "relation": "dot",
    "cue_of": "segment",
    "enhancement": True,
    "standardize": True,
}


def options_of(name: str) -> list[str]:
    elsewhere = (*MAPS, "name", "channel_attention")  # the last in test_pipeline_channel_attention
    return [field for field in SETTINGS[name].model_fields if field not in elsewhere]


@pytest.mark.parametrize(("name", "option"), [(name, option) for name in LEARNT for option in options_of(name)])
def test_every_option_of_every_head_decides_something(name, option):
    bags, labels, _ = planted(videos=8)
    default = SETTINGS[name].model_fields[option].default
    base = SMALL_HEADS.get(name, {})
    value = OTHER.get(option, default + 1 if isinstance(default, int) else 0.9 * default if default else 0.4)
    if "share" in option:
        value = 0.5
    if option == "warmup_steps":
        value = 0
    if option == "width":
        value = 128
    if option == "margin":  # within a lower one all bags of the problem may lie
        value = 10 * default
    order = draw_batches(labels, 8, name != "gig", torch.Generator().manual_seed(0))[0]
    totals = []
    for changes in (base, base | {option: value}):
        head = make_head(parse_head({"name": name} | changes), Run().training, 16, 2).train()
        optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=0.01)
        torch.manual_seed(0)  # of dropout
        for _ in range(2):  # an average begins to differ with the second step
            total = head.loss(head(bags.cues[order, 0], bags.patterns[order, 0]), labels[order])["total"]
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        totals.append(total.item())
    assert totals[0] != totals[1]


@pytest.mark.parametrize("field", ["reduction", "relation", "enhancement", "k", "cue_of"])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_option_of_the_reduction_decides_something(name, field):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(1, 2, 4, 4, 8, generator=generator) * torch.rand(1, 2, 4, 4, 1, generator=generator)
    base = {"name": name, "reduction": "spatial", "k": 3, "enhancement": False}
    value = {"k": 4}.get(field, OTHER.get(field))
    changed = base | {field: value}
    if field == "reduction":
        del changed["k"]
    vectors = [reduce_maps(maps, overview(maps), parse_head(data)).vectors for data in (base, changed)]
    assert not torch.allclose(*vectors)


def test_a_heads_initialisation_follows_the_seed_only():
    first, second = (make_head(parse_head({"name": "ur_dmu"}), Run().training, 8, 2).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
