"""Heads: their losses against the published equations in numpy, what they learn, and what their options decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.config import Run
from pipeline.config.heads import HEADS as SETTINGS
from pipeline.config.heads import MAPS, parse_head
from pipeline.metrics import frame_auc
from pipeline.models.heads import HEADS, build_head
from pipeline.models.heads.base import HeadOutput
from pipeline.models.heads.bn_wvad import divergence, select
from pipeline.models.heads.dropout import Dropout
from pipeline.models.heads.gcn_label_noise import Cleaner, normalized
from pipeline.models.heads.rtfm import NonLocal
from pipeline.models.heads.transformer import _Layer
from pipeline.stages.training.bags import Bags, in_parts
from pipeline.stages.training.learner import draw_batches
from pipeline.stages.training.saved_heads import make_head
from pipeline.stages.training.train import fit

LEARNT = [name for name in SETTINGS if name != "pattern_norm"]
BINARY = [name for name in LEARNT if name != "gig"]
ANOMALOUS = torch.tensor([False, False, True, True])


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks: threads that wait for one another take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def logit(score: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.log(score / (1 - score))).float()


def bce_of(score: np.ndarray, wanted: np.ndarray | float) -> float:
    return float(-np.mean(wanted * np.log(score) + (1 - wanted) * np.log(1 - score)))


def planted(
    videos: int = 32, segments: int = 8, channels: int = 16, classes: int = 2, width: int = 2
) -> tuple[Bags, torch.Tensor, np.ndarray]:
    """Bags in which every second video has `width` segments with some channels raised; and which segments those are,
    (N, T)."""
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


class TestLosses:
    """Hand-made bags: two normal, then two anomalous, of three segments."""

    scores = np.array([[0.1, 0.3, 0.2], [0.5, 0.2, 0.4], [0.2, 0.9, 0.6], [0.3, 0.4, 0.7]])

    def pairs(self, bags: np.ndarray) -> float:
        return (
            sum(max(0, 1 - a + n) for a in bags[2:] for n in bags[:2]) / 2
        )  # summed over anomalous bags, mean over the 2 normal ones

    def rest(self, smooth: float, sparse: float) -> float:
        high = self.scores[2:]
        return smooth * ((high[:, 1:] - high[:, :-1]) ** 2).sum() + sparse * high.sum()

    def test_mil_ranking(self):
        head = build_head("mil_ranking", channels=4, classes=1, smoothness=0.3, sparsity=0.2)
        found = head.method_loss({"logits": logit(self.scores)}, ANOMALOUS)
        assert found["total"].item() == pytest.approx(self.pairs(self.scores.max(1)) + self.rest(0.3, 0.2), rel=1e-5)

    def test_attention_mil(self):
        weights = np.array([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2]])
        head = build_head("attention_mil", channels=4, classes=1, smoothness=0.3, sparsity=0.2)
        parts = {"logits": logit(self.scores), "weights": torch.from_numpy(weights).float()}
        expected = self.pairs((weights * self.scores).sum(1)) + self.rest(0.3, 0.2)
        assert head.method_loss(parts, ANOMALOUS)["total"].item() == pytest.approx(expected, rel=1e-5)

    def test_rtfm(self):
        ranks = np.array([[1.0, 3.0, 2.0], [4.0, 1.0, 2.0], [9.0, 2.0, 8.0], [5.0, 7.0, 1.0]])
        features = np.random.default_rng(0).normal(size=(4, 3, 5))
        head = build_head("rtfm", channels=4, classes=1, p=2, margin=10.0, alpha=0.01, smoothness=0.3, sparsity=0.2)
        parts = {"logits": logit(self.scores)}
        parts |= {name: torch.from_numpy(value).float() for name, value in (("features", features), ("ranks", ranks))}
        top = np.argsort(-ranks, axis=1)[:, :2]
        video = np.take_along_axis(self.scores, top, 1).mean(1)
        length = np.linalg.norm(
            np.take_along_axis(features, top[..., None], 1).mean(1), axis=1
        )  # of the mean, not the mean length
        classified = (bce_of(video[:2], 0) + bce_of(video[2:], 1)) / 2
        magnitude = np.mean([(abs(10 - a) + n) ** 2 for n, a in zip(length[:2], length[2:], strict=True)])
        high = self.scores[2:].ravel()  # the bags of a batch end to end
        rest = 0.3 * ((high[1:] - high[:-1]) ** 2).sum() + 0.2 * np.sqrt((high**2).sum())
        expected = classified + 0.01 * magnitude + rest
        assert head.method_loss(parts, ANOMALOUS)["total"].item() == pytest.approx(expected, rel=1e-5)

    def test_bn_wvad(self):
        one = np.array([[1.0, 3.0, 2.0], [4.0, 1.0, 2.5], [9.0, 2.0, 8.0], [5.0, 7.0, 1.0]])
        two = one[:, ::-1] / 2
        head = build_head(
            "bn_wvad", channels=4, classes=1, sample_share=0.4, batch_share=0.5, margin=6.0, weight1=5.0, weight2=20.0
        )
        parts = {"normality_logits": logit(self.scores)}
        parts |= {f"distance{i}": torch.from_numpy(d.copy()).float() for i, d in enumerate((one, two), start=1)}

        def pull_push(distances: np.ndarray) -> float:
            high, low = distances[2:], distances[:2]
            chosen = high == high.max(1, keepdims=True)  # int(0.4 x 3) = 1 of a bag
            chosen |= high >= np.sort(high.ravel())[-3]  # int(0.5 x 6) = 3 of the batch
            picked = high[chosen]
            ranked = -np.sort(-low, axis=1)
            normal = [ranked[bag, rank] for rank in range(3) for bag in range(2)][: len(picked)]
            return float(np.mean([max(0, 6 + n - a) for n, a in zip(normal, picked, strict=True)]))

        expected = np.linalg.norm(self.scores[:2], axis=1).mean() + 5 * pull_push(one) + 20 * pull_push(two)
        assert head.method_loss(parts, ANOMALOUS)["total"].item() == pytest.approx(expected, rel=1e-5)

    def test_the_divergence_is_a_mahalanobis_distance(self):
        features = torch.tensor([[[3.0, 1.0]]])
        assert divergence(features, torch.tensor([1.0, 4.0]), torch.tensor([4.0, 9.0])).item() == pytest.approx(2**0.5)

    def test_a_selection_never_asks_for_more_normal_segments_than_there_are(self):
        distances = torch.arange(8.0).reshape(4, 2)
        normal, picked = select(distances, torch.tensor([False, True, True, True]), 1.0, 1.0)
        assert len(normal) == len(picked) == 2

    def test_ur_dmu(self):
        rng = np.random.default_rng(0)
        features, strange, mean, spread, uncertain = (rng.normal(size=(n, 3, 512)) for n in (4, 2, 2, 2, 2))
        by_n, by_a = rng.uniform(0.1, 0.9, (4, 3)), rng.uniform(0.1, 0.9, (4, 3))
        head = build_head(
            "ur_dmu", channels=4, classes=1, dual=0.2, triplet=0.3, divergence=0.4, distance=0.05, margin=30.0
        )
        arrays = {"features": features, "normal_attention": by_n, "anomaly_attention": by_a, "strange": strange}
        arrays |= {"mean": mean, "log_variance": spread, "uncertain": uncertain}
        parts = {"logits": logit(self.scores)} | {
            name: torch.from_numpy(value).float() for name, value in arrays.items()
        }

        def best(values: np.ndarray, attention: np.ndarray) -> np.ndarray:  # k = 3 // 16 + 1 = 1
            return values[np.arange(2), attention.argmax(1)]

        def unit(values: np.ndarray) -> np.ndarray:
            return values / np.linalg.norm(values, axis=1, keepdims=True)

        video = (bce_of(self.scores[:2].max(1), 0) + bce_of(self.scores[2:].max(1), 1)) / 2
        dual = bce_of(by_a[2:].max(1), 1) + bce_of((1 - by_n[2:]).max(1), 1) + bce_of(by_n[:2], 1) + bce_of(by_a[:2], 0)
        anchor = unit(best(features[:2], by_n[:2]))
        positive, negative = unit(best(features[2:], by_n[2:])), unit(best(features[2:], by_a[2:]))
        near, far = (np.linalg.norm(anchor - other, axis=1) for other in (positive, negative))
        triplet = np.maximum(0, 1 + near - far).mean()
        kl = 0.5 * (mean**2 + np.exp(spread) - 1 - spread).sum(1).mean()  # summed over the segments
        lengths = [np.linalg.norm(best(v, a), axis=1) for v, a in ((strange, by_a[2:]), (uncertain, by_n[:2]))]
        distance = np.maximum(0, 30 - lengths[0] + lengths[1]).mean()
        expected = video + 0.2 * dual + 0.3 * triplet + 0.4 * kl + 0.05 * distance
        assert head.method_loss(parts, ANOMALOUS)["total"].item() == pytest.approx(expected, rel=1e-4)

    def test_gcn_label_noise(self):
        rng = np.random.default_rng(0)
        cleaned, slow, labels = rng.uniform(0.1, 0.9, (3, 4, 3))
        head = build_head("gcn_label_noise", channels=4, classes=1, sure_share=0.4)
        noisy = self.scores[2:]
        order = noisy.argsort(axis=1)[:, [0, 2]]  # the int(0.4 x 3) = 1 lowest and highest
        p, c = (np.take_along_axis(a, order, 1) for a in (noisy, cleaned[2:]))
        normal = bce_of(cleaned[:2], self.scores[:2])  # of normal bags all segments
        rest = (normal + bce_of(c, p) + np.abs(cleaned[2:] - slow[2:]).mean()) / 2
        for warming, given in ((True, np.ones((2, 3))), (False, labels[2:])):
            wanted = np.concatenate([np.zeros((2, 3)), given])
            parts = {"logits": logit(self.scores), "cleaned": logit(cleaned)}
            parts |= {name: torch.from_numpy(value).float() for name, value in (("slow", slow), ("labels", labels))}
            found = head.method_loss(parts | {"warming": torch.tensor(warming)}, ANOMALOUS)["total"].item()
            assert found == pytest.approx(bce_of(self.scores, wanted) + rest, rel=1e-5)

    def test_a_graph_is_normalised_by_its_degrees(self):
        graph = torch.tensor([[1.0, 3.0], [3.0, 13.0]])
        expected = torch.tensor([[1 / 4, 3 / 8], [3 / 8, 13 / 16]])
        torch.testing.assert_close(normalized(graph), expected)

    def test_the_readout_is_trained_by_the_classes_of_anomalous_bags(self):
        head = build_head("mil_ranking", channels=4, classes=2)
        readout = np.random.default_rng(1).normal(size=(4, 3, 2))
        own = logit(self.scores)
        output = HeadOutput(own, own, own, {"logits": own, "readout": torch.from_numpy(readout).float()})
        labels = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1]])
        weights = self.scores / self.scores.sum(1, keepdims=True)
        bag = (weights[..., None] * readout).sum(1)
        log_share = bag - np.log(np.exp(bag).sum(1, keepdims=True))
        expected = -(log_share[2, 0] + log_share[3].mean()) / 2
        terms = head.loss(output, labels)
        assert terms["readout"].item() == pytest.approx(expected, rel=1e-5)
        alone = head.method_loss(output.parts, ANOMALOUS)["total"]
        assert terms["total"].item() == pytest.approx((alone + terms["readout"]).item())


class TestForms:
    """What a head computes, where the form of the authors' released code is not the obvious one."""

    def test_rtfm_relates_segments_without_a_softmax(self):
        torch.manual_seed(0)
        block = NonLocal(4).eval()
        signal = torch.randn(2, 4, 5)
        assert torch.equal(block(signal), signal)  # the last norm begins at zero
        torch.nn.init.ones_(block.out[1].weight)
        weights = {name: value.numpy() for name, value in block.state_dict().items()}
        x = signal.numpy().transpose(0, 2, 1)  # (B, T, C)
        query, key, value = (
            x @ weights[f"{n}.weight"][..., 0].T + weights[f"{n}.bias"] for n in ("query", "key", "value")
        )
        seen = (query @ key.transpose(0, 2, 1) / 5) @ value @ weights["out.0.weight"][..., 0].T
        expected = x + seen / np.sqrt(1 + 1e-5)  # the norm's running statistics are 0 and 1
        np.testing.assert_allclose(block(signal).detach().numpy(), expected.transpose(0, 2, 1), rtol=1e-4, atol=1e-5)

    def test_rtfm_drops_features_and_magnitudes_in_training_only(self):
        torch.manual_seed(0)
        head = build_head("rtfm", channels=8, classes=1, dropout=0.5)
        vectors = torch.rand(8, 40, 8)
        parts = head.train().method(vectors)
        magnitudes = parts["features"].norm(dim=-1)
        dropped = parts["ranks"] == 0
        assert 0.3 < dropped.float().mean() < 0.7
        torch.testing.assert_close(parts["ranks"][~dropped], 2 * magnitudes[~dropped])
        assert 0.3 < (parts["features"] == 0).float().mean() < 0.7
        assert set(head.eval().method(vectors)) == {"logits"}

    def test_ur_dmu_scores_as_it_trains(self):
        torch.manual_seed(0)
        head = build_head("ur_dmu", channels=8, classes=1, dropout=0.0)
        torch.nn.init.ones_(head.mean.bias)  # counts twice in both
        vectors = torch.rand(4, 6, 8)
        with torch.no_grad():
            trained, scored = head.train().method(vectors)["logits"], head.eval().method(vectors)["logits"]
        torch.testing.assert_close(trained[2:], scored[2:])  # anomalous bags, which have no noise

    def test_attention_by_distance_is_divided_by_the_sums_of_columns(self):
        layer = _Layer(0.0)
        with torch.no_grad():  # only the part by distance, of values 1, is let through
            for module in (layer.project, layer.out, layer.wide, layer.narrow):
                torch.nn.init.zeros_(module.weight)
            layer.project.weight[3 * 512 :, 0] = 1
            layer.norm1.weight.zero_()
            layer.norm1.bias[0] = 1
            layer.out.weight[0, 128] = 1
            layer.out.bias.zero_()
            layer.narrow.bias.zero_()
            found = layer(torch.zeros(1, 5, 512))[0, :, 0].numpy()
        near = np.exp(-np.abs(np.subtract.outer(np.arange(5), np.arange(5))) / np.e)
        np.testing.assert_allclose(found, (near / near.sum(0)).sum(1), rtol=1e-5)

    def test_the_cleaner_is_two_graphs_without_biases(self):
        torch.manual_seed(0)
        cleaner = Cleaner(6, 0.5).eval()
        vectors = torch.rand(1, 4, 6)
        w = {name: value.numpy() for name, value in cleaner.state_dict().items()}
        assert not [name for name in w if name.startswith(("likeness", "time")) and name.endswith("bias")]
        x = vectors[0].numpy()
        for i in (0, 3):
            x = np.maximum(0, x @ w[f"squeeze.{i}.weight"].T + w[f"squeeze.{i}.bias"])
        product = x @ x.T
        near = np.exp(-np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
        found = []
        for name, graph in (("likeness", np.exp(product - product.max(1, keepdims=True))), ("time", near)):
            degree = graph.sum(1) ** -0.5  # of rows, and the graph by likeness is not symmetric
            graph = degree[:, None] * graph * degree[None, :]
            hidden = np.maximum(0, graph @ x @ w[f"{name}.0.weight"].T)
            found.append(graph @ hidden @ w[f"{name}.1.weight"].T)
        with torch.no_grad():
            np.testing.assert_allclose(
                cleaner(vectors)[0].numpy(), (found[0] + found[1])[:, 0] / 2, rtol=1e-4, atol=1e-6
            )

    @pytest.mark.parametrize("name", ["rtfm", "ur_dmu", "gcn_label_noise"])
    def test_bags_that_do_not_come_in_pairs_are_refused(self, name):
        head = build_head(name, channels=8, classes=1).train()
        parts = head.method(torch.rand(4, 6, 8))
        with pytest.raises(
            ValueError, match=f"{name}: expected as many normal as anomalous bags, the normal ones first"
        ):
            head.method_loss(parts, ~ANOMALOUS)


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
    head = build_head(name, channels=16, classes=2).train()
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
    "bn_wvad": (15, 3e-4, {}),
    "gcn_label_noise": (60, 3e-3, {}),
    "ur_dmu": (10, 3e-4, {"dropout": 0.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNT)
def test_planted_segments_are_found(name, tmp_path):
    # UR-DMU's attention by distance blurs the ends of an event, which then has to be longer than its ends.
    size = {"segments": 16, "width": 5} if name == "ur_dmu" else {}
    bags, labels, _ = planted(**size)
    epochs, rate, options = LEARNING[name]
    head = fit(bags, labels, run_of(name, epochs, rate, **options), 2, tmp_path)
    fresh, _, truth = planted(videos=64, **size)
    with torch.inference_mode():
        scores = head(fresh.cues[:, 0], fresh.patterns[:, 0]).anomaly_scores.numpy()
    by_video = dict(zip(fresh.video_ids, scores, strict=True))
    assert frame_auc(by_video, dict(zip(fresh.video_ids, truth, strict=True))) >= 0.95


OTHER = {"normalize": False, "reduction": "max", "relation": "dot", "enhancement": True, "standardize": True}


def options_of(name: str) -> list[str]:
    elsewhere = (*MAPS, "name", "channel_attention")  # the last in test_pipeline_channel_attention
    return [field for field in SETTINGS[name].model_fields if field not in elsewhere]


@pytest.mark.parametrize(("name", "option"), [(name, option) for name in LEARNT for option in options_of(name)])
def test_every_option_of_every_head_decides_something(name, option):
    bags, labels, _ = planted(videos=8)
    default = SETTINGS[name].model_fields[option].default
    value = OTHER.get(option, default + 1 if isinstance(default, int) else 0.9 * default if default else 0.4)
    if "share" in option:
        value = 0.5
    if option == "warmup_steps":
        value = 0
    if option == "margin":  # within a lower one all bags of the problem may lie
        value = 10 * default
    order = draw_batches(labels, 8, name != "gig", torch.Generator().manual_seed(0))[0]
    totals = []
    for changes in ({}, {option: value}):
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


@pytest.mark.parametrize("field", ["reduction", "relation", "enhancement", "k"])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_option_of_the_reduction_decides_something(name, field):
    from pipeline.stages.training.bags import reduce_maps

    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(1, 2, 4, 4, 8, generator=generator) * torch.rand(1, 2, 4, 4, 1, generator=generator)
    base = {"name": name, "reduction": "spatial", "k": 3, "enhancement": False}
    value = {"k": 4}.get(field, OTHER.get(field))
    changed = base | {field: value}
    if field == "reduction":
        del changed["k"]
    vectors = [reduce_maps(maps, maps.amax(dim=(1, 2, 3)), parse_head(data)).vectors for data in (base, changed)]
    assert not torch.allclose(*vectors)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.6, 0.7])
