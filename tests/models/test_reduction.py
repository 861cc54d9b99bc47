"""Equations 1, 2, 5 and 6 against a literal transcription of them."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.cues import running_cues
from pipeline.models.reduction import (
    ChannelMoments,
    Standardizer,
    global_pattern_cue,
    relation_map,
    spatial_patterns,
)


def literal(maps: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The paper's equations written out, X~ and all: cue (B, D), relation (B, T, H, W), vectors (B, T, D)."""
    batch, segments, rows, columns, channels = maps.shape
    cue = torch.stack([maps[b].reshape(-1, channels).max(dim=0).values for b in range(batch)])  # eq. 1
    enhanced = torch.sigmoid(cue)[:, None, None, None] * maps + maps  # eq. 2
    relation = torch.zeros(batch, segments, rows, columns, dtype=maps.dtype)
    vectors = []
    for b in range(batch):
        for t in range(segments):
            for i in range(rows):
                for j in range(columns):
                    vector = enhanced[b, t, i, j]
                    norm = cue[b].norm() * vector.norm()
                    relation[b, t, i, j] = (cue[b] @ vector / norm).detach() if norm > 0 else 0  # eq. 5
            best = relation[b, t].reshape(-1).argsort(descending=True, stable=True)[:k]
            vectors.append(enhanced[b, t].reshape(-1, channels)[best].mean(dim=0))  # eq. 6
    return cue, relation, torch.stack(vectors).reshape(batch, segments, channels)


@pytest.fixture
def maps() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 5, 6, generator=generator, dtype=torch.float64).relu()


def test_equals_the_literal_equations(maps):
    cue, relation, vectors = literal(maps, 3)
    found = spatial_patterns(maps, global_pattern_cue(maps), 3)
    torch.testing.assert_close(global_pattern_cue(maps), cue)
    torch.testing.assert_close(relation_map(maps, cue), relation)
    torch.testing.assert_close(found.vectors, vectors)


def test_gradients_equal_the_literal_equations(maps):
    weights = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one, two = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    cue = global_pattern_cue(one)
    ((spatial_patterns(one, cue, 3).vectors * weights).sum() + cue.sum()).backward()
    literal_cue, _, vectors = literal(two, 3)
    ((vectors * weights).sum() + literal_cue.sum()).backward()
    torch.testing.assert_close(one.grad, two.grad)
    assert one.grad.abs().sum() > 0


def test_by_hand():
    maps = torch.tensor([[[[[3.0, 0.0], [0.0, 4.0]]]]])  # one segment, two cells, two channels
    cue = global_pattern_cue(maps)
    torch.testing.assert_close(cue, torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(relation_map(maps, cue)[0, 0, 0], torch.tensor([0.6, 0.8]))
    found = spatial_patterns(maps, cue, 1)
    assert found.positions.tolist() == [[[1]]]
    torch.testing.assert_close(
        found.vectors[0, 0], torch.tensor([0.0, 4 * (1 + float(torch.sigmoid(torch.tensor(4.0))))])
    )


def test_zero_vectors_have_no_relation_and_finite_gradients():
    maps = torch.zeros(1, 2, 2, 2, 3, requires_grad=True)
    relation = relation_map(maps, global_pattern_cue(maps))
    assert relation.tolist() == torch.zeros(1, 2, 2, 2).tolist()
    spatial_patterns(maps, global_pattern_cue(maps), 2).vectors.sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_ties_keep_the_lowest_positions():
    maps = torch.ones(1, 1, 3, 3, 2)
    assert spatial_patterns(maps, global_pattern_cue(maps), 4).positions.tolist() == [[[0, 1, 2, 3]]]


def test_permuting_segments_permutes_the_vectors(maps):
    order = torch.tensor([2, 0, 1])
    cue = global_pattern_cue(maps)
    torch.testing.assert_close(global_pattern_cue(maps[:, order]), cue)
    torch.testing.assert_close(
        spatial_patterns(maps[:, order], cue, 3).vectors, spatial_patterns(maps, cue, 3).vectors[:, order]
    )


def test_permuting_positions_changes_no_vector(maps):
    cue = global_pattern_cue(maps)
    moved = maps.flip(2, 3)
    torch.testing.assert_close(spatial_patterns(moved, cue, 3).vectors, spatial_patterns(maps, cue, 3).vectors)


def test_all_positions_is_the_enhanced_mean(maps):
    cue = global_pattern_cue(maps)
    expected = maps.mean(dim=(2, 3)) * (1 + torch.sigmoid(cue))[:, None]
    torch.testing.assert_close(spatial_patterns(maps, cue, 20).vectors, expected)


def test_running_maximum_and_a_second_pass_equal_all_at_once(maps):
    cue = torch.full((2, 6), -torch.inf, dtype=torch.float64)
    for t in range(3):
        cue = torch.maximum(cue, maps[:, t].amax(dim=(1, 2)))
    pieces = [spatial_patterns(maps[:, t : t + 1], cue, 3).vectors for t in range(3)]
    expected = spatial_patterns(maps, global_pattern_cue(maps), 3).vectors
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected)


def test_the_running_cue_is_that_of_the_video_so_far(maps):
    whole = running_cues(maps)
    for t in range(3):
        assert torch.equal(whole[:, t], global_pattern_cue(maps[:, : t + 1]))
    assert not torch.equal(whole[:, 0], whole[:, 2])
    pieces = [running_cues(maps[:, :2])]
    pieces.append(running_cues(maps[:, 2:], pieces[0][:, -1]))
    assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_standardizing_the_cue_equals_the_cue_of_standardized_maps(maps):
    moments = ChannelMoments()
    moments.update(maps[:1])
    moments.update(maps[1:])
    standardizer = moments.finish(0.5)
    flat = maps.reshape(-1, 6)
    torch.testing.assert_close(standardizer.mean.double(), flat.mean(dim=0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(standardizer.std.double(), flat.std(dim=0, unbiased=False), rtol=1e-6, atol=1e-6)
    live = maps.float()
    torch.testing.assert_close(standardizer.cue(global_pattern_cue(live)), global_pattern_cue(standardizer.maps(live)))
    assert (standardizer.maps(live) >= 0).all()


def test_a_constant_channel_is_standardized_to_minus_the_offset():
    moments = ChannelMoments()
    moments.update(torch.full((4, 2), 3.0))
    standardizer = moments.finish(1.0)
    assert standardizer.std.tolist() == [1.0, 1.0]
    assert standardizer.maps(torch.tensor([3.0, 5.0])).tolist() == [0.0, 1.0]


def test_bad_shapes_and_k_are_errors(maps):
    cue = global_pattern_cue(maps)
    with pytest.raises(ValueError, match="k: expected 1 to 20"):
        spatial_patterns(maps, cue, 21)
    with pytest.raises(ValueError, match="expected a cue"):
        relation_map(maps, cue[:1])
    with pytest.raises(ValueError, match="expected maps"):
        global_pattern_cue(maps[0])
    with pytest.raises(ValueError, match="no feature maps"):
        ChannelMoments().finish(1.0)


def test_standardizer_is_frozen():
    with pytest.raises(AttributeError):
        Standardizer(torch.zeros(1), torch.ones(1), 1.0).offset = 2.0
