"""Frames of videos and folders of images, and the errors of unreadable files."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from places import SHARED

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import content_sha256, iter_frames, iter_raw_frames, read_header
from pipeline.data.decoding.geometry import centre_crop
from pipeline.errors import DecodeError

AWKWARD = SHARED / "data" / "decoder"
CORNERS = {
    "top left": (255, 0, 0),
    "top right": (0, 255, 0),
    "bottom left": (0, 0, 255),
    "bottom right": (255, 255, 255),
}


def corners(width: int = 96, height: int = 64) -> np.ndarray:
    """A picture whose four quarters have the colours of CORNERS."""
    image = np.empty((height, width, 3), np.uint8)
    top, left = slice(0, height // 2), slice(0, width // 2)
    bottom, right = slice(height // 2, None), slice(width // 2, None)
    places = [(top, left), (top, right), (bottom, left), (bottom, right)]
    for place, colour in zip(places, CORNERS.values(), strict=True):
        image[place] = colour
    return image


def write_video(path: Path, images: list[np.ndarray], *, rotation: int = 0, codec: str = "libx264", **options) -> Path:
    """Encode images at 10 frames/s; options: pts (list, in 1/10 s) and pix_fmt."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = options.get("pix_fmt", "yuv420p")
        if rotation:
            stream.set_display_rotation(rotation)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if "pts" in options:
                frame.pts = options["pts"][index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_images(folder: Path, values: dict[str, int], width: int = 48, height: int = 32) -> Path:
    """A folder of grey pictures by name."""
    folder.mkdir()
    for name, value in values.items():
        with av.open(str(folder / name), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream("png" if name.endswith("png") else "mjpeg", rate=1)
            stream.width, stream.height = width, height
            stream.pix_fmt = "rgb24" if name.endswith("png") else "yuvj420p"
            image = np.full((height, width, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    return folder


def quarters(image: np.ndarray) -> dict[str, np.ndarray]:
    """The colour in the middle of each quarter."""
    h, w = image.shape[0] // 4, image.shape[1] // 4
    places = [(h, w), (h, -w), (-h, w), (-h, -w)]
    return {name: image[place].astype(int) for name, place in zip(CORNERS, places, strict=True)}


def test_a_header_states_size_rate_and_packets(make_video):
    path = make_video(frames=12, width=96, height=64, fps=10)
    header = read_header(path)
    assert (header.width, header.height, header.fps, header.packets) == (96, 64, 10.0, 12)
    assert header.bytes == path.stat().st_size
    assert header.path == path


def test_frames_come_in_presentation_order_with_times(make_video):
    frames = list(iter_frames(make_video(frames=16, fps=10), centre_crop(32, 64)))
    assert [frame.image.shape for frame in frames] == [(32, 32, 3)] * 16
    assert all(frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous for frame in frames)
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(16) / 10, atol=1e-9)
    levels = [frame.image.mean() for frame in frames]
    np.testing.assert_allclose(levels, 10 + 15 * np.arange(16), atol=4)


def test_times_follow_the_stream_when_the_frame_rate_varies(tmp_path):
    pts = [0, 1, 2, 7, 8, 20]
    path = write_video(tmp_path / "vfr.mkv", [corners()] * 6, pts=pts)
    np.testing.assert_allclose([frame.time_s for frame in iter_raw_frames(path)], np.array(pts) / 10, atol=2e-3)


def test_times_start_at_the_first_frame(tmp_path):
    path = write_video(tmp_path / "late.mkv", [corners()] * 3, pts=[50, 51, 52])
    np.testing.assert_allclose([frame.time_s for frame in iter_raw_frames(path)], [0, 0.1, 0.2], atol=2e-3)


def test_times_come_from_the_rate_where_the_stream_has_none(tmp_path):
    source = write_video(tmp_path / "a.mp4", [corners()] * 4)
    raw = tmp_path / "a.h264"  # an elementary stream carries no times
    with av.open(str(source)) as container, raw.open("wb") as out:
        annexb = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", container.streams.video[0])
        for packet in container.demux(video=0):
            for filtered in annexb.filter(packet):
                out.write(bytes(filtered))
    times = [frame.time_s for frame in iter_raw_frames(raw)]
    assert len(times) == 4
    assert times[0] == 0.0
    assert times == sorted(times)
    assert times[-1] > 0


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(tmp_path, rotation):
    upright = corners(96, 64)
    stored = np.ascontiguousarray(np.rot90(upright, -rotation // 90))
    path = write_video(tmp_path / "rotated.mp4", [stored] * 3, rotation=rotation)
    header = read_header(path)
    assert (header.width, header.height) == (96, 64)
    for frame in (next(iter_raw_frames(path)), next(iter_frames(path, centre_crop(64, 64)))):
        for place, colour in quarters(frame.image).items():
            np.testing.assert_allclose(colour, CORNERS[place], atol=12, err_msg=place)


def test_raw_frames_have_the_native_size(tmp_path):
    path = write_video(tmp_path / "a.mp4", [corners(80, 48)] * 2)
    images = [frame.image for frame in iter_raw_frames(path)]
    assert [image.shape for image in images] == [(48, 80, 3)] * 2
    for place, colour in quarters(images[0]).items():
        np.testing.assert_allclose(colour, CORNERS[place], atol=12, err_msg=place)


@pytest.mark.parametrize(("width", "height"), [(97, 65), (33, 301), (16, 16), (640, 36)])
def test_odd_and_small_sizes_give_a_full_crop(tmp_path, width, height):
    image = np.full((height, width, 3), 120, np.uint8)
    path = write_video(tmp_path / "odd.mkv", [image] * 2, codec="ffv1", pix_fmt="bgr0")
    assert [frame.image.shape for frame in iter_frames(path)] == [(224, 224, 3)] * 2
    np.testing.assert_allclose(next(iter_frames(path)).image, 120, atol=2)


def test_a_folder_of_images_is_a_video_in_the_order_of_its_numbers(tmp_path):
    folder = write_images(tmp_path / "frames", {"img10.png": 200, "img2.png": 100, "img1.jpg": 50})
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".img3.png").write_text("hidden")
    header = read_header(folder)
    assert (header.width, header.height, header.fps, header.packets) == (48, 32, 25.0, 3)
    frames = list(iter_frames(folder, centre_crop(32, 32)))
    np.testing.assert_allclose([frame.image.mean() for frame in frames], [50, 100, 200], atol=4)
    np.testing.assert_allclose([frame.time_s for frame in frames], [0, 0.04, 0.08])


@pytest.mark.parametrize(("lost", "seen"), [("2.png", [50, 50, 150]), ("1.png", [100, 100, 150])])
def test_a_damaged_image_of_a_folder_keeps_its_place(tmp_path, lost, seen):
    folder = write_images(tmp_path / "frames", {"1.png": 50, "2.png": 100, "3.png": 150})
    (folder / lost).write_bytes((folder / lost).read_bytes()[:40])
    damage = Damage()
    frames = list(iter_frames(folder, centre_crop(32, 32), damage=damage))
    np.testing.assert_allclose([frame.image.mean() for frame in frames], seen, atol=4)
    number = int(lost[0]) - 1
    assert (damage.lost, damage.errors) == ([(number, number + 1)], 1)


def test_a_damaged_image_is_named_with_its_frame(tmp_path):
    folder = write_images(tmp_path / "frames", {"1.png": 1, "2.png": 2})
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:40])
    with pytest.raises(DecodeError, match=r"2\.png"):
        list(iter_frames(folder))


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DecodeError, match="expected a folder of images"):
        read_header(tmp_path)


def test_files_that_are_no_videos_are_errors(tmp_path):
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 100)
    (tmp_path / "empty.mp4").touch()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    expected = {
        "text.mp4": "FFmpeg can open",
        "empty.mp4": "empty",
        "sound.mp4": "holds audio",
        "gone.mp4": "no such file",
    }
    for name, message in expected.items():
        for read in (read_header, lambda path: list(iter_frames(path)), lambda path: list(iter_raw_frames(path))):
            with pytest.raises(DecodeError, match=message) as caught:
                read(tmp_path / name)
            assert name in str(caught.value)


