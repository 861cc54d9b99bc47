"""Opening files of others: any name opens, only the file is read, EXIF is understood, large pictures are refused."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import content_sha256, iter_frames, iter_raw_frames, read_header
from pipeline.data.decoding.image_folder import doubled_names, missing_numbers
from pipeline.data.decoding.opening import MAX_PIXELS, limit_pixels
from pipeline.data.decoding.pool import DecodeWorkers, Job
from pipeline.errors import DecodeError

NAMES = (
    b"2024-01-01T10:00:00",
    b"cam1:front",
    b"-dash",
    b"two words",
    b"100%done_%03d",
    b"a{1,2}[x]*?",
    b"file:a",
    b"concat:a|b",
    b"caf\xe9",
    "Straße_監控".encode(),
)
LEFT_HALF_WHITE = np.repeat(np.repeat([[255, 0]], 32, 1), 48, 0).astype(np.uint8)  # (48, 64)


@pytest.fixture
def limited():
    """Puts the limit on pixels back."""
    yield limit_pixels
    limit_pixels(MAX_PIXELS)


def exif(orientation: int | None) -> bytes:
    """A TIFF structure of one entry: the orientation, or a date."""
    if orientation is None:
        return b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x132, 2, 20, 26) + bytes(4) + b"2024:01:01 10:00:00\0"
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def jpeg(picture: np.ndarray, tiff: bytes | None = None) -> bytes:
    """A grey JPEG, with an EXIF block."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width = picture.shape
    codec.pix_fmt, codec.time_base = "yuvj420p", 1
    frame = av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, -1), format="rgb24").reformat(format="yuvj420p")
    data = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    if tiff is None:
        return data
    block = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def png(width: int, height: int, rows: bytes, tiff: bytes | None = None) -> bytes:
    """A grey PNG of unfiltered rows, each behind a zero."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    about = b"" if tiff is None else chunk(b"eXIf", tiff)
    return b"\x89PNG\r\n\x1a\n" + head + about + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def mjpeg_avi(path: Path, pictures: list[bytes]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, index, index, True
            container.mux(packet)
    return path


def folder_of(path: Path, **images: bytes) -> Path:
    path.mkdir()
    for name, data in images.items():
        (path / name.replace("_", ".")).write_bytes(data)
    return path


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.decode("utf-8", "replace"))
def test_a_file_of_any_name_opens(make_video, tmp_path, monkeypatch, name):
    path = tmp_path / os.fsdecode(name + b".mp4")
    shutil.copy(make_video(frames=3), path)
    monkeypatch.chdir(tmp_path)
    for given in (path, Path(path.name)):
        assert (read_header(given).packets, sum(1 for _ in iter_frames(given, wanted=()))) == (3, 3)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.decode("utf-8", "replace"))
def test_a_folder_of_images_of_any_name_opens(tmp_path, name):
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    (folder / os.fsdecode(name + b"1.jpg")).write_bytes(jpeg(LEFT_HALF_WHITE))
    assert sum(1 for _ in iter_frames(folder, wanted=())) == read_header(folder).packets == 1
    assert len(content_sha256(folder)) == 64


PLAYLISTS = {
    "a.m3u8": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\n{ts}\n#EXT-X-ENDLIST\n",
    "c.mp4": "ffconcat version 1.0\nfile {ts}\n",
    "d.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 50404 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_list_of_other_files_is_not_followed(make_video, tmp_path, name):
    segment = make_video("segment.ts", frames=5)
    assert read_header(segment).packets == 5
    (tmp_path / name).write_text(PLAYLISTS[name].format(ts=segment.name))
    for read in (read_header, lambda path: list(iter_frames(path))):
        with pytest.raises(DecodeError, match="its format is not one that is read"):
            read(tmp_path / name)
    folder = folder_of(tmp_path / "frames", **{"1_png": (tmp_path / name).read_bytes()})
    with pytest.raises(DecodeError, match=r"1\.png"):
        read_header(folder)


def test_no_protocol_is_open_to_a_format_that_is_read(make_video, tmp_path, monkeypatch):
    """Even if the list of formats had a hole."""
    monkeypatch.setattr("pipeline.data.decoding.opening.FORMATS", "hls,concat,mpegts,mov")
    segment = make_video("segment.ts", frames=5)
    for name in ("a.m3u8", "c.mp4"):
        (tmp_path / name).write_text(PLAYLISTS[name].format(ts=segment.name))
        with pytest.raises(DecodeError, match="not a video that FFmpeg can open"):
            read_header(tmp_path / name)


def test_what_is_no_file_is_an_error_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "nowhere.mp4").symlink_to("gone.mp4")
    expected = {"pipe.mp4": "a pipe or a device", "loop.mp4": "symbolic links", "nowhere.mp4": "no such file"}
    for name, message in expected.items():
        with pytest.raises(DecodeError, match=rf"{name}: .*{message}"):
            read_header(tmp_path / name)


def test_pictures_with_exif_decode(tmp_path):
    date = exif(None)
    row = bytes([0]) + LEFT_HALF_WHITE[0].tobytes()
    videos = [
        folder_of(tmp_path / "jpg", **{f"{n}_jpg": jpeg(LEFT_HALF_WHITE, date) for n in range(3)}),
        folder_of(tmp_path / "png", **{f"{n}_png": png(64, 48, row * 48, date) for n in range(3)}),
        mjpeg_avi(tmp_path / "m.avi", [jpeg(LEFT_HALF_WHITE, date)] * 3),
    ]
    for path in videos:
        header = read_header(path)
        assert (header.width, header.height, header.packets) == (64, 48, 3), path
        images = [frame.image for frame in iter_raw_frames(path)]
        assert len(images) == 3, path
        for image in images:
            np.testing.assert_allclose(image[4:44, [8, 56], 0], [[255, 0]] * 40, atol=6, err_msg=str(path))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "avi"])
def test_the_orientation_that_exif_states_is_applied(tmp_path, kind, orientation):
    picture = LEFT_HALF_WHITE.copy()
    picture[24:, :32] = 128  # the lower left quarter is grey, so that mirroring shows
    tiff = exif(orientation)
    if kind == "avi":
        path = mjpeg_avi(tmp_path / "m.avi", [jpeg(picture, tiff)] * 2)
    else:
        rows = b"".join(b"\0" + row.tobytes() for row in picture)
        path = folder_of(
            tmp_path / "frames", **{f"1_{kind}": jpeg(picture, tiff) if kind == "jpg" else png(64, 48, rows, tiff)}
        )
    turns = {  # EXIF 2.3, 4.6.4 A
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.T,
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].T,
        8: np.rot90(picture),
    }
    upright = turns[orientation]
    header = read_header(path)
    assert (header.height, header.width) == upright.shape
    image = next(iter_raw_frames(path)).image
    height, width = upright.shape
    places = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    np.testing.assert_allclose([image[place][0] for place in places], [upright[place] for place in places], atol=6)


def test_pictures_of_too_many_pixels_are_refused_and_say_so(make_video, tmp_path, limited):
    video = make_video(frames=3, width=96, height=64)
    rows = (b"\0" + bytes(96)) * 64
    png_file = tmp_path / "a.png"
    png_file.write_bytes(png(96, 64, rows))
    folder = folder_of(tmp_path / "frames", **{"1_png": png(96, 64, rows)})
    flash = tmp_path / "a.flv"
    with av.open(str(video)) as source, av.open(str(flash), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    for path in (video, png_file, folder, flash):
        limited(128 * 64)  # FFmpeg rounds widths up to a multiple of 64
        assert read_header(path).width == 96
        limited(96 * 64 - 1)
        for read in (read_header, lambda path: list(iter_frames(path)), lambda path: list(iter_raw_frames(path))):
            with pytest.raises(DecodeError, match=r"96 x 64 pixels; decoding\.max_megapixels allows 0\.006"):
                read(path)


def test_the_default_limit_is_64_megapixels(tmp_path):
    declared = tmp_path / "bomb.png"  # 256 MiB of picture in some hundred bytes
    declared.write_bytes(png(16000, 16000, b"\0" * 16001))
    with pytest.raises(DecodeError, match="16000 x 16000 pixels"):
        read_header(declared)
    declared.write_bytes(png(60000, 60000, b"\0" * 60001))  # more than FFmpeg counts
    with pytest.raises(DecodeError, match="size is none that can be decoded; decoding.max_megapixels allows 64"):
        read_header(declared)
    assert MAX_PIXELS == 64_000_000


def test_pictures_that_become_too_large_by_resizing_are_refused(tmp_path, limited):
    path = tmp_path / "thin.png"
    path.write_bytes(png(2, 600, (b"\0" + bytes(2)) * 600))
    limited(1_000_000)
    assert next(iter_raw_frames(path)).image.shape == (600, 2, 3)
    with pytest.raises(DecodeError, match="at a short side of 256 pixels its pictures would be 256 x 76800"):
        list(iter_frames(path))


def test_a_picture_that_grows_too_large_on_the_way_is_damage(tmp_path, limited):
    path = mjpeg_avi(
        tmp_path / "m.avi", [jpeg(LEFT_HALF_WHITE), jpeg(np.zeros((480, 640), np.uint8)), jpeg(LEFT_HALF_WHITE)]
    )
    limited(64 * 48)
    damage = Damage()
    assert len(list(iter_raw_frames(path, damage=damage))) == 3
    assert damage.lost == [(1, 2)]
    assert "640 x 480 pixels; decoding.max_megapixels" in damage.message


def test_decoder_processes_know_the_limit(make_video):
    video = make_video(frames=3, width=96, height=64)
    with DecodeWorkers(1, max_pixels=1000) as workers:
        (header,) = workers.headers([video])
        assert "decoding.max_megapixels allows 0.001 million" in str(header)
        for stream in workers.streams([Job(video)]):
            with pytest.raises(DecodeError, match="96 x 64 pixels"):
                stream.collect()


def test_a_folder_among_images_is_no_image(tmp_path):
    folder = folder_of(tmp_path / "frames", **{"1_jpg": jpeg(LEFT_HALF_WHITE)})
    (folder / "2.jpg").mkdir()
    assert read_header(folder).packets == 1
    assert len(content_sha256(folder)) == 64


def test_a_damaged_first_image_is_damage_like_any_other(tmp_path):
    good = jpeg(LEFT_HALF_WHITE)
    folder = folder_of(tmp_path / "frames", **{f"{n}_jpg": good[:20] if n < 2 else good for n in range(6)})
    (folder / "0.jpg").unlink()
    (folder / "0.jpg").symlink_to("gone.jpg")
    header = read_header(folder)
    assert (header.width, header.height, header.packets) == (64, 48, 6)
    damage = Damage()
    assert len(list(iter_frames(folder, wanted=(), damage=damage))) == 6
    assert (damage.errors, damage.lost) == (2, [(0, 2)])
    assert len(content_sha256(folder)) == 64
    for n in range(2, 6):
        (folder / f"{n}.jpg").write_bytes(b"")
    with pytest.raises(DecodeError, match=r"none of its images could be decoded: .*0\.jpg: no such file"):
        read_header(folder)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["img_00000.jpg", "img_00001.jpg", "img_00002.jpg", "img_00004.png", "img_00005.jpg"], [[3]]),
        (["9.jpg", "10.jpg", "11.jpg", "20.jpg", "21.jpg"], [list(range(12, 20))]),
        (["cam2_7.jpg", "cam2_8.jpg", "cam2_9.jpg"], []),
        ([f"{n}.jpg" for n in (0, 5, 10, 25, 30, 35)], [[15, 20]]),  # every fifth frame
        (["1.jpg", "1.png", "2.jpg", "2.png", "3.jpg"], []),
        (["1.jpg", "17.jpg", "30.jpg", "80.jpg"], []),  # no step prevails
        (["a1.jpg", "b2.jpg", "b9.jpg"], []),  # of two kinds
        (["10-01.jpg", "10-02.jpg", "11-09.jpg"], []),  # two numbers
        (["only.jpg"], []),
        (["1.jpg"], []),
        (["²1.jpg", "²2.jpg", "²3.jpg", "²5.jpg"], [[4]]),
    ],
)
def test_numbers_that_an_image_folder_lacks(names, missing):
    assert [list(gap) for gap in missing_numbers([Path(name) for name in names])] == missing


def test_images_that_differ_in_their_ending_alone_are_noticed():
    assert doubled_names([Path(name) for name in ("1.jpg", "1.png", "2.jpg", "3.jpg", "3.bmp")]) == ["1", "3"]
    assert doubled_names([Path(name) for name in ("1.jpg", "2.png")]) == []
