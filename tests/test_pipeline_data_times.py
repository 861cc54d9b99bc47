"""Times of frames from stamps that are missing, wrong, or begin anew."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.data.decode import iter_frames
from pipeline.data.times import Clock, Pace, timed
from pipeline.errors import DecodeError


def times(stamps: list[float | None], fps: float = 10, *, joins: bool = False) -> list[float]:
    clock = Clock(Pace(fps, joins=joins))
    return [clock.time(stamp, following) for stamp, following in zip(stamps, [*stamps[1:], None], strict=True)]


def encode(path: Path, codec: str, count: int = 30, **options: str) -> Path:
    """Moving pictures at 25 frames/s."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt, video.options = 96, 64, "yuv420p", options
        for index in range(count):
            image = np.roll(rng.integers(0, 255, (64, 96, 3)), index, axis=1).astype(np.uint8)
            output.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(video.encode(None))
    return path


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([5.0, 5.1, 5.2], [0, 0.1, 0.2]),
        ([0, 0.1, 0.7, 0.8, 2.0], [0, 0.1, 0.7, 0.8, 2.0]),
        ([0, 60, 600], [0, 60, 600]),
        ([None, None, None], [0, 0.1, 0.2]),
        ([None, 3.1, 3.2], [0, 0.1, 0.2]),
        ([0, None, 0.2, None], [0, 0.1, 0.2, 0.3]),
        ([0, 0.1, 500, 0.3, 0.4], [0, 0.1, 0.2, 0.3, 0.4]),
        ([0, 0.1, -500, 0.3, 0.4], [0, 0.1, 0.2, 0.3, 0.4]),
        ([0, 0.1, 0.1, 0.3, 0.4], [0, 0.1, 0.2, 0.3, 0.4]),
        ([500, 0.1, 0.2, 0.3], [0, 0.1, 0.2, 0.3]),
    ],
    ids=["late", "varying", "pauses", "none", "first missing", "missing", "far ahead", "far back", "twice", "first wrong"],
)
def test_times_of_stamps(stamps, expected):
    np.testing.assert_allclose(times(stamps), expected, atol=1e-9)


@pytest.mark.parametrize("stamps", [[0, 0, 0.1, 0.1, 0.2, 0.2], [0, 0.3, 0.2, 0.4, 0.1, 0.7, 0.6, 0.8, 0.5], [0.0] * 40])
def test_times_always_rise(stamps):
    found = times(stamps)
    assert found[0] == 0
    assert (np.diff(found) > 0).all()


def test_a_clock_that_begins_anew_goes_on_where_it_was():
    first, second = [5 + n / 10 for n in range(30)], [1.4 + n / 10 for n in range(30)]
    np.testing.assert_allclose(times(first + second + second), np.arange(90) / 10, atol=1e-9)


def test_a_step_far_ahead_is_a_pause_unless_the_format_joins_clocks():
    stamps = [0, 0.1, 0.2, 5000, 5000.1, 5000.2]
    np.testing.assert_allclose(times(stamps), stamps, atol=1e-9)
    np.testing.assert_allclose(times(stamps, joins=True), np.arange(6) / 10, atol=1e-9)


def test_a_clock_that_was_left_for_two_wrong_stamps_is_taken_up_again():
    np.testing.assert_allclose(times([2, 2.1, 2.2, 0, 0, 2.6, 2.7]), [0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("h264.ts", "libx264", {"bf": "3"}), ("mpeg2.ts", "mpeg2video", {}), ("mpeg2.mpg", "mpeg2video", {})],
)
def test_joined_streams_have_the_times_of_one(tmp_path, name, codec, options):
    path = encode(tmp_path / name, codec, **options)
    path.write_bytes(path.read_bytes() * 3)
    found = [frame.time_s for frame in iter_frames(path, wanted=())]
    assert len(found) == 90
    np.testing.assert_allclose(found, np.arange(90) / 25, atol=1e-6)


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"bf": "3", "b-pyramid": "normal"}), ("mpeg4", {"bf": "2"})])
def test_frames_between_others_in_an_avi_have_their_times(tmp_path, codec, options):
    path = encode(tmp_path / "b.avi", codec, **options)
    np.testing.assert_allclose([frame.time_s for frame in iter_frames(path, wanted=())], np.arange(30) / 25, atol=1e-9)


def test_one_wrong_stamp_in_a_file_moves_no_other_frame(tmp_path):
    source = encode(tmp_path / "a.mp4", "mpeg4", bf="0")
    path = tmp_path / "wrong.mkv"
    with av.open(str(source)) as read, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(p for p in read.demux(video=0) if p.size):
            packet.stream, packet.time_base = video, Fraction(1, 1000)
            packet.pts = packet.dts = 40 * number + (9000 if number == 12 else 0)
            if number == 12:
                packet.dts = 480
            output.mux(packet)
    found = [frame.time_s for frame in iter_frames(path, wanted=())]
    np.testing.assert_allclose(found, np.arange(30) / 25, atol=2e-3)


def test_frames_before_an_error_are_given_before_it_is_raised():
    def failing():
        for number in range(3):
            frame = av.VideoFrame(8, 8, "gray")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            yield frame, Pace(10.0)
        raise DecodeError("damaged")

    found = []
    with pytest.raises(DecodeError, match="damaged"):
        found.extend(time_s for _, time_s in iter(timed(failing())))
    assert found == pytest.approx([0, 0.1, 0.2])