def test_damage_in_the_middle_is_an_error_that_says_how_far_it_got(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(30)]
    path = write_video(tmp_path / "damaged.avi", images, codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][20]
        start, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[start + 8 : start + size - 8] = bytes(size - 16)
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"damaged\.avi: decoding failed at frame 20: "):
        list(iter_frames(path))
    damage = Damage()
    frames = list(iter_frames(path, damage=damage))
    assert len(frames) == 30
    assert (damage.errors, damage.first_frame, damage.lost) == (1, 20, [(20, 21)])
    np.testing.assert_array_equal(frames[20].image, frames[19].image)  # the one before it stands in
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(30) / 10)
    assert damage.message
    assert read_header(path).packets == 30


def test_a_crop_larger_than_the_short_side_is_an_error():
    with pytest.raises(ValueError, match="at most the short side of 200"):
        centre_crop(224, 200)


def test_crop_geometry_by_hand():
    geometry = centre_crop(224, 256).geometry(640, 360)
    assert (geometry.width, geometry.height, geometry.left, geometry.top) == (455, 256, 115, 16)
    assert geometry.to_picture(320, 180) == pytest.approx((112.5, 112))
    assert geometry.box_to_picture(0, 0, 640, 360) == pytest.approx((-115, -16, 340, 240))
    tall = centre_crop(224, 256).geometry(360, 640)
    assert (tall.width, tall.height) == (256, 455)
    assert min(centre_crop(224, 256).geometry(3, 1000).height, centre_crop(256, 256).geometry(257, 255).width) >= 256


