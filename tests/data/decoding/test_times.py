"""Times of frames: rising, from whatever stamps a file has."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.data.decoding.decode import iter_frames
from pipeline.data.decoding.times import Pace, timed
from pipeline.errors import DecodeError

STREAM, FILE = Pace(10.0, restarts=True), Pace(10.0)


def tenths(stamps: list[float | None], pace: Pace = FILE) -> np.ndarray:
    """Times of stamps, all in tenths of a second: a frame at 10 frames/s."""
    given = [(index, None if stamp is None else stamp / 10, pace) for index, stamp in enumerate(stamps)]
    found = list(timed(given))
    assert [index for index, _ in found] == list(range(len(stamps)))
    times = np.array([time_s for _, time_s in found])
    assert (np.diff(times) > 0).all()
    return times * 10


@pytest.mark.parametrize("pace", [STREAM, FILE])
@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([7], [0]),
        ([], []),
        ([7, 8, 9, 10], [0, 1, 2, 3]),
        ([7, 8, 12, 13, 50], [0, 1, 5, 6, 43]),  # the rate varies
        ([None] * 4, [0, 1, 2, 3]),
        ([None, None, 7, 8, None, 10], [0, 1, 2, 3, 4, 5]),
        ([0, 1, 57, 3, 4], [0, 1, 2, 3, 4]),  # one stamp is wrong
        ([0, 1, -57, 3, 4], [0, 1, 2, 3, 4]),
        ([0, 1, 1e9, 3, 4], [0, 1, 2, 3, 4]),
        ([57, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 2, -57], [0, 1, 2, 3]),
        ([0, 0, 0, 0], [0, 1, 2, 3]),  # a clock that stands still
        ([0, 1, 1, 2, 3], [0, 1, 1.5, 2, 3]),
        ([5, 6, 7, 0, 1, 2], [0, 1, 2, 3, 4, 5]),  # begins anew
        ([50, 51, 52, 0, 1, 7, 8], [0, 1, 2, 3, 4, 10, 11]),
        ([5, 6, 7, 0, 1, 2, 0, 1, 2], list(range(9))),
        ([5, 6, 7, 0], [0, 1, 2, 3]),
    ],
)
def test_times_rise_whatever_the_stamps(stamps, expected, pace):
    np.testing.assert_allclose(tenths(stamps, pace), expected, atol=1e-6)


def test_a_long_step_is_a_pause_but_in_a_stream_of_joined_parts_another_clock():
    stamps = [0, 1, 2, 5000, 5001, 5002]
    np.testing.assert_allclose(tenths(stamps, FILE), stamps)
    np.testing.assert_allclose(tenths(stamps, STREAM), range(6), atol=1e-6)
    slow = Pace(0.1, restarts=True)  # a frame every ten seconds: steps of twenty are no jump
    assert [time_s for _, time_s in timed((None, stamp, slow) for stamp in (0.0, 10.0, 30.0, 50.0))] == [0, 10, 30, 50]


def test_an_error_comes_after_the_frames_before_it():
    def frames():
        yield "a", 0.0, FILE
        yield "b", 0.1, FILE
        raise DecodeError("the end")

    times = timed(frames())
    assert [next(times), next(times)] == [("a", 0.0), ("b", 0.1)]
    with pytest.raises(DecodeError, match="the end"):
        next(times)


def encoded(path: Path, codec: str, offset: int = 0, frames: int = 12) -> Path:
    """A moving picture with two B-frames between others, at 10 frames/s."""
    with av.open(str(path), "w", options={"mpegts_copyts": "1"} if path.suffix == ".ts" else {}) as container:
        options = {"bf": "2"} if codec == "mpeg4" else {"x264-params": "bframes=2:b-adapt=0:scenecut=0"}
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(frames):
            image = np.full((64, 96, 3), 10 * index, np.uint8)
            image[:, 4 * index : 4 * index + 8] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index + offset
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def times_of(path: Path) -> list[float]:
    return [frame.time_s for frame in iter_frames(path, wanted=())]


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("suffix", ["avi", "mkv", "mp4", "ts"])
def test_times_of_b_frames(tmp_path, codec, suffix):
    times = times_of(encoded(tmp_path / f"b.{suffix}", codec))
    np.testing.assert_allclose(times, np.arange(12) / 10, atol=2e-3)


@pytest.mark.parametrize("offsets", [(0, 0), (600, 0), (0, 600), (36000, 0)])
def test_joined_transport_streams_go_on(tmp_path, offsets):
    parts = [encoded(tmp_path / f"{n}.ts", "libx264", offset).read_bytes() for n, offset in enumerate(offsets)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    times = times_of(joined)
    assert len(times) == 24
    np.testing.assert_allclose(times, np.arange(24) / 10, atol=2e-3)
