"""What browsers play, the copies of what they do not, and the links to both."""

from __future__ import annotations

import av
import numpy as np
import pytest

from pipeline.stages.report.playing import find_media, link, write_proxy


def test_a_copy_keeps_the_sound_where_it_was(tmp_path):
    """A video whose clock begins at 3 s, with a click half a second later."""
    rate, begin = 8000, 3
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 20 * number, np.uint8), format="rgb24")
            frame.pts = 10 * begin + number
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        samples = np.zeros((1, rate), np.int16)
        samples[:, rate // 2 : rate // 2 + 40] = 25_000
        heard = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        heard.sample_rate, heard.pts = rate, begin * rate
        container.mux(sound.encode(heard))
        container.mux(sound.encode(None))
    write_proxy(tmp_path / "v.mkv", tmp_path / "copy.mp4")
    with av.open(str(tmp_path / "copy.mp4")) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        frames = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    start_s, parts = frames[0][0], np.concatenate([part for _, part in frames])
    assert start_s + np.argmax(np.abs(parts) > 0.3) / rate == pytest.approx(0.5, abs=0.03)
    assert len(parts) / rate == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
    ("name", "encoder", "pixels", "played"),
    [
        ("v.mp4", "libx264", "yuv420p", True),
        ("v.mov", "libx264", "yuv420p", True),
        ("v.mp4", "libx264", "yuv444p", False),
        ("v.mkv", "libx264", "yuv420p", False),
        ("v.mp4", "mpeg4", "yuv420p", False),
        ("v.webm", "libvpx", "yuv420p", True),
        ("v.mp4", "libsvtav1", "yuv420p", True),
    ],
)
def test_what_browsers_play(tmp_path, name, encoder, pixels, played):
    if encoder not in av.codecs_available:
        pytest.skip(f"FFmpeg has no {encoder} here")
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(encoder, rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    media = find_media(tmp_path / name)
    assert (media.playable, media.reason == "") == (played, played)


@pytest.mark.parametrize("name", ["missing.mp4", "folder", "text.mp4"])
def test_what_is_no_video_file_is_told_as_such(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    media = find_media(tmp_path / name)
    assert not media.playable
    assert media.reason


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path):
    from pipeline.errors import DecodeError

    broken = tmp_path / "v.mkv"
    broken.write_bytes(b"no video")
    with pytest.raises(DecodeError):
        write_proxy(broken, tmp_path / "kept" / "v.mp4")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_video_beside_the_page_is_linked_relatively_and_another_by_its_whole_path(tmp_path):
    page = tmp_path / "out" / "report" / "videos"
    assert link(tmp_path / "out" / "clips" / "a #1%.mp4", page, tmp_path / "out") == "../../clips/a%20%231%25.mp4"
    assert link(tmp_path / "other" / "a.mp4", page, tmp_path / "out") == f"file://{tmp_path}/other/a.mp4"
