"""Clips of events: which frames they have, at what times, with what sound."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from small_videos import clicks_s, first_click_s, level, write_video

from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.data.events import Event
from pipeline.errors import DecodeError, OutputError
from pipeline.stages.clips.clips import make_clips
from pipeline.stages.clips.cut import CutJob, Window, cut, in_passes
from pipeline.stages.clips.movie import Movie
from pipeline.stages.clips.process import in_process, in_processes
from pipeline.stages.clips.sound import Origins

VARIABLE = np.array([0, 0.04, 0.08, 0.5, 0.52, 0.56, 1.2, 1.24, 1.28, 1.32, 1.4, 1.44])
STEADY = np.arange(40) / 25


def silent(kind: str, value: object) -> None:
    """Hears nothing."""


def window(folder: Path, start: int, end: int, times: np.ndarray, margin_s: float = 0.0, name: str = "a") -> Window:
    ends = np.append(times, times[-1] + 0.04)
    low, high = float(times[start]) - margin_s, float(ends[min(end, len(times))]) + margin_s
    return Window(start, end, low, high, float(times[start]), folder / f"{name}.mp4", folder / f"{name}.png")


def clip(path: Path, *windows: Window, encoder: str = "libx264"):
    return cut(CutJob(path, windows, 10**7, encoder), silent)


def frames(path: Path) -> list:
    return list(iter_raw_frames(path))


def pictures_are_those_of(made: Path, source: Path, first: int, tolerance: float = 4.0) -> None:
    """Every picture of a clip is that of the source, but for what encoding changes; neighbours differ by 25 levels."""
    expected = frames(source)[first:]
    for ours, theirs in zip(frames(made), expected, strict=False):
        assert np.abs(ours.image.astype(int) - theirs.image).mean() < tolerance


class TestFrames:
    @pytest.mark.parametrize("encoder", ["libx264", "mpeg4"])
    def test_a_clip_has_exactly_the_frames_of_its_event(self, tmp_path, encoder):
        source = write_video(tmp_path / "v.mp4", STEADY)
        (made,) = clip(source, window(tmp_path, 5, 14, STEADY), encoder=encoder)
        assert (made.first_frame, made.frames) == (5, 9)
        assert len(frames(made.clip)) == 9
        pictures_are_those_of(made.clip, source, 5)

    def test_the_margin_is_in_seconds_and_ends_with_the_video(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", STEADY)
        inner = window(tmp_path, 20, 22, STEADY, margin_s=0.2, name="inner")
        outer = window(tmp_path, 2, 39, STEADY, margin_s=9, name="outer")
        made = clip(source, outer, inner)
        assert [(one.first_frame, one.frames) for one in made] == [(0, 40), (15, 12)]
        pictures_are_those_of(made[1].clip, source, 15)

    def test_a_variable_frame_rate_is_kept(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", VARIABLE)
        (made,) = clip(source, window(tmp_path, 3, 9, VARIABLE))
        times = [frame.time_s for frame in frames(made.clip)]
        np.testing.assert_allclose(times, VARIABLE[3:9] - VARIABLE[3], atol=1e-4)
        assert (made.start_s, made.end_s) == (pytest.approx(0.5), pytest.approx(1.32))

    def test_frames_at_29_97_a_second_keep_their_times(self, tmp_path):
        times = np.arange(40) * 1001 / 30_000
        source = write_video(tmp_path / "v.mp4", times)
        (made,) = clip(source, window(tmp_path, 10, 40, times))
        np.testing.assert_allclose([f.time_s for f in frames(made.clip)], times[:30], atol=1e-6)

    def test_the_picture_is_upright(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", STEADY[:8], rotation=90)
        (made,) = clip(source, window(tmp_path, 2, 5, STEADY))
        shape = frames(made.clip)[0].image.shape
        assert shape == frames(source)[0].image.shape == (96, 64, 3)
        pictures_are_those_of(made.clip, source, 2)
        with Image.open(tmp_path / "a.png") as thumbnail:
            assert thumbnail.size == (64, 96)

    def test_an_odd_side_gets_one_more_column(self, tmp_path):
        source = write_video(tmp_path / "v.mkv", STEADY[:6], size=(64, 48))
        path = tmp_path / "odd.mp4"
        movie = Movie(path, 63, 47, 25.0)
        for frame in frames(source):
            movie.picture(frame.image[:47, :63], frame.time_s)
        movie.close(0.24)
        assert frames(path)[0].image.shape == (48, 64, 3)

    def test_pictures_that_change_their_size_are_brought_to_that_of_the_clip(self, tmp_path):
        """Transport streams of several sizes that were joined; a clip has the size of its own first frame."""
        sizes = [(96, 64), (128, 96), (64, 48)]
        parts = [write_video(tmp_path / "part.ts", STEADY[:10], size=size).read_bytes() for size in sizes]
        source = tmp_path / "joined.ts"
        source.write_bytes(b"".join(parts))
        whole = Window(0, 30, 0.0, 99.0, 0.0, tmp_path / "a.mp4", tmp_path / "a.png")
        (made,) = clip(source, whole)
        assert made.frames == 30
        found = frames(made.clip)
        assert {frame.image.shape for frame in found} == {(64, 96, 3)}
        brightness = [frame.image[:30].mean() for frame in found]
        np.testing.assert_allclose(brightness, [level(number) for number in range(10)] * 3, atol=8)

    def test_a_clip_that_cannot_be_written_is_named(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", STEADY[:10])
        unwritable = Window(0, 5, 0.0, 0.2, 0.0, tmp_path / "nowhere" / "a.mp4", tmp_path / "a.png")
        with pytest.raises(OutputError, match="nowhere/a.mp4 cannot be written: .*No such file"):
            clip(source, unwritable)

    def test_a_damaged_frame_keeps_its_place(self, tmp_path):
        source = write_video(tmp_path / "v.avi", STEADY, codec="mjpeg")
        with av.open(str(source)) as container:
            packet = [packet for packet in container.demux(video=0) if packet.size][20]
            begin, end = packet.pos + 8, packet.pos + packet.size - 8
        data = source.read_bytes()
        source.write_bytes(data[:begin] + bytes(end - begin) + data[end:])
        notes = []
        made = cut(CutJob(source, (window(tmp_path, 18, 24, STEADY),), 10**7), lambda kind, text: notes.append(text))
        assert [(one.first_frame, one.frames) for one in made] == [(18, 6)]
        assert any("is damaged; frames that were lost keep their places" in str(note) for note in notes)
        brightness = [frame.image[:32].mean() for frame in frames(made[0].clip)]
        expected = [level(number) for number in (18, 19, 19, 21, 22, 23)]  # the one before stands in for it
        np.testing.assert_allclose(brightness, expected, atol=8)

    def test_an_event_past_the_end_has_no_clip(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", STEADY[:10])
        beyond = Window(30, 35, 1.2, 1.4, 1.3, tmp_path / "b.mp4", tmp_path / "b.png")
        made = clip(source, window(tmp_path, 5, 20, STEADY), beyond)
        assert [one.frames for one in made] == [5, 0]
        assert not beyond.clip.exists()

    def test_a_folder_of_images_has_no_sound(self, tmp_path):
        folder = tmp_path / "images"
        folder.mkdir()
        for number in range(6):
            Image.fromarray(np.full((48, 64, 3), 40 * number, np.uint8)).save(folder / f"{number:03d}.png")
        (made,) = clip(folder, window(tmp_path, 2, 5, STEADY))
        assert made.frames == 3
        assert first_click_s(made.clip) is None


class TestSound:
    @pytest.mark.parametrize("begin_s", [0.0, 5.0])
    def test_a_click_stays_with_its_frame(self, tmp_path, begin_s):
        source = write_video(tmp_path / "v.mkv", STEADY, clicks_s=[STEADY[24]], begin_s=begin_s)
        (made,) = clip(source, window(tmp_path, 10, 35, STEADY))
        assert first_click_s(made.clip) == pytest.approx(STEADY[24] - STEADY[10], abs=0.02)

    def test_it_does_too_at_a_variable_frame_rate(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", VARIABLE, clicks_s=[1.2])
        (made,) = clip(source, window(tmp_path, 3, 12, VARIABLE))
        assert first_click_s(made.clip) == pytest.approx(0.7, abs=0.02)

    @pytest.mark.parametrize("begins_s", [(0, 0), (5, 0, 0), (0, 100), (50, 0, 50)])
    def test_it_stays_with_its_frame_where_the_clock_began_anew(self, tmp_path, begins_s):
        """Transport streams that were joined: every part has a clock of its own, and its sound ends after its
        pictures."""
        times = np.arange(15) / 25
        parts = [write_video(tmp_path / "part.ts", times, clicks_s=[0.2], begin_s=s).read_bytes() for s in begins_s]
        source = tmp_path / "joined.ts"
        source.write_bytes(b"".join(parts))
        whole = Window(0, 15 * len(parts), 0.0, 99.0, 0.0, tmp_path / "a.mp4", tmp_path / "a.png")
        (made,) = clip(source, whole)
        expected = [0.2 + 0.6 * number for number in range(len(parts))]
        assert clicks_s(made.clip) == pytest.approx(expected, abs=0.02)

    def test_a_part_without_sound_is_silent(self, tmp_path):
        times = np.arange(100) / 25
        parts = [write_video(tmp_path / f"{n}.ts", times, clicks_s=c) for n, c in enumerate(([0.2], None, [0.2]))]
        source = tmp_path / "joined.ts"
        source.write_bytes(b"".join(part.read_bytes() for part in parts))
        (made,) = clip(source, Window(0, 300, 0.0, 99.0, 0.0, tmp_path / "a.mp4", tmp_path / "a.png"))
        assert clicks_s(made.clip) == pytest.approx([0.2, 8.2], abs=0.02)

    def test_sound_of_before_and_after_is_not_in_the_clip(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", STEADY, clicks_s=[0.2, 1.5])
        (made,) = clip(source, window(tmp_path, 10, 30, STEADY))
        assert first_click_s(made.clip) is None

    def test_overlapping_clips_have_the_same_sound(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", STEADY, clicks_s=[0.8])
        made = clip(source, window(tmp_path, 5, 30, STEADY), window(tmp_path, 15, 25, STEADY, name="b"))
        assert [first_click_s(one.clip) for one in made] == [pytest.approx(0.6, abs=0.02), pytest.approx(0.2, abs=0.02)]


class TestOrigins:
    def test_one_wrong_stamp_is_no_new_part(self):
        origins = Origins()
        for index, origin_s in enumerate([7.0, 5.0, 5.0, None, 5.0, 90.0, 5.0, 5.0]):
            origins.see(index, origin_s)
        assert (len(origins), origins.of(0)) == (1, 5.0)

    def test_two_that_agree_are(self):
        origins = Origins()
        for index, origin_s in enumerate([5.0, 5.0, 5.0, -2.0, -2.0, 40.0, 40.0]):
            origins.see(index, origin_s)
        assert [origins.of(part) for part in range(4)] == [5.0, -2.0, 40.0, 40.0]


def test_more_clips_at_once_than_are_open_go_into_another_pass(tmp_path):
    windows = [window(tmp_path, start, start + 10, STEADY, name=f"w{start}") for start in range(9)]
    passes = in_passes(windows, most=3)
    assert sorted(len(one) for one in passes) == [3, 3, 3]
    assert in_passes([window(tmp_path, start, start + 3, STEADY) for start in range(0, 30, 3)], most=1)[1:] == []
    source = write_video(tmp_path / "v.mp4", STEADY)
    assert [(one.first_frame, one.frames) for one in clip(source, *windows)] == [(start, 10) for start in range(9)]


def event(video_id: str, start: int, end: int, name: str = "Fighting", peak: float = 0.9) -> Event:
    return Event(video_id, "", name, start / 25, end / 25, start, end, (start + 1) / 25, peak, 0.5)


def test_a_table_of_events_becomes_clips_a_table_and_a_sheet(tmp_path):
    """Through processes of their own; a hostile name is a file name, and a broken video is told while others go on."""
    hostile = "../$(id)/<b>\n=1"
    for name in ("good", "hostile"):
        write_video(tmp_path / f"{name}.mp4", STEADY)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    files = {"good": tmp_path / "good.mp4", hostile: tmp_path / "hostile.mp4", "broken": tmp_path / "broken.mp4"}
    events = [event("good", 5, 9), event("good", 8, 12, "A/B"), event("broken", 0, 5), event(hostile, 0, 4, peak=0.99)]
    said, steps = [], []
    report = make_clips(
        events, files, tmp_path / "out", margin_s=0.04, say=said.append, progress=lambda *step: steps.append(step)
    )
    assert list(report.failed) == ["broken"]
    assert any("broken: no clips:" in text for text in said)
    assert steps[-1] == (4, 4, "cut")
    assert [step[0] for step in steps] == sorted(step[0] for step in steps)
    assert len(list((tmp_path / "out" / "thumbnails").iterdir())) == 3
    assert len(report.clips) == 3
    assert all(path.parent == tmp_path / "out" / "clips" for path in report.clips)
    with (tmp_path / "out" / "clips.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    good = {row["class"]: (row["first_frame"], row["frames"]) for row in rows if row["video_id"] == "good"}
    assert good == {"Fighting": ("4", "6"), "A/B": ("7", "6")}
    for row in rows:
        assert len(frames(tmp_path / "out" / row["clip"])) == int(row["frames"])
    with Image.open(report.sheets[0]) as sheet:
        assert sheet.width > sheet.height > 0


def test_what_cannot_be_written_ends_it_all_and_is_no_fault_of_the_video(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.stages.clips.clips.escape", lambda name: "no-folder/v")
    source = write_video(tmp_path / "v.mp4", STEADY)
    with pytest.raises(OutputError, match="no-folder/v-5-9.png cannot be written"):
        make_clips([event("v", 5, 9)], {"v": source}, tmp_path / "out")


class TestProcess:
    def test_a_crash_is_an_error_that_names_the_video(self, tmp_path, monkeypatch):
        (tmp_path / "crash.py").write_text(
            "import os, signal\ndef work(job, tell):\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        job = CutJob(tmp_path / "v.mp4", (), 10**6)
        with pytest.raises(DecodeError, match=r"v.mp4: the process that decodes it died \(SIGSEGV\)"):
            in_process("crash:work", job.path, job, lambda frames: None, print)

    def test_so_is_one_that_hangs(self, tmp_path, monkeypatch):
        (tmp_path / "hang.py").write_text("import time\ndef work(job, tell):\n    time.sleep(60)\n")
        monkeypatch.syspath_prepend(tmp_path)
        job = CutJob(tmp_path / "v.mp4", (), 10**6)
        with pytest.raises(DecodeError, match="gave no sign of life for 0.5 s"):
            in_process("hang:work", job.path, job, lambda frames: None, print, timeout_s=0.5)

    def test_several_at_once_have_an_outcome_each(self, tmp_path, monkeypatch):
        """Each waits until all have begun, so that one after the other would hang."""
        (tmp_path / "meet.py").write_text(
            "import pathlib, time\n"
            "from pipeline.errors import DecodeError\n"
            "def work(job, tell):\n"
            "    place = pathlib.Path(__file__).parent\n"
            "    (place / f'{job.path.name}.here').touch()\n"
            "    while len(list(place.glob('*.here'))) < 3:\n"
            "        time.sleep(0.01)\n"
            "    tell('progress', 7)\n"
            "    if job.path.name == 'b':\n"
            "        raise DecodeError('b is bad')\n"
            "    return job.path.name\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        seen = []
        jobs = [(Path(name), CutJob(Path(name), (), 10**6)) for name in "abc"]
        found = dict(in_processes("meet:work", jobs, 3, lambda *step: seen.append(step), print, timeout_s=300))
        assert sorted(seen) == [(0, 7), (1, 7), (2, 7)]
        assert (found[0], str(found[1]), found[2]) == ("a", "b is bad", "c")

    def test_the_others_end_where_the_reader_stops(self, tmp_path, monkeypatch):
        (tmp_path / "one.py").write_text(
            "import os, pathlib, time\n"
            "def work(job, tell):\n"
            "    if job.path.name == 'b':\n"
            "        return 'b'\n"
            "    tell('note', str(os.getpid()))\n"
            "    time.sleep(600)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        pids: list[int] = []
        jobs = [(Path(name), CutJob(Path(name), (), 10**6)) for name in "ab"]

        def note(pid: str) -> None:
            pids.append(int(pid))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(in_processes("one:work", jobs, 2, lambda *step: None, note, timeout_s=300))
        assert not Path(f"/proc/{pids[0]}").exists()
