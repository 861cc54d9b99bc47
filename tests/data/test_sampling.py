"""Which frames are used."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.sampling import segment_bounds, view_generator, view_indices
from pipeline.data.windows import WindowAssembler, window_indices, windows_to_frames


def views(n_frames: int, seed: int = 0, **changes: int) -> np.ndarray:
    settings = {"segments": 8, "clip_frames": 6, "interval_frames": 5, "clips_per_segment": 1} | changes
    return view_indices(n_frames, generator=view_generator(seed, "video", 0), **settings)


def test_segments_of_a_long_video_tile_it():
    bounds = segment_bounds(83, 8)
    assert bounds[0, 0] == 0
    assert bounds[-1, 1] == 83
    np.testing.assert_array_equal(bounds[1:, 0], bounds[:-1, 1])


def test_segments_by_hand_when_there_are_fewer_frames_than_segments():
    np.testing.assert_array_equal(segment_bounds(3, 4), [[0, 1], [0, 1], [1, 2], [2, 3]])


@pytest.mark.parametrize("n_frames", [1, 2, 5, 7, 8, 40, 47, 48, 49, 208, 1000])
def test_clips_stay_in_their_segments_and_fit(n_frames):
    bounds = segment_bounds(n_frames, 8)
    for seed in range(20):
        clips = views(n_frames, seed)
        assert clips.shape == (8, 1, 6)
        for (start, stop), clip in zip(bounds, clips[:, 0], strict=True):
            assert start <= clip.min()
            assert clip.max() < stop
            steps = np.diff(clip)
            if stop - start > 5:  # room for six different frames
                assert len(set(steps)) == 1
                assert steps[0] == min(5, (stop - start - 1) // 5)


def test_random_starts_reach_both_ends_of_a_segment():
    starts = {int(views(240, seed)[0, 0, 0]) for seed in range(200)}
    assert starts == set(range(5))  # 30 frames, a clip spans 26


def test_a_view_depends_on_seed_id_and_view_only():
    a, b = view_generator(1, "x", 0), view_generator(1, "x", 0)
    assert a.integers(1 << 60) == b.integers(1 << 60)
    others = [view_generator(2, "x", 0), view_generator(1, "y", 0), view_generator(1, "x", 1)]
    assert len({int(g.integers(1 << 60)) for g in (view_generator(1, "x", 0), *others)}) == 4


def test_windows_by_hand():
    found = window_indices(11, window_frames=6, stride_frames=3, interval_frames=1)
    np.testing.assert_array_equal(found[:, 0], [0, 3, 5])
    np.testing.assert_array_equal(found[-1], [5, 6, 7, 8, 9, 10])


def test_a_short_video_repeats_its_last_frame():
    np.testing.assert_array_equal(
        window_indices(2, window_frames=6, stride_frames=3, interval_frames=1), [[0, 1, 1, 1, 1, 1]]
    )


def test_a_short_segment_shrinks_the_interval_before_it_clamps():
    np.testing.assert_array_equal(views(6, segments=1)[0, 0], [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(views(4, segments=1)[0, 0], [0, 1, 2, 3, 3, 3])
    assert set(np.diff(views(15, segments=1)[0, 0])) == {2}


def test_views_repeat_for_a_seed_and_hold_several_clips():
    a, b = views(400, clips_per_segment=3), views(400, clips_per_segment=3)
    assert a.shape == (8, 3, 6)
    assert a.dtype == np.int64
    np.testing.assert_array_equal(a, b)
    assert len(np.unique(a[:, :, 0])) > 8


def test_single_frame_clips_fall_anywhere_in_a_segment():
    found = {int(views(16, seed, clip_frames=1)[0, 0, 0]) for seed in range(50)}
    assert found == {0, 1}


@pytest.mark.parametrize(
    ("window", "stride", "interval"),
    [(6, 3, 1), (6, 6, 1), (1, 1, 1), (4, 2, 3), (8, 5, 2), (2, 5, 4), (7, 1, 1)],
)
def test_streaming_windows_equal_planned_windows(window, stride, interval):
    settings = {"window_frames": window, "stride_frames": stride, "interval_frames": interval}
    for n_frames in range(1, 61):
        assembler = WindowAssembler(**settings)
        found = [item for i in range(n_frames) for item in assembler.push(i)]
        found += assembler.finish()
        expected = window_indices(n_frames, **settings)
        np.testing.assert_array_equal([indices for indices, _ in found], expected)
        np.testing.assert_array_equal([images for _, images in found], expected)
        assert expected.max() == n_frames - 1
        assert set(range(n_frames)) <= {f for w in expected for f in range(w[0], w[-1] + 1)}


def test_the_assembler_holds_no_more_frames_than_a_window_spans():
    class Image:
        alive = 0

        def __init__(self) -> None:
            Image.alive += 1

        def __del__(self) -> None:
            Image.alive -= 1

    assembler = WindowAssembler(window_frames=4, stride_frames=2, interval_frames=2)
    most = 0
    for _ in range(200):
        assembler.push(Image())
        most = max(most, Image.alive)
    assert most <= 7 + 1  # the span, and the frame on its way in


def test_a_stride_that_leaves_frames_uncovered_is_an_error():
    settings = {"window_frames": 3, "stride_frames": 4, "interval_frames": 1}
    with pytest.raises(ValueError, match="stride_frames.* span of 3 frames, got 4"):
        window_indices(20, **settings)
    with pytest.raises(ValueError, match="stride_frames"):
        WindowAssembler(**settings)


def test_frames_take_the_mean_of_their_windows():
    indices = window_indices(5, window_frames=4, stride_frames=1, interval_frames=1)
    scores = np.array([[1.0, 0.0], [3.0, 1.0]])
    frames = windows_to_frames(scores, indices, 5)
    np.testing.assert_allclose(frames[:, 0], [1, 2, 2, 2, 3])
    np.testing.assert_allclose(frames[:, 1], [0, 0.5, 0.5, 0.5, 1])


def test_frames_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    indices = window_indices(50, window_frames=5, stride_frames=3, interval_frames=2)
    scores = rng.random((len(indices), 3))
    expected = [scores[(indices[:, 0] <= f) & (f <= indices[:, -1])].mean(axis=0) for f in range(50)]
    np.testing.assert_allclose(windows_to_frames(scores, indices, 50), expected)


def test_constant_scores_stay_exactly_constant():
    indices = window_indices(1000, window_frames=6, stride_frames=3, interval_frames=1)
    assert set(windows_to_frames(np.full((len(indices), 1), 0.1), indices, 1000).ravel()) == {0.1}


def test_a_frame_depends_on_its_own_windows_only():
    indices = window_indices(300, window_frames=6, stride_frames=3, interval_frames=1)
    scores = np.full((len(indices), 1), 0.3)
    before = windows_to_frames(scores, indices, 300)
    scores[0] = 1e12
    np.testing.assert_array_equal(windows_to_frames(scores, indices, 300)[6:], before[6:])


def test_a_score_that_is_not_finite_is_an_error():
    indices = window_indices(10, window_frames=6, stride_frames=3, interval_frames=1)
    with pytest.raises(ValueError, match="window 1 has a score that is not finite"):
        windows_to_frames(np.array([[0.0], [np.nan], [0.0]]), indices, 10)


def test_mismatches_are_errors():
    indices = window_indices(10, window_frames=6, stride_frames=3, interval_frames=1)
    with pytest.raises(ValueError, match="1 window scores for 3 windows"):
        windows_to_frames(np.zeros((1, 1)), indices, 10)
    with pytest.raises(ValueError, match="the video has 9 frames"):
        windows_to_frames(np.zeros((3, 1)), indices, 9)
    with pytest.raises(ValueError, match="lies in no window"):
        windows_to_frames(np.zeros((1, 1)), indices[:1], 10)
    with pytest.raises(ValueError, match="n_frames"):
        segment_bounds(0, 8)