def test_the_crop_shows_what_the_geometry_says(tmp_path):
    image = np.zeros((120, 200, 3), np.uint8)
    image[40:60, 80:110] = 255
    path = write_video(tmp_path / "box.mkv", [image], codec="ffv1", pix_fmt="bgr0")
    x0, y0, x1, y1 = centre_crop(224, 256).geometry(200, 120).box_to_picture(80, 40, 110, 60)
    rows, columns = np.nonzero(next(iter_frames(path)).image[..., 0] > 127)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(found, (x0, y0, x1, y1), atol=1.01)


def test_content_hash_of_a_file_and_of_a_folder(tmp_path, make_video):
    path = make_video()
    assert content_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    folder = write_images(tmp_path / "frames", {"1.png": 1, "2.png": 2})
    before = content_sha256(folder)
    assert content_sha256(folder) == before
    (folder / "2.png").rename(folder / "3.png")
    renamed = content_sha256(folder)
    shutil.copy(folder / "1.png", folder / "3.png")
    assert len({before, renamed, content_sha256(folder)}) == 3


@pytest.mark.skipif(not AWKWARD.is_dir(), reason="the collection of awkward videos is not here")
def test_awkward_real_files():
    for name, frames, size in [
        ("h265_10bits.mp4", 30, (200, 200)),
        ("nasa_13013.mp4", 390, (480, 270)),
        ("unordered.mov", 4, (50, 50)),
        ("video_90.mov", 3, (320, 568)),
        ("video_180.mov", 3, (568, 320)),
    ]:
        header = read_header(AWKWARD / name)
        assert (header.width, header.height) == size, name
        times = [frame.time_s for frame in iter_frames(AWKWARD / name)]
        assert len(times) == frames, name
        assert times == sorted(times), name
    with pytest.raises(DecodeError, match=r"corrupted\.mp4: decoding failed at frame 28"):
        list(iter_frames(AWKWARD / "corrupted.mp4"))
    damage = Damage()
    assert len(list(iter_frames(AWKWARD / "corrupted.mp4", damage=damage))) == 50
    assert (damage.errors, damage.first_frame, damage.lost_frames) == (1, 28, 1)
