"""Files of formats whose readers in FFmpeg take a cut file for a whole one; they have sound, as most do."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.data.decoding.decode import read_header
from pipeline.data.decoding.endings import Ending, ending
from pipeline.data.decoding.packets import open_packets

FRAMES, RATE = 50, 48000
KINDS = {
    "a.wmv": ("wmv2", "wmav2", {}),
    "a.ogg": ("libvpx", "libopus", {}),
    "a.ts": ("libx264", "aac", {}),
    "a.m2ts": ("mpeg2video", "mp2", {"mpegts_m2ts_mode": "1"}),
}


def write(path: Path) -> Path:
    """Two seconds of noise, seen and heard."""
    video_codec, audio_codec, options = KINDS[path.name]
    random = np.random.default_rng(0)
    with av.open(str(path), "w", format="mpegts" if path.suffix == ".m2ts" else None, options=options) as output:
        video, audio = output.add_stream(video_codec, rate=25), output.add_stream(audio_codec, rate=RATE)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio.layout, audio.bit_rate = "mono", 64000
        heard = 0
        for number in range(FRAMES):
            picture = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            while heard < (number + 1) * RATE // 25:
                sound = av.AudioFrame.from_ndarray(
                    random.random((1, 960), np.float32) / 4, format="fltp", layout="mono"
                )
                sound.sample_rate, sound.pts, sound.time_base = RATE, heard, Fraction(1, RATE)
                heard += 960
                output.mux(audio.encode(sound))
        for stream in (video, audio):
            output.mux(stream.encode(None))
    return path


def look(path: Path) -> Ending:
    with av.open(str(path)) as container:
        return ending(path, container.format.name)


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_file_is_whole_and_one_that_is_cut_is_not(tmp_path, name):
    path = write(tmp_path / name)
    assert read_header(path).fault is None
    data = path.read_bytes()
    for share in (0.4, 0.9):
        kept = int(len(data) * share)
        kept += (kept % 188 == 0) + (kept % 192 == 0)
        path.write_bytes(data[:kept])
        header = read_header(path)
        assert header.fault
        assert "ends" in header.fault
        if name == "a.wmv":  # it states its length too
            assert header.declared == pytest.approx(FRAMES, abs=3)
            assert header.fault == f"the file ends after {kept} of {len(data)} bytes"


def test_ogg_that_is_cut_between_two_pages_lacks_the_last_one(tmp_path):
    path = write(tmp_path / "a.ogg")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"OggS", 0, len(data) // 2)])
    assert look(path).fault == "the file ends before the page that is marked as its last"
    path.write_bytes(data + b"something that a program put behind it")
    assert look(path).fault is None


@pytest.mark.parametrize("name", ["a.ts", "a.m2ts"])
def test_a_stream_that_was_joined_to_a_cut_one_ends_whole(tmp_path, name):
    path = write(tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 // 188 * 188 + 100] + data)
    assert look(path).fault is None


def test_a_recording_of_which_the_size_was_never_written_is_not_held_against_its_header(tmp_path):
    path = write(tmp_path / "a.wmv")
    data = bytearray(path.read_bytes())
    place = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    data[place + 88] |= 1  # broadcast
    path.write_bytes(data[: len(data) // 2])
    assert look(path) == Ending()


def test_other_files_are_not_looked_into(tmp_path):
    (tmp_path / "a").write_bytes(b"no video")
    assert {ending(tmp_path / "a", kind) for kind in ("mov,mp4", "asf", "ogg", "mpegts")} == {Ending()}


def test_the_packets_of_a_cut_file_are_read_before_it_is_called_cut(tmp_path):
    path = write(tmp_path / "a.wmv")
    path.write_bytes(path.read_bytes()[:-5000])
    with open_packets(path) as (_, _, packets):
        assert sum(found.packet is not None and found.shown for found in packets) > FRAMES / 2
        assert packets.fault()
