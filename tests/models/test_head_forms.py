"""What heads compute, where the form of the authors' released code is not the obvious one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.heads import build_head
from pipeline.models.heads.gcn_label_noise import Cleaner
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
