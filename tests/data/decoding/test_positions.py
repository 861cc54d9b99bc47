"""Frames keep the numbers that they have in their file: lost ones, hidden ones, fields, and files that end early."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from interlaced import write_fields

from pipeline.config import parse_experiment
from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import VideoHeader, iter_raw_frames, read_header
from pipeline.data.decoding.pictures import ShownPackets
from pipeline.errors import DecodeError, ManifestError
from pipeline.stages.common.manifest import build_manifest
from pipeline.stages.extraction.sources import check_damage

FRAMES = 60
LEVELS = 30 + 3 * np.arange(FRAMES)  # every frame has its own brightness
INTRA = {"g": "1", "bf": "0"}
HEVC = "log-level=none:keyint=20:min-keyint=20:scenecut=0:bframes=0"


def write(path: Path, codec: str = "libx264", stream: dict | None = None, container: dict | None = None) -> Path:
    with av.open(str(path), "w", options=container or {}) as output:
        video = output.add_stream(codec, rate=25)
        video.width, video.height = 64, 48
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.options = stream or {}
        noise = np.random.default_rng(0).integers(-8, 9, (48, 64, 3))
        for level in LEVELS:
            output.mux(video.encode(av.VideoFrame.from_ndarray((level + noise).astype(np.uint8), format="rgb24")))
        output.mux(video.encode(None))
    return path


def packets(path: Path) -> list[av.Packet]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def erase(path: Path, numbers: Iterable[int]) -> None:
    """Zeros in place of some packets, in the order of the file; what the container has around them stays."""
    data = bytearray(path.read_bytes())
    found = packets(path)
    for number in numbers:
        start = data.index(bytes(found[number]), found[number].pos)
        data[start : start + found[number].size] = bytes(found[number].size)
    path.write_bytes(data)


def b_frame(path: Path) -> int:
    """The number of a packet that is shown before the one it follows in the file."""
    pts = [packet.pts for packet in packets(path)]
    return next(number for number in range(20, len(pts)) if pts[number] < pts[number - 1])


def watch(path: Path) -> tuple[np.ndarray, list[float], Damage]:
    damage = Damage()
    frames = list(iter_raw_frames(path, damage=damage))
    return np.array([frame.image.mean() for frame in frames]), [frame.time_s for frame in frames], damage


def others(lost: Iterable[int]) -> np.ndarray:
    return np.setdiff1d(np.arange(FRAMES), list(lost))


class TestLostFrames:
    @pytest.mark.parametrize(
        ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mjpeg"), ("a.mov", "mpeg4")]
    )
    def test_keep_their_places_and_the_one_before_stands_in(self, tmp_path, name, codec):
        path = write(tmp_path / name, codec, INTRA)
        erase(path, range(20, 25))
        seen, times, damage = watch(path)
        assert damage.lost == [(20, 25)]
        assert (damage.errors, damage.lost_frames, damage.first_frame) == (5, 5, 20)
        rest = others(range(20, 25))
        np.testing.assert_allclose(seen[rest], LEVELS[rest], atol=4)
        np.testing.assert_array_equal(seen[20:25], seen[19])
        np.testing.assert_allclose(times, np.arange(FRAMES) / 25, atol=2e-3)

    def test_at_the_start_the_one_after_stands_in(self, tmp_path):
        path = write(tmp_path / "a.mp4", stream=INTRA)
        erase(path, range(3))
        seen, _, damage = watch(path)
        assert damage.lost == [(0, 3)]
        np.testing.assert_array_equal(seen[:3], seen[3])
        np.testing.assert_allclose(seen[3:], LEVELS[3:], atol=2.5)

    def test_among_b_frames_the_place_is_that_of_the_time_not_of_the_packet(self, tmp_path):
        path = write(
            tmp_path / "a.mp4", stream={"bf": "3", "b_strategy": "0", "x264-params": "b-pyramid=none:scenecut=0"}
        )
        found = packets(path)
        number = b_frame(path)
        place = sorted(packet.pts for packet in found).index(found[number].pts)
        assert place != number
        erase(path, [number])
        seen, _, damage = watch(path)
        assert damage.lost == [(place, place + 1)]
        np.testing.assert_allclose(seen[others([place])], LEVELS[others([place])], atol=3)

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
    def test_slices_that_a_decoder_leaves_out_without_an_error_are_lost(self, tmp_path, name):
        path = write(tmp_path / name, "libx265", {"preset": "ultrafast", "x265-params": HEVC})
        data = bytearray(path.read_bytes())
        for packet in packets(path)[25:27]:
            start = data.index(bytes(packet), packet.pos)
            data[start + 6 : start + 12] = b"\xff" * 6  # the head of the slice
        path.write_bytes(data)
        seen, times, damage = watch(path)
        assert damage.lost == [(25, 40)]  # up to the next key frame all refer to them
        np.testing.assert_allclose(seen[others(range(25, 40))], LEVELS[others(range(25, 40))], atol=6)
        np.testing.assert_array_equal(seen[25:40], seen[24])
        np.testing.assert_allclose(times, np.arange(FRAMES) / 25, atol=2e-3)
        with pytest.raises(DecodeError, match="decoding failed at frame 25: "):
            list(iter_raw_frames(path))

    @pytest.mark.parametrize("open_gop", [0, 1])
    def test_a_recording_that_begins_between_two_key_frames_begins_with_the_second(self, tmp_path, open_gop):
        params = f"{HEVC}:bframes=2:b-adapt=0:open-gop={open_gop}"
        path = write(tmp_path / "a.ts", "libx265", {"preset": "ultrafast", "x265-params": params})
        data, found = path.read_bytes(), packets(path)
        path.write_bytes(data[: 3 * 188] + data[found[30].pos :])  # its tables, and from the 31st picture on
        seen, _, damage = watch(path)
        assert not damage
        first = FRAMES - len(seen)
        assert first in (39, 40)
        np.testing.assert_allclose(seen, LEVELS[first:], atol=6)

    @pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
    def test_packets_that_are_not_there_are_told_by_their_time(self, tmp_path, name):
        options = {"cluster_time_limit": "200"} if name == "a.mkv" else {}
        path = write(tmp_path / name, stream={"g": "5", "bf": "0"}, container=options)
        found = packets(path)
        data = bytearray(path.read_bytes())
        start, stop = found[31].pos, found[34].pos
        if name == "a.mkv":
            data[start:stop] = np.random.default_rng(1).bytes(stop - start)
        else:
            for place in range(start // 188 * 188, stop, 188):
                data[place : place + 188] = (
                    b"\x47\x1f\xff\x10" + b"\xff" * 184
                )  # an empty packet of the transport stream
        path.write_bytes(data)
        seen, _, damage = watch(path)
        assert len(seen) == FRAMES
        assert 2 <= damage.lost_frames <= 5
        np.testing.assert_allclose(seen[40:], LEVELS[40:], atol=3)
        assert check_damage(read_header(path), FRAMES, damage, policy()).endswith("errors")

    def test_a_stream_without_times_goes_by_the_order_of_its_packets(self, tmp_path):
        path = write(tmp_path / "a.h264", stream=INTRA)
        found = packets(path)
        assert all(packet.pts is None for packet in found)
        data = bytearray(path.read_bytes())
        places = [
            place
            for place in range(len(data) - 4)
            if data[place : place + 3] == b"\0\0\1" and data[place + 3] & 31 == 5
        ]
        for start, stop in zip(places[20:22], places[21:23], strict=True):
            data[start + 4 : start + 40] = b"\xff" * 36
            assert stop > start + 40
        path.write_bytes(data)
        seen, _, damage = watch(path)
        assert len(seen) == FRAMES
        assert damage
        np.testing.assert_allclose(seen[30:], LEVELS[30:], atol=2.5)


def policy(**settings: object) -> SimpleNamespace:
    return SimpleNamespace(**{"on_damage": "keep", "keep_share": 0.9} | settings)


class TestShare:
    HEADER = VideoHeader(Path("a.mp4"), 64, 48, 25.0, packets=864, bytes=1, declared=864)

    def test_corrupt_frames_are_not_kept(self):
        damage = Damage(corrupt_frames=850, first_frame=3, message="bad")
        with pytest.raises(DecodeError, match="14 of 864 frames are sound, 850 corrupt"):
            check_damage(self.HEADER, 864, damage, policy())
        assert check_damage(self.HEADER, 864, damage, policy(keep_share=0.01)) is not None

    def test_lost_frames_are_not_kept(self):
        damage = Damage(lost=[(0, 100)], first_frame=0, message="bad")
        with pytest.raises(DecodeError, match="764 of 864 frames are sound, 100 lost"):
            check_damage(self.HEADER, 864, damage, policy())

    def test_a_file_that_ends_early_is_damaged_though_all_of_it_decodes(self):
        header = VideoHeader(
            Path("a.mkv"), 64, 48, 25.0, packets=80, bytes=1, declared=200, fault="File ended prematurely"
        )
        with pytest.raises(DecodeError, match="ended prematurely.*80 of 200 frames are sound, 120 missing at the end"):
            check_damage(header, 80, Damage(), policy())


@pytest.mark.parametrize("how", ["cut", "zeros"])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.avi", "mjpeg"),
        ("b.avi", "libx264"),
        ("a.flv", "libx264"),
        ("a.ts", "libx264"),
    ],
)
def test_a_file_of_which_the_end_is_missing_is_not_whole(tmp_path, name, codec, how):
    path = write(tmp_path / name, codec, {"g": "12", "crf": "1"}, {"movflags": "faststart"} if name == "a.mp4" else {})
    whole, frames = read_header(path), len(watch(path)[0])
    assert whole.fault is None
    assert check_damage(whole, frames, watch(path)[2], policy()) is None
    data = path.read_bytes()
    kept = int(len(data) * 0.4)
    path.write_bytes(data[:kept] + bytes(len(data) - kept if how == "zeros" else 0))
    header, (seen, _, damage) = read_header(path), watch(path)
    if (name, how) == ("a.ts", "cut"):  # it does not state its length; only the packet cut in two shows
        assert "corrupt" in check_damage(header, len(seen), damage, policy())
        return
    assert max(header.declared, header.packets) == pytest.approx(FRAMES, abs=3)
    with pytest.raises(DecodeError, match=r"decoding\.keep_share asks for 90%"):
        check_damage(header, len(seen), damage, policy())


class TestHiddenPackets:
    def trimmed(self, path: Path, share: float) -> Path:
        """The edit list says that the last frames are not shown."""
        write(path, stream={"g": "60", "bf": "2", "b_strategy": "0", "x264-params": "b-pyramid=none:scenecut=0"})
        data = bytearray(path.read_bytes())
        place = data.index(b"elst") + 12
        duration = int.from_bytes(data[place : place + 4], "big")
        data[place : place + 4] = int(duration * share).to_bytes(4, "big")
        path.write_bytes(data)
        return path

    def test_frames_that_an_edit_list_hides_are_neither_planned_nor_missing(self, tmp_path):
        path = self.trimmed(tmp_path / "a.mp4", 0.5)
        assert len(packets(path)) > 30
        header, (seen, _, damage) = read_header(path), watch(path)
        assert (header.packets, header.declared, header.fault, len(seen)) == (30, 30, None, 30)
        assert check_damage(header, len(seen), damage, policy(on_damage="quarantine")) is None

    def test_nor_when_another_packet_is_damaged(self, tmp_path):
        path = self.trimmed(tmp_path / "a.mp4", 0.5)
        erase(path, [b_frame(path)])
        header, (seen, _, damage) = read_header(path), watch(path)
        assert check_damage(header, len(seen), damage, policy()) == "29 of 30 frames are sound, 1 lost, 1 errors"

    def test_an_interval_in_the_hidden_frames_is_refused_by_the_manifest(self, nano, tmp_path):
        for name in ("n", "f", "t"):
            write(tmp_path / f"{name}.mp4")
        self.trimmed(tmp_path / "u.mp4", 0.5)
        rows = "n,n.mp4,train,Normal\nf,f.mp4,train,F\nt,t.mp4,test,Normal\nu,u.mp4,test,F\n"
        (tmp_path / "videos.csv").write_text("video_id,path,split,label\n" + rows)
        (tmp_path / "annotations.csv").write_text("video_id,label,start_frame,end_frame\nu,F,20,50\n")
        nano["dataset"] = {
            "adapter": "csv",
            "name": "m",
            "root": str(tmp_path),
            "annotations": "annotations.csv",
            "classes": ["F"],
        }
        with pytest.raises(ManifestError, match=r"u: the interval \[20, 50\) ends past the video's 30 frames"):
            build_manifest(parse_experiment(nano), tmp_path / "manifest")

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
    def test_two_fields_are_one_frame(self, tmp_path, name):
        levels = list(range(40, 160, 10))
        path = write_fields(tmp_path / name, levels)
        assert len(packets(path)) == 2 * len(levels)
        header, (seen, _, damage) = read_header(path), watch(path)
        assert (header.packets, len(seen)) == (len(levels), len(levels))
        assert header.declared in (0, len(levels))
        assert check_damage(header, len(seen), damage, policy(on_damage="quarantine")) is None
        assert (np.diff(seen) > 5).all()

    @pytest.mark.parametrize("fields", [[8], [9], [8, 9], [0]])
    def test_a_damaged_field_costs_no_more_than_its_frame(self, tmp_path, fields):
        levels = list(range(40, 160, 10))
        path = write_fields(tmp_path / "a.mp4", levels)
        sound = watch(path)[0]
        erase(path, fields)
        header, (seen, _, damage) = read_header(path), watch(path)
        lost = fields[0] // 2
        assert header.packets == len(seen) == len(levels)
        assert damage.lost == [(lost, lost + 1)]
        rest = np.setdiff1d(np.arange(len(levels)), [lost])
        np.testing.assert_array_equal(seen[rest], sound[rest])

    def test_a_vp8_picture_that_is_only_referred_to_is_not_shown(self):
        stream = SimpleNamespace(codec_context=SimpleNamespace(name="vp8", extradata=None))
        shown = [ShownPackets(stream).shows(av.Packet(bytes([head, 0, 0, 0]))) for head in (0x10, 0x11, 0x01, 0x00)]
        assert shown == [True, True, False, False]
