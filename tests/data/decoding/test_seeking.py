"""Single frames found by seeking are those that decoding from the start gives."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.data.decoding.seeking import sought_frames

EVEN = list(range(120))
UNEVEN = [time + 7 * (time > 40) + 3 * (time > 41) for time in EVEN]


def make(path: Path, times: list[int], **options: str) -> Path:
    """A video of a key frame every 30 frames and B-frames, a bar moving over it; times in tenths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "30", "bf": "3", "crf": "10"} | options)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for number, time in enumerate(times):
            image = np.full((64, 128, 3), 20, np.uint8)
            image[:, number : number + 8] = 250
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Times and pictures of all frames, from the start."""
    frames = list(iter_raw_frames(path))
    return np.array([frame.time_s for frame in frames]), [frame.image for frame in frames]


@pytest.mark.parametrize("times", [EVEN, UNEVEN])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("gop", ["30", "1000"])
def test_they_are_the_frames_of_a_pass_from_the_start(tmp_path, times, suffix, gop):
    path = make(tmp_path / f"v.{suffix}", times, g=gop)
    times_s, images = read(path)
    wanted = [1, 29, 30, 31, 41, 42, 43, 89, 90, 100, 119]
    found = dict(sought_frames(path, times_s, wanted))
    assert list(found) == wanted
    for number, image in found.items():
        assert np.abs(image.astype(int) - images[number]).max() <= 2, number


def test_a_picture_is_upright(tmp_path):
    """As `test_decode.py` does it: the container's header says that the picture is turned."""
    path = make(tmp_path / "v.mp4", EVEN)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # the matrix of version 0
    turned = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]
    data[place : place + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in turned)
    path.write_bytes(data)
    times_s, images = read(path)
    ((_, image),) = sought_frames(path, times_s, [70])
    assert image.shape == images[70].shape == (128, 64, 3)
    assert np.abs(image.astype(int) - images[70]).max() <= 2


def test_frames_whose_times_are_not_the_expected_ones_are_left_out(tmp_path):
    path = make(tmp_path / "v.mp4", UNEVEN)
    times_s, _ = read(path)
    mean = np.arange(len(times_s)) / 9.5  # as of a mean frame rate
    assert list(sought_frames(path, np.concatenate([times_s[:40], mean[40:]]), [41, 90])) == []
    assert [number for number, _ in sought_frames(path, np.concatenate([times_s[:40], mean[40:]]), [30])] == [30]
    slower = times_s * 2
    assert list(sought_frames(path, slower, [30, 90])) == []
    assert list(sought_frames(path, times_s, [0, 5000])) == []


@pytest.mark.parametrize("suffix", ["avi", "ts"])
def test_nothing_is_sought_where_stamps_tell_too_little(tmp_path, suffix):
    path = make(tmp_path / f"v.{suffix}", EVEN)
    times_s, _ = read(path)
    assert list(sought_frames(path, times_s, [60])) == []


def test_a_damaged_stretch_is_not_sought(tmp_path):
    """The second group of pictures has lost its middle; the frames behind it there are none to be sure of."""
    path = make(tmp_path / "v.mkv", EVEN)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packet.pos, packet.size) for packet in packets if packet.is_keyframe]
    data = bytearray(path.read_bytes())
    start, size = places[1]
    data[start : start + size // 2] = bytes(size // 2)
    path.write_bytes(data)
    times_s = np.arange(120) / 10
    found = [number for number, _ in sought_frames(path, times_s, [20, 45, 100])]
    assert 45 not in found
    assert 20 in found


def test_it_can_be_ended_while_it_decodes(tmp_path):
    path = make(tmp_path / "v.mp4", EVEN, g="1000")
    times_s, _ = read(path)
    count = 0

    def impatient() -> None:
        nonlocal count
        count += 1
        if count > 50:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        list(sought_frames(path, times_s, [100], impatient))
