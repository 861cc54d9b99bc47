"""What must hold for videos of any length and any sampling, and for any intervals, tried on generated ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.manifest import Interval, Manifest, VideoEntry
from pipeline.data.sampling import segment_bounds, view_generator, view_indices
from pipeline.data.windows import WindowAssembler, window_indices, windows_to_frames

FRAMES = st.integers(1, 300)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, int]:
    shape = {"window_frames": draw(st.integers(1, 9)), "interval_frames": draw(st.integers(1, 5))}
    span = (shape["window_frames"] - 1) * shape["interval_frames"] + 1
    return shape | {"stride_frames": draw(st.integers(1, span))}


@given(FRAMES, st.integers(1, 40))
def test_segments_are_inside_the_video_in_order_and_never_empty(frames, segments):
    bounds = segment_bounds(frames, segments)
    assert bounds.shape == (segments, 2)
    assert (bounds[:, 0] < bounds[:, 1]).all()
    assert bounds.min() == 0
    assert bounds.max() == frames
    assert (np.diff(bounds[:, 0]) >= 0).all()
    if frames >= segments:  # then they are the video, cut
        assert (bounds[1:, 0] == bounds[:-1, 1]).all()


@given(FRAMES, st.integers(1, 12), st.integers(1, 8), st.integers(1, 6), st.integers(1, 3), st.integers(0, 9))
def test_training_clips_lie_in_their_segments(frames, segments, clip, interval, clips, seed):
    shape = {"segments": segments, "clip_frames": clip, "interval_frames": interval, "clips_per_segment": clips}
    found = view_indices(frames, generator=view_generator(seed, "v", 0), **shape)
    bounds = segment_bounds(frames, segments)
    assert found.shape == (segments, clips, clip)
    assert (found >= bounds[:, 0, None, None]).all()
    assert (found < bounds[:, 1, None, None]).all()
    steps = np.diff(found, axis=-1)
    assert ((steps >= 0) & (steps <= interval)).all()


@given(FRAMES, windows())
def test_every_frame_is_covered_by_windows_and_streaming_gives_the_same(frames, shape):
    planned = window_indices(frames, **shape)
    covered = np.zeros(frames, dtype=bool)
    for window in planned:
        covered[window[0] : window[-1] + 1] = True
    assert covered.all()
    assembler = WindowAssembler(**shape)
    streamed = [window for frame in range(frames) for window in assembler.push(frame)] + assembler.finish()
    assert [indices.tolist() for indices, _ in streamed] == planned.tolist()
    assert [images for _, images in streamed] == planned.tolist()


@given(FRAMES, windows(), st.data())
def test_frame_scores_lie_between_the_scores_of_their_windows(frames, shape, data):
    planned = window_indices(frames, **shape)
    scores = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(planned), max_size=len(planned))))
    found = windows_to_frames(scores[:, None], planned, frames)[:, 0]
    for frame in range(frames):
        own = scores[(planned[:, 0] <= frame) & (frame <= planned[:, -1])]
        assert own.min() - 1e-12 <= found[frame] <= own.max() + 1e-12


@given(
    FRAMES, st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 299), st.integers(1, 300) | st.none()), max_size=5)
)
def test_frame_labels_are_the_union_of_the_intervals(frames, given_intervals):
    cut = [
        (label, start, None if length is None else min(frames, start + length))
        for label, start, length in given_intervals
        if start < frames
    ]
    video = VideoEntry("v", "v.mp4", "test", tuple(sorted({label for label, *_ in cut})), None, 96, 64, 25.0, frames, 1)
    manifest = Manifest(Path(), ("a", "b"), (video,), tuple(Interval("v", *interval) for interval in cut))
    truth = manifest.frame_labels("v", frames)
    for frame in range(frames):
        for column, label in enumerate("ab"):
            shown = any(kind == label and start <= frame and (end is None or frame < end) for kind, start, end in cut)
            assert truth[frame, column] == shown
