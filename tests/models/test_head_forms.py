"""What heads compute, where the form of the authors' released code is not the obvious one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.heads import build_head
from pipeline.models.heads.gcn_label_noise import Cleaner
from pipeline.models.heads.mgfn import Focus, Glance
from pipeline.models.heads.pel4vad import ContextAggregation
from pipeline.models.heads.prodisc_vad import PrototypeInteraction
from pipeline.models.heads.rtfm import NonLocal
from pipeline.models.heads.transformer import _Layer

ANOMALOUS = torch.tensor([False, False, True, True])


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

    def test_mgfn_glances_at_all_segments(self):
        torch.manual_seed(0)
        block = Glance(128).eval()
        signal = torch.randn(1, 128, 5)
        w = {name: value.numpy() for name, value in block.state_dict().items()}
        x = signal[0].numpy().T  # (T, C)
        x = (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-5)
        query, key, value = np.split(x @ w["project.weight"][..., 0].T, 3, axis=1)
        seen = []
        for i in (slice(0, 64), slice(64, 128)):  # two heads
            likeness = np.exp(query[:, i] @ key[:, i].T / 8)
            seen.append(likeness / likeness.sum(1, keepdims=True) @ value[:, i])
        expected = np.concatenate(seen, axis=1) @ w["out.weight"][..., 0].T + w["out.bias"]
        np.testing.assert_allclose(block(signal)[0].detach().numpy().T, expected, rtol=1e-4, atol=1e-5)

    def test_mgfn_focuses_with_a_kernel_for_every_64th_channel(self):
        torch.manual_seed(0)
        block = Focus(128).eval()
        signal = torch.randn(1, 128, 6)
        w = {name: value.numpy() for name, value in block.state_dict().items()}
        x = signal[0].numpy() / np.sqrt(1 + 1e-5)  # the norm's running statistics are 0 and 1
        value = np.pad(w["value.weight"][..., 0] @ x, ((0, 0), (2, 2)))
        near = np.empty((128, 6))
        for channel in range(128):
            kernel, bias = w["near.weight"][channel % 2, 0], w["near.bias"][channel % 2]
            near[channel] = [kernel @ value[channel, t : t + 5] + bias for t in range(6)]
        expected = w["out.weight"][..., 0] @ near + w["out.bias"][:, None]
        np.testing.assert_allclose(block(signal)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_mgfn_is_as_wide_as_whole_attention_heads(self):
        with pytest.raises(ValueError, match="mgfn: expected a width that is a multiple of 64, got 100"):
            build_head("mgfn", channels=4, classes=1, width=100)

    def test_mgfn_amplifies_vectors_by_their_lengths(self):
        torch.manual_seed(0)
        head = build_head("mgfn", channels=4, classes=1, width=64, amplification=2.0).eval()
        with torch.no_grad():
            head.vectors.weight.zero_()  # only the lengths are let through
            head.vectors.bias.zero_()
            turned = torch.randn(1, 9, 4)
            lengths = turned.norm(dim=-1, keepdim=True)
            same = torch.cat([lengths, torch.zeros(1, 9, 3)], dim=-1)
            found = head.method(turned)["logits"]
            torch.testing.assert_close(found, head.method(same)["logits"])
            assert not torch.allclose(found, head.method(2 * turned)["logits"], atol=1e-4)

    @pytest.mark.parametrize("window", [1, 3, 4])
    @pytest.mark.parametrize("power_norm", [True, False])
    def test_pel4vad_attends_to_all_segments_and_to_those_around(self, window, power_norm):
        torch.manual_seed(0)
        block = ContextAggregation(6, window, 0.3, 0.5, power_norm)
        torch.nn.init.constant_(block.balance, 0.4)
        x = torch.randn(7, 6)
        w = {name: value.numpy() for name, value in block.state_dict().items()}
        query, key, value = (x.numpy() @ w[f"{n}.weight"].T + w[f"{n}.bias"] for n in ("query", "key", "value"))
        alike, inside = query @ key.T / np.sqrt(128), np.zeros((7, 7))
        for i in range(7):
            for j in range(7):
                alike[i, j] += np.exp(-abs(0.3 * (i - j) ** 2 - 0.5))
            inside[i, max(0, i - window // 2) : i - window // 2 + window] = 1
        share = 1 / (1 + np.exp(-0.4))
        attend = [np.exp(alike) * seen for seen in (np.ones((7, 7)), inside)]
        everywhere, around = (each / each.sum(1, keepdims=True) @ value for each in attend)
        context = share * everywhere + (1 - share) * around
        if power_norm:
            context = np.sign(context) * np.sqrt(np.abs(context))
            context = context / np.linalg.norm(context, axis=0)  # over time
        expected = context @ w["out.weight"].T + w["out.bias"]
        np.testing.assert_allclose(block(x[None])[0].detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_the_power_norm_has_finite_gradients_at_zero(self):
        block = ContextAggregation(6, 3, 0.3, 0.5, True)
        torch.nn.init.zeros_(block.value.weight)
        torch.nn.init.zeros_(block.value.bias)
        block(torch.randn(1, 7, 6)).sum().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in block.parameters())

    def test_pel4vad_scores_by_features_of_the_segment_and_those_before_it(self):
        torch.manual_seed(0)
        head = build_head("pel4vad", channels=8, classes=1, causal_segments=3).eval()
        torch.nn.init.zeros_(head.aggregation.out.weight)  # no attention
        vectors = torch.rand(1, 9, 8)
        changed = vectors.clone()
        changed[0, 4] += 1 + torch.rand(8)
        with torch.no_grad():
            moved = head.method(vectors)["logits"] != head.method(changed)["logits"]
        assert moved[0].tolist() == [False] * 4 + [True] * 3 + [False] * 2

    def test_prodisc_vad_sets_vectors_beside_their_nearest_prototypes(self):
        torch.manual_seed(0)
        layer = PrototypeInteraction(6, 3, 2.0, 30.0)
        x = torch.randn(5, 6)
        w = {name: value.numpy().astype(float) for name, value in layer.state_dict().items()}
        near = np.exp(x.numpy() @ w["keys"].T / np.sqrt(6))
        joined = 2 * x.numpy() + 30 * (near / near.sum(1, keepdims=True)) @ w["values"]
        joined = (joined - joined.mean(1, keepdims=True)) / np.sqrt(joined.var(1, keepdims=True) + 1e-5)
        y = torch.from_numpy(joined @ w["project.weight"].T + w["project.bias"])
        expected = (y * (1 + torch.erf(y / 2**0.5)) / 2).numpy()
        np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)

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

    @pytest.mark.parametrize("name", ["rtfm", "mgfn", "ur_dmu", "gcn_label_noise"])
    def test_bags_that_do_not_come_in_pairs_are_refused(self, name):
        head = build_head(name, channels=8, classes=1).train()
        parts = head.method(torch.rand(4, 6, 8))
        with pytest.raises(
            ValueError, match=f"{name}: expected as many normal as anomalous bags, the normal ones first"
        ):
            head.method_loss(parts, ~ANOMALOUS)
