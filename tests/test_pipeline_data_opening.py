"""What is opened and what is not: names, pictures with EXIF, lists of other files, sizes, links, and folders of images."""

from __future__ import annotations

import os
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import PacketSideData, packet_sidedata_type_from_literal

from pipeline.config_datasets import CsvDataset
from pipeline.data.checks import Problems
from pipeline.data.damage import Damage
from pipeline.data.datasets import build
from pipeline.data.datasets.assembly import video_files
from pipeline.data.decode import content_sha256, iter_frames, iter_raw_frames, read_header
from pipeline.data.headers import file_facts
from pipeline.data.image_folder import numbering_note
from pipeline.data.orientation import Upright
from pipeline.data.workers import DecodeWorkers
from pipeline.errors import DecodeError

QUARTERS = {"A": 30, "B": 90, "C": 150, "D": 220}
# EXIF orientation: the stored quarters A B / C D as the upright picture has them, row by row.
EXIF = {1: "ABCD", 2: "BADC", 3: "DCBA", 4: "CDAB", 5: "ACBD", 6: "CADB", 7: "DBCA", 8: "BDAC"}


def picture(value: int | None = None, width: int = 64, height: int = 48) -> np.ndarray:
    """One grey, or the four of QUARTERS."""
    if value is not None:
        return np.full((height, width, 3), value, np.uint8)
    rows = np.repeat(np.array([[30, 90], [150, 220]], np.uint8), height // 2, axis=0)
    return np.repeat(np.repeat(rows, width // 2, axis=1)[..., None], 3, axis=2)


def encoded(image: np.ndarray, codec: str = "mjpeg") -> bytes:
    """The bytes of one picture file."""
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = image.shape[:2]
    context.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p"}[codec]
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    return b"".join(bytes(packet) for given in (frame, None) for packet in context.encode(given))


def exif(orientation: int | None) -> bytes:
    """A TIFF block of one tag: an orientation, or a date."""
    if orientation is None:
        return b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0132, 2, 20, 26) + bytes(4) + b"2024:01:01 10:00:00\0"
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def jpeg(orientation: int | None, image: np.ndarray | None = None) -> bytes:
    data, block = encoded(picture() if image is None else image), b"Exif\0\0" + exif(orientation)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(orientation: int | None) -> bytes:
    data = encoded(picture(), "png")
    end = 8 + 12 + 13  # signature and IHDR
    return data[:end] + png_chunk(b"eXIf", exif(orientation)) + data[end:]


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def quarters(image: np.ndarray) -> list[float]:
    h, w = image.shape[0] // 4, image.shape[1] // 4
    return [float(image[y, x].mean()) for y in (h, -h) for x in (w, -w)]


def motion_jpeg(path: Path, pictures: list[bytes]) -> Path:
    with av.open(str(path), "w") as output:
        video = output.add_stream("mjpeg", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = video, number, number, True
            packet.time_base = Fraction(1, 10)
            output.mux(packet)
    return path


class TestExif:
    @pytest.mark.parametrize("make", [jpeg, png])
    @pytest.mark.parametrize("orientation", EXIF)
    def test_the_orientation_of_a_picture_is_applied(self, tmp_path, make, orientation):
        suffix = {jpeg: "jpg", png: "png"}[make]
        folder = fill(tmp_path / "frames", {f"1.{suffix}": make(orientation)})
        header = read_header(folder)
        (frame,) = iter_raw_frames(folder)
        assert (header.width, header.height) == ((64, 48) if orientation < 5 else (48, 64))
        assert frame.image.shape == (header.height, header.width, 3)
        np.testing.assert_allclose(quarters(frame.image), [QUARTERS[letter] for letter in EXIF[orientation]], atol=6)

    @pytest.mark.parametrize("make", [jpeg, png])
    def test_a_block_without_an_orientation_changes_nothing(self, tmp_path, make):
        folder = fill(tmp_path / "frames", {"1": b"", f"1.{ {jpeg: 'jpg', png: 'png'}[make] }": make(None)})
        (frame,) = iter_raw_frames(folder)
        np.testing.assert_allclose(quarters(frame.image), list(QUARTERS.values()), atol=6)

    def test_motion_jpeg(self, tmp_path):
        path = motion_jpeg(tmp_path / "a.avi", [jpeg(None), jpeg(3), jpeg(1)])
        damage = Damage()
        frames = list(iter_raw_frames(path, damage=damage))
        assert not damage
        expected = [QUARTERS[letter] for number in (1, 3, 1) for letter in EXIF[number]]
        np.testing.assert_allclose([q for frame in frames for q in quarters(frame.image)], expected, atol=6)

    def test_side_data_that_the_library_has_no_name_for_do_no_harm(self, make_video):
        """What MV-HEVC says of its displays, put on packets of another video."""
        upright, sizes = Upright(), []
        with av.open(str(make_video(width=96, height=64))) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    displays = PacketSideData(packet_sidedata_type_from_literal("3d_reference_displays"), 16)
                    displays.update(bytes(16))
                    displays.to_packet(packet)
                for frame in packet.decode():
                    assert len(frame.side_data)
                    sizes.append(upright.size(frame))
        assert sizes == [(96, 64)] * 12


NAMES = "10:00:00.mp4", "cam1:front.mp4", "a b\tc.mp4", "100%d_%03d.mp4", "a{1,2}[x]*?.mp4", "-dash.mp4", "file:x.mp4", "é.mp4"


@pytest.mark.parametrize("name", [*NAMES, "caf\udce9.mp4"])
def test_a_file_of_any_name_opens(make_video, monkeypatch, name):
    path = make_video(name)
    monkeypatch.chdir(path.parent)
    for way in (path, Path(name)):
        assert read_header(way).packets == 12
        assert sum(1 for _ in iter_frames(way, wanted=())) == 12


@pytest.mark.parametrize("name", ["%d.jpg", "%03d.jpg", "*.jpg", "{1}?.jpg", "a:b.jpg", "caf\udce9.jpg"])
def test_a_picture_of_any_name_is_itself(tmp_path, name):
    folder = fill(
        tmp_path / "100%d*", {name: encoded(picture(200)), "001.jpg": encoded(picture(20)), "1.jpg": encoded(picture(20))}
    )
    levels = sorted(float(frame.image.mean()) for frame in iter_raw_frames(folder))
    np.testing.assert_allclose(levels, [20, 20, 200], atol=4)
    assert len(content_sha256(folder)) == 64


class TestOneFileAlone:
    LISTS = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\nclip.ts\n#EXT-X-ENDLIST\n",
        "list.mp4": "ffconcat version 1.0\nfile clip.ts\n",
    }

    @pytest.mark.parametrize("name", LISTS)
    def test_lists_of_other_files_are_not_read(self, make_video, tmp_path, name):
        make_video("clip.ts")
        (tmp_path / name).write_text(self.LISTS[name])
        with pytest.raises(DecodeError, match=r"expected a file that holds a video itself, got format '\w+'"):
            read_header(tmp_path / name)

    @pytest.mark.parametrize("name", ["%d.jpg", "*.jpg"])
    def test_a_name_is_no_pattern(self, tmp_path, name):
        (tmp_path / "1.jpg").write_bytes(encoded(picture(20)))
        with pytest.raises(DecodeError, match="no such file"):
            read_header(tmp_path / name)

    def test_a_pipe_is_no_file(self, tmp_path):
        os.mkfifo(tmp_path / "a.mp4")
        with pytest.raises(DecodeError, match="expected a regular file"):
            read_header(tmp_path / "a.mp4")

    def test_links_in_a_circle_and_into_nothing(self, tmp_path):
        (tmp_path / "a.mp4").symlink_to("b.mp4")
        (tmp_path / "b.mp4").symlink_to("a.mp4")
        (tmp_path / "c.mp4").symlink_to("gone.mp4")
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            with pytest.raises(DecodeError, match="the link leads nowhere, or in a circle"):
                read_header(tmp_path / name)


class TestPixels:
    def test_a_video_larger_than_allowed_is_refused_and_says_so(self, make_video):
        path = make_video(width=96, height=64)
        assert read_header(path, max_pixels=96 * 64).width == 96
        for read in (read_header, lambda *path, **limit: list(iter_frames(*path, **limit))):
            with pytest.raises(DecodeError, match=r"96 x 64 are .*decoding\.max_megapixels allows 0\.005"):
                read(path, max_pixels=6143)

    @pytest.mark.parametrize("side", [9000, 60000])
    def test_a_bomb_in_a_picture_is_refused(self, tmp_path, side):
        row = bytes(1 + side // 8)
        squeezed = zlib.compress(row * 10)  # the header is enough
        head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", squeezed) + png_chunk(b"IEND", b"")
        for _ in range(2):  # FFmpeg's log leaves out what it said before
            with pytest.raises(DecodeError, match=rf"{side} x {side} are \d+ megapixels, decoding.max_megapixels allows 64"):
                read_header(fill(tmp_path / f"frames{_}", {"1.png": bomb}))

    def test_pictures_that_grow_within_a_video_are_damage(self, tmp_path):
        path = motion_jpeg(tmp_path / "a.avi", [encoded(picture(20)), encoded(picture(20, 640, 480)), encoded(picture(20))])
        assert len(list(iter_frames(path))) == 3
        damage = Damage()
        list(iter_frames(path, damage=damage, max_pixels=10_000))
        assert (damage.errors, damage.first_frame) == (1, 1)

    def test_workers_keep_the_limit(self, make_video):
        with DecodeWorkers(1, max_pixels=6143) as workers:
            (found,) = workers.headers([make_video(width=96, height=64)])
        assert "max_megapixels" in str(found)


class TestImageFolders:
    def test_a_damaged_first_image_is_damage_like_any_other(self, tmp_path):
        good = encoded(picture(100))
        folder = fill(tmp_path / "frames", {f"{n}.jpg": good[:20] if n < 2 else good for n in range(10)})
        header = read_header(folder)
        assert (header.width, header.height, header.packets) == (64, 48, 10)
        damage = Damage()
        list(iter_frames(folder, damage=damage))
        assert (damage.errors, damage.first_frame) == (2, 0)

    def test_a_folder_of_damaged_images_is_an_error(self, tmp_path):
        with pytest.raises(DecodeError, match=r"none of its 2 images could be decoded; .*1\.jpg"):
            read_header(fill(tmp_path / "frames", {"1.jpg": b"\xff\xd8\xff", "2.jpg": b"text"}))

    def test_a_link_that_leads_nowhere_is_a_damaged_image(self, tmp_path):
        folder = fill(tmp_path / "frames", {"2.jpg": encoded(picture(100))})
        (folder / "1.jpg").symlink_to("1.jpg")
        (folder / "3.jpg").mkdir()
        assert read_header(folder).packets == 2
        damage = Damage()
        list(iter_frames(folder, damage=damage))
        assert damage.errors == 1
        assert file_facts(folder)[0] > 0
        assert len(content_sha256(folder)) == 64

    @pytest.mark.parametrize(
        ("numbers", "expected"),
        [
            ([*range(5), *range(10, 20)], "of the images numbered 0 to 19, 5 are missing (5 to 9)"),
            ([0, 5, 10, 20, 25], "of the images numbered 0 to 25, 1 is missing (15)"),
            (range(12), None),
            (range(1, 13), None),
            (range(0, 50, 5), None),
            ([100, 101], None),
            ([7], None),
            ([3, 17, 92, 140, 1000], None),
        ],
        ids=["gap", "gap of every fifth", "from 0", "from 1", "every fifth", "two", "one", "no counter"],
    )
    def test_gaps_in_the_numbers_are_noticed(self, tmp_path, numbers, expected):
        folder = fill(tmp_path / "cam2", {f"cam2_{number:05d}.jpg": b"x" for number in numbers})
        note = numbering_note(folder)
        assert (note or "").startswith(expected or "")
        assert bool(note) == bool(expected)

    def test_a_number_that_stands_twice_is_noticed(self, tmp_path):
        names = [f"{number}.{suffix}" for number in range(3) for suffix in ("jpg", "png")]
        assert "3 numbers stand twice (0, 1, 2)" in numbering_note(fill(tmp_path / "frames", dict.fromkeys(names, b"x")))

    def test_gaps_are_told_in_the_manifest(self, tmp_path):
        good = encoded(picture(100))
        for video in ("a", "b", "c"):
            fill(tmp_path / video, {f"{n}.jpg": good for n in range(8) if video != "b" or n not in (3, 4)})
        (tmp_path / "videos.csv").write_text("video_id,path,split,label\na,a,train,Normal\nb,b,train,Fighting\nc,c,test,Normal\n")
        manifest = build(CsvDataset(adapter="csv", name="mine", root=tmp_path, classes=["Fighting"]))
        (warning,) = manifest.origin.warnings
        assert "row 3: b: of the images numbered 0 to 7, 2 are missing (3 to 4)" in warning


class TestListing:
    def test_links_that_lead_back_are_problems_and_the_listing_ends(self, tmp_path):
        root = tmp_path / "root"
        for name in ("a", "b", "other"):
            (root / name).mkdir(parents=True)
        (root / "a" / "v.mp4").touch()
        (root / "a" / "back").symlink_to(root)
        (root / "b" / "up").symlink_to(tmp_path)
        problems = Problems()
        assert video_files(root, problems) == [root / "a" / "v.mp4"]
        assert len(problems.lines) == 2
        assert all("leads back to" in line for line in problems.lines)

    def test_links_to_each_other_are_problems(self, tmp_path):
        for name, other in (("a", "b"), ("b", "a")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "link").symlink_to(tmp_path / other)
        problems = Problems()
        video_files(tmp_path, problems)
        assert len(problems.lines) == 2

    def test_other_links_are_followed(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "v.mp4").touch()
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
        problems = Problems()
        assert video_files(tmp_path / "root", problems) == [tmp_path / "root" / "link" / "v.mp4"]
        assert not problems.lines

    def test_folders_nested_without_end_are_a_problem(self, tmp_path):
        (tmp_path / "/".join("d" * 70)).mkdir(parents=True)
        problems = Problems()
        assert video_files(tmp_path, problems) == []
        assert "nested at most 64 deep" in problems.lines[0]
