"""The losses of heads against the published equations, written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.heads import build_head
from pipeline.models.heads.base import HeadOutput
from pipeline.models.heads.bn_wvad import divergence, select
from pipeline.models.heads.gcn_label_noise import normalized

ANOMALOUS = torch.tensor([False, False, True, True])


def logit(score: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.log(score / (1 - score))).float()


def bce_of(score: np.ndarray, wanted: np.ndarray | float) -> float:
    return float(-np.mean(wanted * np.log(score) + (1 - wanted) * np.log(1 - score)))


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

    def test_mgfn(self):
        ranks = np.array([[1.0, 3.0, 2.0], [4.0, 1.0, 2.0], [9.0, 2.0, 8.0], [5.0, 7.0, 1.0]])
        magnitudes = np.random.default_rng(0).uniform(0, 5, size=(4, 3))
        settings = {"margin": 6.0, "contrast": 0.5, "between": 0.4, "smoothness": 0.3, "sparsity": 0.2}
        head = build_head("mgfn", channels=4, classes=1, width=64, p=2, **settings)
        parts = {"logits": logit(self.scores)}
        parts |= {
            name: torch.from_numpy(value).float() for name, value in (("magnitudes", magnitudes), ("ranks", ranks))
        }
        top = np.argsort(-ranks, axis=1)[:, :2]
        video = np.take_along_axis(self.scores, top, 1).mean(1)
        classified = (bce_of(video[:2], 0) + bce_of(video[2:], 1)) / 2
        m = np.take_along_axis(magnitudes, top, 1)  # in the order of ranks
        between = np.mean([max(0, 6 - np.linalg.norm(a - n)) ** 2 for n, a in zip(m[:2], m[2:], strict=True)])
        within = ((m[1] - m[0]) ** 2).sum() + ((m[3] - m[2]) ** 2).sum()
        smooth = ((self.scores[:, 1:] - self.scores[:, :-1]) ** 2).sum()  # of all bags, none across two
        sparse = np.sqrt((self.scores[:2] ** 2).sum())  # of normal bags
        expected = classified + 0.5 * (0.4 * between + within) + 0.3 * smooth + 0.2 * sparse
        assert between > 0
        assert head.method_loss(parts, ANOMALOUS)["total"].item() == pytest.approx(expected, rel=1e-5)

    def test_mgfn_compares_the_halves_of_a_kind_and_leaves_an_odd_bag_out(self):
        head = build_head("mgfn", channels=4, classes=1, width=64, p=1)
        m = torch.tensor([[1.0], [5.0], [100.0], [2.0], [4.0], [100.0]])
        six = {"logits": torch.zeros(6, 1), "ranks": torch.ones(6, 1), "magnitudes": m}
        terms = head.method_loss(six, torch.tensor([False] * 3 + [True] * 3))
        assert (terms["within_normal"].item(), terms["within_anomalous"].item()) == pytest.approx((16, 4), rel=1e-5)
        two = {name: value[[0, 3]] for name, value in six.items()}
        terms = head.method_loss(two, torch.tensor([False, True]))
        assert (terms["within_normal"].item(), terms["within_anomalous"].item()) == (0, 0)

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

    def test_pel4vad(self):
        scores = np.concatenate([self.scores] * 6, axis=1)[:, :17]  # k = 17 // 16 + 1 = 2
        top = -np.sort(-scores, axis=1)
        expected = (bce_of(top[:2, 0], 0) + bce_of(top[2:, :2].mean(1), 1)) / 2
        head = build_head("pel4vad", channels=4, classes=1)
        found = head.method_loss({"logits": logit(scores)}, ANOMALOUS)["total"].item()
        assert found == pytest.approx(expected, rel=1e-5)
        turned = head.method_loss({"logits": logit(scores[::-1].copy())}, ~ANOMALOUS)["total"].item()
        assert turned == pytest.approx(expected, rel=1e-5)  # bags come in any order

    def test_prodisc_vad(self):
        features = np.random.default_rng(0).normal(size=(4, 3, 5))
        settings = {"segments_per_top": 2, "video": 3.0, "discrimination": 0.7, "temperature": 0.4}
        head = build_head("prodisc_vad", channels=5, classes=1, **settings)
        top = -np.sort(-self.scores, axis=1)[:, :2]  # ceil(3 / 2) = 2 of a bag
        labels = np.array([[0.0], [0], [1], [1]]).repeat(2, 1)
        video = bce_of(top, (1 - 1e-5) * labels + 1e-5 / 8)
        unit = features / np.linalg.norm(features, axis=2, keepdims=True)
        apart = [
            np.log(np.exp((bag @ bag[e] - 1) / 0.4).sum())
            for bag, scores in zip(unit, self.scores, strict=True)
            for e in (scores.argmax(), scores.argmin())
        ]
        parts = {"logits": logit(self.scores), "features": torch.from_numpy(features).float()}
        terms = head.method_loss(parts, ANOMALOUS)
        assert terms["discrimination"].item() == pytest.approx(np.mean(apart), rel=1e-5)
        assert terms["total"].item() == pytest.approx(3 * video + 0.7 * np.mean(apart), rel=1e-5)

    def test_prodisc_vad_counts_a_segment_that_is_highest_and_lowest_once(self):
        head = build_head("prodisc_vad", channels=5, classes=1)
        features = torch.rand(4, 1, 5)
        parts = {"logits": torch.zeros(4, 1), "features": features}
        assert head.method_loss(parts, ANOMALOUS)["discrimination"].item() == pytest.approx(0, abs=1e-6)
        alike = {"logits": torch.zeros(4, 3), "features": features.expand(4, 3, 5)}
        found = head.method_loss(alike, ANOMALOUS)["discrimination"].item()
        assert found == pytest.approx(np.log(3), rel=1e-5)

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