def test_dropout_is_torchs_own_draw_for_draw(rate):
    values = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    found, gradients, states = [], [], []
    for module in (Dropout(rate), torch.nn.Dropout(rate)):
        torch.manual_seed(4)
        given = values.clone().requires_grad_()
        found.append(module.train()(given))
        found[-1].sum().backward()
        gradients.append(given.grad)
        states.append(torch.get_rng_state())
    assert 0 < (found[0] == 0).sum() < found[0].numel()
    assert all(torch.equal(*pair) for pair in (found, gradients, states))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_leaves_scoring_alone(rate):
    values = torch.randn(3, 5)
    assert torch.equal(Dropout(rate).eval()(values), values)
    assert torch.equal(Dropout(0.0).train()(values), values)


class TestBatches:
    labels = torch.tensor([[1.0, 0]] * 3 + [[0, 1.0]] * 7)

    def test_pairs_are_balanced_and_leave_no_bag_out(self):
        batches = draw_batches(self.labels, 4, True, torch.Generator().manual_seed(0))
        for batch in batches:
            half = len(batch) // 2
            assert (batch[:half] < 3).all()
            assert (batch[half:] >= 3).all()
        assert set(torch.cat(batches).tolist()) == set(range(10))

    def test_without_pairs_every_bag_comes_once(self):
        batches = draw_batches(self.labels, 4, False, torch.Generator().manual_seed(0))
        assert sorted(torch.cat(batches).tolist()) == list(range(10))

    def test_one_kind_alone_is_an_error(self):
        with pytest.raises(ValueError, match="needs normal and anomalous videos, got 3 and 0"):
            draw_batches(self.labels[:3], 4, True, torch.Generator())


@pytest.mark.parametrize(
    ("windows", "context", "expected"), [(10, None, [3, 3, 3, 1]), (10, 5, [6, 4]), (7, 512, [7]), (9, 6, [6, 3])]
)
def test_a_video_is_scored_in_parts_of_bounded_length(windows, context, expected):
    rows = torch.arange(float(windows))[None, :, None]
    pieces = [(rows[:, 0], rows[:, i : i + 3], rows[:, i : i + 3]) for i in range(0, windows, 3)]
    parts = list(in_parts(iter(pieces), windows, context))
    assert [vectors.shape[1] for _, vectors, _ in parts] == expected
    assert torch.equal(torch.cat([vectors for _, vectors, _ in parts], dim=1), rows)


def test_a_heads_initialisation_follows_the_seed_only():
    first, second = (make_head(parse_head({"name": "ur_dmu"}), Run().training, 8, 2).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
