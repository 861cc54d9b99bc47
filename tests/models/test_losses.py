"""Equations 3, 4 and 8 to 14 against a literal transcription, and the heads that feed them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.models.heads import build_head
from pipeline.models.losses import LossSettings, segment_consensus, vs_loss
from pipeline.models.reduction import global_pattern_cue, spatial_patterns

SETTINGS = LossSettings(p=2, lambda1=1.0, lambda2=0.5, lambda3=0.1)


def literal(video_logits, segment_logits, labels, p):
    """The terms written out with scores, not logits."""
    video = segment = classes = sparse = 0.0
    for b in range(len(labels)):
        target = 1 - labels[b, 0]
        s_g = torch.sigmoid(video_logits[b])[1:].max()  # eq. 3
        video = video - (target * s_g.log() + (1 - target) * (1 - s_g).log())  # eq. 4
        scores = torch.sigmoid(segment_logits[b])  # eq. 7
        s_c = scores.sort(dim=0, descending=True).values[:p].mean(dim=0)  # eq. 8
        best = s_c[1:].max()  # eq. 9
        segment = segment - (target * best.log() + (1 - target) * (1 - best).log())  # eq. 10
        classes = classes - (labels[b] * s_c.log() + (1 - labels[b]) * (1 - s_c).log()).mean()  # eq. 11
        sparse = sparse + scores[:, 1:].max(dim=1).values.sum()  # eq. 13
    terms = [term / len(labels) for term in (video, segment, classes, sparse)]
    return [*terms, terms[0] + 1.0 * terms[1] + 0.5 * terms[2] + 0.1 * terms[3]]  # eqs. 12, 14


@pytest.fixture
def bag():
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    segments = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]], dtype=torch.float64)
    return video, segments, labels


def test_terms_equal_the_literal_equations(bag):
    video, segments, labels = bag
    found = vs_loss(video, segments, labels, SETTINGS)
    expected = literal(video, segments, labels, 2)
    for name, value in zip(("video", "segment", "classes", "sparse", "total"), expected, strict=True):
        torch.testing.assert_close(getattr(found, name), value)


def test_gradients_equal_the_literal_equations(bag):
    video, segments, labels = bag
    one = [video.clone().requires_grad_(), segments.clone().requires_grad_()]
    two = [video.clone().requires_grad_(), segments.clone().requires_grad_()]
    vs_loss(one[0], one[1], labels, SETTINGS).total.backward()
    literal(two[0], two[1], labels, 2)[-1].backward()
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_by_hand():
    terms = vs_loss(torch.zeros(1, 3), torch.zeros(1, 4, 3), torch.tensor([[0.0, 1.0, 0.0]]), SETTINGS)
    log2 = 0.6931472
    assert terms.video.item() == pytest.approx(log2)
    assert terms.segment.item() == pytest.approx(log2)
    assert terms.classes.item() == pytest.approx(log2)
    assert terms.sparse.item() == pytest.approx(4 * 0.5)
    assert terms.total.item() == pytest.approx(2.5 * log2 + 0.2)


@pytest.mark.parametrize("size", [50.0, 1000.0])
def test_saturated_logits_keep_finite_losses_and_gradients(size):
    video = torch.full((2, 3), size).requires_grad_()
    segments = torch.full((2, 4, 3), -size).requires_grad_()
    terms = vs_loss(video, segments, torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), SETTINGS)
    terms.total.backward()
    assert torch.isfinite(terms.total)
    assert torch.isfinite(video.grad).all()
    assert torch.isfinite(segments.grad).all()
    assert video.grad.abs().sum() > 0


def test_permuting_segments_changes_no_term(bag):
    video, segments, labels = bag
    before = vs_loss(video, segments, labels, SETTINGS)
    after = vs_loss(video, segments[:, [4, 2, 0, 1, 3]], labels, SETTINGS)
    torch.testing.assert_close(before.total, after.total)


def test_consensus_is_the_mean_of_the_top_p(bag):
    _, segments, _ = bag
    scores = torch.sigmoid(segments).sort(dim=1, descending=True).values
    torch.testing.assert_close(segment_consensus(segments, 3), scores[:, :3].mean(dim=1))
    torch.testing.assert_close(segment_consensus(segments, 1), torch.sigmoid(segments.amax(dim=1)))


def test_bad_p_and_labels_are_errors(bag):
    video, segments, labels = bag
    with pytest.raises(ValueError, match="p: expected 1 to 5"):
        vs_loss(video, segments, labels, replace(SETTINGS, p=6))
    with pytest.raises(ValueError, match="expected video labels"):
        vs_loss(video, segments, labels[:2], SETTINGS)


def test_loss_on_reduced_bags_equals_loss_on_live_maps():
    torch.manual_seed(0)
    maps = torch.rand(2, 4, 3, 3, 8)
    labels = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    head = build_head("gig", channels=8, classes=2, dropout=0.0)
    cue = global_pattern_cue(maps)
    reduced = (cue.clone(), spatial_patterns(maps, cue, 2).vectors.clone())
    live = maps.clone().requires_grad_()
    cue = global_pattern_cue(live)
    on_live = head.loss(head(cue, spatial_patterns(live, cue, 2).vectors), labels)["total"]
    torch.testing.assert_close(head.loss(head(*reduced), labels)["total"], on_live)
    on_live.backward()
    assert live.grad.abs().sum() > 0


def test_gig_head_by_hand_and_dropout():
    head = build_head("gig", channels=4, classes=2, dropout=0.5)
    cue, patterns = torch.rand(3, 4), torch.rand(3, 5, 4)
    head.eval()
    output = head(cue, patterns)
    torch.testing.assert_close(output.video_logits, cue @ head.phi1.weight.T + head.phi1.bias)
    torch.testing.assert_close(output.segment_scores, torch.sigmoid(patterns @ head.phi2.weight.T + head.phi2.bias))
    head.train()
    assert not torch.equal(head(cue, patterns).video_logits, output.video_logits)


def test_every_parameter_gets_a_gradient():
    head = build_head("gig", channels=4, classes=2, dropout=0.0)
    output = head(torch.rand(3, 4), torch.rand(3, 5, 4))
    head.loss(output, torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]))["total"].backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def test_pattern_norm_scores_by_length():
    head = build_head("pattern_norm", channels=2, classes=3)
    scores = head(torch.zeros(1, 2), torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])).segment_scores
    torch.testing.assert_close(scores[0, :, 1:], torch.tensor([[5 / 6] * 3, [0.5] * 3]))
    torch.testing.assert_close(scores[0, :, 0], torch.tensor([1 / 6, 0.5]))


def test_unknown_head_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'gig'"):
        build_head("gigg", channels=2, classes=2)
