"""Cues and backgrounds that are not in the paper, against numpy and in pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.config.heads import parse_head
from pipeline.models.cues import OverviewSoFar, overview
from pipeline.models.reduction import Standardizer, pattern_vectors, relation_map

K, M = 3, 2


@pytest.fixture
def maps() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    busy = torch.rand(2, 7, 1, 1, 1, generator=generator, dtype=torch.float64)  # segments of unequal length
    return torch.randn(2, 7, 4, 5, 6, generator=generator, dtype=torch.float64).add(0.5).relu() * busy


def cue_by_hand(maps: np.ndarray, segment: int, cue_of: str) -> np.ndarray:
    """The cue (D,) of a segment of a video (T, H, W, D)."""
    peaks = maps.max(axis=(1, 2))
    if cue_of == "segment":
        return peaks[segment]
    longest = np.argsort(-np.linalg.norm(peaks, axis=1), kind="stable")[:M]
    return (peaks[longest] if cue_of == "top_segments" else peaks).max(axis=0)


def relation_by_hand(enhanced: np.ndarray, behind: np.ndarray, cue: np.ndarray, relation: str) -> float:
    """The relation of one cell: its vector (D,), the background there (D,) and the cue (D,)."""
    if relation == "cosine":
        length = np.linalg.norm(enhanced) * np.linalg.norm(cue)
        return float(enhanced @ cue / length) if length > 0 else 0.0
    if relation == "background":
        return float(np.linalg.norm(enhanced - behind))
    return float(cue @ (enhanced - behind if relation == "background_dot" else enhanced))


@pytest.mark.parametrize("enhancement", [True, False])
@pytest.mark.parametrize("relation", ["cosine", "dot", "background", "background_dot"])
@pytest.mark.parametrize("cue_of", ["video", "segment", "top_segments"])
def test_every_option_equals_its_equations(maps, cue_of, relation, enhancement):
    whole = overview(maps, cue_of=cue_of, cue_segments=M, relation=relation)
    options = {"relation": relation, "enhancement": enhancement, "cue_of": cue_of, "background": whole.background}
    related = relation_map(maps, whole.cue, **options)
    found = pattern_vectors(maps, whole.cue, reduction="spatial", k=K, **options)
    for b, video in enumerate(maps.numpy()):
        for t, segment in enumerate(video):
            cue = cue_by_hand(video, t, cue_of)
            gain = 1 + 1 / (1 + np.exp(-cue)) if enhancement else np.ones_like(cue)
            cells, behind = (gain * segment).reshape(-1, 6), (gain * video.min(axis=0)).reshape(-1, 6)
            by_hand = [relation_by_hand(*cell, cue, relation) for cell in zip(cells, behind, strict=True)]
            np.testing.assert_allclose(related[b, t].flatten(), by_hand, atol=1e-12)
            best = np.argsort(-related[b, t].flatten().numpy(), kind="stable")[:K]  # equal ones differ by rounding
            assert found.positions[b, t].tolist() == best.tolist()
            np.testing.assert_allclose(found.vectors[b, t], cells[best].mean(axis=0), atol=1e-12)


def test_the_cue_of_a_segment_does_not_depend_on_the_others(maps):
    changed = maps.clone()
    changed[:, 1:] = 3 * torch.rand(2, 6, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for cue_of in ("segment", "video"):
        before, after = (
            pattern_vectors(each, overview(each).cue, reduction="spatial", k=K, cue_of=cue_of)
            for each in (maps, changed)
        )
        same = torch.allclose(after.vectors[:, 0], before.vectors[:, 0], rtol=1e-12)
        assert same == (cue_of == "segment")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("cue_of", ["video", "segment", "top_segments"])
def test_in_pieces_the_overview_of_every_beginning_is_that_of_the_whole(maps, cue_of, size):
    options = {"cue_of": cue_of, "cue_segments": M, "relation": "background"}
    for video in maps[:, None]:
        so_far = OverviewSoFar(**options)
        found = [so_far.add(video[:, start : start + size]) for start in range(0, 7, size)]
        cues = torch.cat([piece.cue for piece in found])
        backgrounds = torch.cat([piece.background for piece in found])
        for t in range(7):
            whole = overview(video[:, : t + 1], **options)
            assert torch.equal(cues[t], whole.cue[0])
            assert torch.equal(backgrounds[t], whole.background[0])


def test_of_segments_of_equal_length_the_first_ones_are_the_top():
    maps = torch.tensor([[3.0, 4.0], [5.0, 0.0], [4.0, 3.0], [1.0, 0.0]]).reshape(1, 4, 1, 1, 2)
    options = {"cue_of": "top_segments", "cue_segments": 2}
    assert overview(maps, **options).cue.tolist() == [[5.0, 4.0]]
    assert OverviewSoFar(**options).add(maps).cue[-1].tolist() == [5.0, 4.0]


def test_with_as_many_top_segments_as_there_are_the_cue_is_that_of_the_video(maps):
    assert torch.equal(overview(maps, cue_of="top_segments", cue_segments=7).cue, overview(maps).cue)
    assert not torch.equal(overview(maps, cue_of="top_segments", cue_segments=1).cue, overview(maps).cue)


def test_the_background_of_standardised_maps_is_the_standardised_one(maps):
    live = maps.float()
    standardizer = Standardizer(torch.full((6,), 0.2), torch.full((6,), 0.3), -0.1)
    seen = overview(standardizer.maps(live), relation="background").background
    assert torch.equal(seen, standardizer.maps(overview(live, relation="background").background))
    assert seen.max() > 0


def test_what_a_still_camera_always_sees_is_not_chosen():
    """The brightest cell is always there; the one that appears is chosen, whatever the cue is like."""
    maps = torch.zeros(1, 3, 1, 3, 2)
    maps[0, :, 0, 0] = torch.tensor([9.0, 9.0])
    maps[0, 1, 0, 2] = torch.tensor([0.0, 1.0])
    for relation, expected in (("cosine", 0), ("dot", 0), ("background", 2), ("background_dot", 2)):
        whole = overview(maps, relation=relation)
        found = pattern_vectors(
            maps, whole.cue, reduction="spatial", k=1, relation=relation, background=whole.background
        )
        assert found.positions[0, 1].tolist() == [expected]


def test_gradients_flow_through_the_chosen_cells_and_the_cue(maps):
    live = maps.clone().requires_grad_()
    whole = overview(live, cue_of="top_segments", cue_segments=M, relation="background")
    options = {"relation": "background", "background": whole.background}
    pattern_vectors(live, whole.cue, reduction="spatial", k=K, **options).vectors.sum().backward()
    assert torch.isfinite(live.grad).all()
    assert live.grad.abs().sum() > 0


def test_what_does_not_fit_is_an_error(maps):
    cue = overview(maps).cue
    with pytest.raises(ValueError, match="expected a background"):
        relation_map(maps, cue, relation="background")
    with pytest.raises(ValueError, match="expected a background"):
        relation_map(maps, cue, relation="background_dot", background=maps[:, 0, :2])
    with pytest.raises(ValueError, match="not for scaled maps"):
        relation_map(maps, cue, cue_of="segment", scale=torch.ones_like(cue))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"reduction": "mean", "cue_of": "segment"}, "cue_of decides nothing"),
        ({"reduction": "mean", "relation": "background"}, "relation decides nothing"),
        ({"cue_segments": 3}, "cue_segments decides nothing"),
        ({"channel_attention": 8, "cue_of": "segment"}, "cue_of: segment is not for a channel attention"),
        ({"channel_attention": 8, "relation": "background"}, "relation: background is not for a channel attention"),
    ],
)
def test_settings_that_decide_nothing_or_do_not_go_together_are_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        parse_head(settings)


def test_at_their_defaults_the_options_are_in_no_record():
    assert {"cue_of", "cue_segments"}.isdisjoint(parse_head({}).model_dump())
    assert {"cue_of", "cue_segments"}.isdisjoint(parse_head({"cue_of": "video"}).model_dump(mode="json"))
    chosen = parse_head({"cue_of": "top_segments"})
    assert chosen.model_dump()["cue_of"] == "top_segments"
    assert parse_head(chosen.model_dump()) == chosen
