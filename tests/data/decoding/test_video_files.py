"""Files as people have them: codecs, containers, orientation, wrong counts, cut and damaged files."""

from __future__ import annotations

import gc
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import stereo
from av.sidedata.sidedata import Type
from av.video.reformatter import Interpolation, VideoReformatter

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import iter_frames, iter_raw_frames, read_header
from pipeline.data.decoding.geometry import centre_crop
from pipeline.data.decoding.orientation import Upright
from pipeline.errors import DecodeError

FRAMES = 24


def levels(count: int) -> np.ndarray:
    """A brightness for every frame."""
    return 40 + 160 * (np.arange(count) % 8) / 7


def encode(
    path: Path,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (176, 144),
    *,
    count: int = FRAMES,
    noise: float = 0.0,
    container: dict | None = None,
    stream: dict | None = None,
) -> Path:
    """A video whose frames each have their own brightness."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=container or {}) as output:
        video = output.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.options = stream or {}
        for level in levels(count):
            image = (
                level + rng.normal(0, noise, (size[1], size[0], 3)) if noise else np.full((size[1], size[0], 3), level)
            )
            frame = av.VideoFrame.from_ndarray(np.clip(image, 0, 255).astype(np.uint8), format="rgb24")
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path


def brightness(path: Path, damage: Damage | None = None) -> np.ndarray:
    return np.array([frame.image.mean() for frame in iter_frames(path, centre_crop(64, 64), damage=damage)])


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("h264.mp4", "libx264", "yuv420p"),
        ("h264.mkv", "libx264", "yuv444p"),
        ("h264.mov", "libx264", "yuv420p"),
        ("h264.ts", "libx264", "yuv420p"),
        ("h264.flv", "libx264", "yuv420p"),
        ("h264.3gp", "libx264", "yuv420p"),
        ("h264_10bit.mkv", "libx264", "yuv420p10le"),
        ("hevc.mp4", "libx265", "yuv420p"),
        ("hevc_10bit.mp4", "libx265", "yuv420p10le"),
        ("vp8.webm", "libvpx", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("av1.mkv", "libsvtav1", "yuv420p"),
        ("av1_10bit.mp4", "libsvtav1", "yuv420p10le"),
        ("mpeg2.ts", "mpeg2video", "yuv420p"),
        ("mpeg2.mpg", "mpeg2video", "yuv420p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("h263.3gp", "h263", "yuv420p"),
        ("mjpeg.avi", "mjpeg", "yuvj420p"),
    ],
)
def test_codecs_and_containers(tmp_path, name, codec, pix_fmt):
    path = encode(tmp_path / name, codec, pix_fmt)
    damage = Damage()
    np.testing.assert_allclose(brightness(path, damage), levels(FRAMES), atol=9)
    assert not damage
    header = read_header(path)
    assert (header.width, header.height) == (176, 144)


@pytest.mark.parametrize("options", [{"movflags": "frag_keyframe+empty_moov"}, {"movflags": "faststart"}])
def test_fragmented_and_progressive_mp4(tmp_path, options):
    path = encode(tmp_path / "a.mp4", container=options)
    assert len(brightness(path)) == FRAMES
    assert read_header(path).packets == FRAMES


@pytest.mark.parametrize("declared", [5, 5000])
def test_a_declared_count_that_is_wrong_changes_nothing(tmp_path, declared):
    path = encode(tmp_path / "a.avi", "mpeg4")
    data = bytearray(path.read_bytes())
    for tag, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):  # dwTotalFrames and dwLength
        place = data.index(tag) + offset
        assert struct.unpack_from("<I", data, place) == (FRAMES,)
        struct.pack_into("<I", data, place, declared)
    path.write_bytes(data)
    damage = Damage()
    np.testing.assert_allclose(brightness(path, damage), levels(FRAMES), atol=9)
    assert not damage


def test_an_edit_list_leaves_out_what_the_player_would(tmp_path):
    """B-frames give an MP4 an edit list for its delay; all frames are there, in order, from time 0."""
    path = encode(tmp_path / "a.mp4", stream={"bf": "3", "g": "12"}, noise=10)
    assert b"elst" in path.read_bytes()
    np.testing.assert_allclose(brightness(path), levels(FRAMES), atol=9)
    assert next(iter_raw_frames(path)).time_s == 0


# Rows of the display matrix (a, b, c, d), and the corners of the upright picture: top left, top right, bottom left,
# bottom right.
ORIENTATIONS = {
    "as it is": ((1, 0, 0, 1), "ABCD"),
    "mirrored": ((-1, 0, 0, 1), "BADC"),
    "upside down": ((1, 0, 0, -1), "CDAB"),
    "turned by 180": ((-1, 0, 0, -1), "DCBA"),
    "turned clockwise": ((0, 1, -1, 0), "CADB"),
    "turned counter-clockwise": ((0, -1, 1, 0), "BDAC"),
    "transposed": ((0, 1, 1, 0), "ACBD"),
    "transposed the other way": ((0, -1, -1, 0), "DBCA"),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_orientation(tmp_path, name):
    matrix, expected = ORIENTATIONS[name]
    values = dict(zip("ABCD", (30, 90, 150, 220), strict=True))
    stored = np.empty((64, 96, 3), np.uint8)
    for letter, (rows, columns) in zip("ABCD", ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        stored[32 * rows : 32 * rows + 32, 48 * columns : 48 * columns + 48] = values[letter]
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        output.mux(video.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        output.mux(video.encode(None))
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # after version and flags, times, id, duration, layer, volume
    a, b, c, d = (value * 65536 for value in matrix)
    assert struct.unpack_from(">2i", data, place) == (65536, 0)
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    header = read_header(path)
    assert (header.width, header.height) == ((64, 96) if matrix[0] == 0 else (96, 64))
    image = next(iter_raw_frames(path)).image
    height, width = image.shape[:2]
    corners = [image[y, x].mean() for y in (height // 4, -height // 4) for x in (width // 4, -width // 4)]
    np.testing.assert_allclose(corners, [values[letter] for letter in expected], atol=12)


@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuvj420p", "yuv422p", "nv12", "yuv420p10le", "gray", "rgb24", "yuva420p", "yuyv422"]
)
@pytest.mark.parametrize("size", [(534, 300), (1920, 1080), (455, 256), (17, 16), (455, 300), (534, 256), (300, 534)])
def test_planes_give_the_pixels_of_a_packed_picture(pixels, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    frame = VideoReformatter().reformat(av.VideoFrame.from_ndarray(noise, format="rgb24"), *size, pixels, threads=1)
    for width, height in ((455, 256), (341, 256), (340, 256), (257, 455)):
        packed = VideoReformatter().reformat(
            frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        found, expected = Upright().image(frame, width, height).astype(int), packed.to_ndarray().astype(int)
        assert (
            np.abs(found - expected).max() <= 2
        )  # libswscale has code for every processor; the wrong filter is tens apart


def test_pictures_do_not_wait_for_the_garbage_collector(make_video):
    path = make_video(frames=60)
    gc.collect()
    gc.disable()
    try:
        for _ in iter_raw_frames(path):
            pass
        left = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert left < 10  # key frames


def test_of_several_video_streams_the_default_one_is_taken_and_stays_the_same(tmp_path):
    path = tmp_path / "two.mkv"  # whose first stream is marked as default
    with av.open(str(path), "w") as output:
        streams = []
        for size in ((176, 144), (64, 48)):
            video = output.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            streams.append(video)
        for level in (50, 200):
            for video in streams:
                shade = level if video.width == 176 else 128
                image = np.full((video.height, video.width, 3), shade, np.uint8)
                output.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for video in streams:
            output.mux(video.encode(None))
    header = read_header(path)
    assert (header.width, header.height, header.packets) == (176, 144, 2)
    np.testing.assert_allclose(brightness(path), [50, 200], atol=9)


class TestStereo:
    def test_the_base_view_is_seen_and_its_frames_are_counted(self, tmp_path):
        path, damage = stereo.write_stereo(tmp_path / "a.mov"), Damage()
        header, frames = read_header(path), list(iter_raw_frames(path, damage=damage))
        assert (header.width, header.height, header.fps) == (stereo.WIDTH, stereo.HEIGHT, 25)
        assert (header.packets, header.declared, header.fault) == (stereo.FRAMES, stereo.FRAMES, None)
        assert not damage
        grey = (stereo.LEVELS - 16) * 255 / 219
        np.testing.assert_allclose([frame.image[20:, 20:].mean() for frame in frames], grey, atol=3)
        np.testing.assert_allclose([frame.image[:12, :12].mean() for frame in frames], 0, atol=6)
        np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(stereo.FRAMES) / 25, atol=1e-9)

    def test_the_file_holds_two_views(self, tmp_path):
        with av.open(str(stereo.write_stereo(tmp_path / "a.mov"))) as container:
            video = container.streams.video[0]
            video.codec_context.options = {"view_ids": "-1"}  # all of them
            assert sum(1 for _ in container.decode(video)) == 2 * stereo.FRAMES

    def test_it_is_turned_though_pyav_has_no_name_for_other_side_data(self, tmp_path):
        path = stereo.write_stereo(tmp_path / "a.mov", turned=True)
        with av.open(str(path)) as container:
            kinds = {found.type.name for found in next(container.decode(video=0)).side_data}
        assert "DISPLAYMATRIX" in kinds
        assert [kind for kind in kinds if kind not in Type.__members__]  # else the file no longer shows the difference
        header = read_header(path)
        assert (header.width, header.height) == (stereo.HEIGHT, stereo.WIDTH)
        image = next(iter_raw_frames(path)).image
        assert image[:12, -12:].mean() < 6
        assert image[:12, :12].mean() > 20


def test_an_encrypted_file_is_an_error_or_damage(tmp_path):
    key = "00112233445566778899aabbccddeeff"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    path = encode(tmp_path / "secret.mp4", container=options, noise=30)
    with pytest.raises(DecodeError, match=r"secret\.mp4"):
        list(iter_frames(path))


def spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    if how == "tail":
        data = data[: int(len(data) * 0.7)]
    elif how == "head":
        data = data[len(data) // 10 :]
    else:
        data = data[:middle] + np.random.default_rng(1).bytes(2000) + data[middle + 2000 :]
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_damage_in_the_middle_costs_the_frames_there(tmp_path, name):
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    path = encode(tmp_path / name, count=60, noise=30, container=options, stream={"g": "12"})
    spoil(path, "middle")
    damage = Damage()
    count = len(brightness(path, damage))
    assert count == 60
    assert damage
    assert 20 <= damage.first_frame <= 40
    if damage.errors:
        with pytest.raises(DecodeError, match=rf"{name}: decoding failed at frame {damage.first_frame}"):
            list(iter_frames(path))


def test_a_cut_tail_keeps_the_frames_before_it(tmp_path):
    path = encode(tmp_path / "a.mp4", count=60, noise=30, container={"movflags": "faststart"})
    spoil(path, "tail")
    damage, header = Damage(), read_header(path)
    assert 35 <= len(brightness(path, damage)) <= 45
    assert damage
    assert header.declared == 60


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_file_without_its_head_is_an_error(tmp_path, name):
    path = encode(tmp_path / name, noise=30)
    spoil(path, "head")
    for read in (read_header, lambda path: list(iter_frames(path, damage=Damage()))):
        with pytest.raises(DecodeError, match=name):
            read(path)
