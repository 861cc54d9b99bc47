"""Decoding in other processes: same frames, bounded read-ahead, and a decoder that crashes or hangs costs one video."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.decoding.decode import iter_frames, read_header
from pipeline.data.decoding.pool import DecodeWorkers, Job
from pipeline.data.decoding.process import SLOTS
from pipeline.data.sampling import training_frames
from pipeline.errors import DecodeError

DOUBLE = """
import ctypes, time
from pathlib import Path
from pipeline.data.decoding.decode import Frame, VideoHeader
import numpy as np

def read_header(path, alive=None):
    if "header" in path.name:
        ctypes.string_at(0)
    return VideoHeader(path, 8, 8, 10.0, 5, 1)

def iter_frames(path, *, short_side, crop, wanted=None, damage=None):
    count = 7 if "longer" in path.name else 5
    for index in range(count):
        if index == 3 and "crash" in path.name:
            ctypes.string_at(0)  # a segmentation fault
        if index == 3 and "hang" in path.name:
            time.sleep(600)
        if index == 3 and "raise" in path.name:
            raise ValueError("a library's message")
        if index == 3 and "exit" in path.name:
            raise SystemExit(3)
        image = np.full((crop, crop, 3), index, np.uint8) if wanted is None or index in wanted else None
        yield Frame(image, index / 10)
"""


@pytest.fixture
def double(tmp_path, monkeypatch) -> str:
    """A decoder module that fails as the file's name asks."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "decoder_double.py").write_text(DOUBLE)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return "decoder_double"


def outcome(stream) -> int | str:
    try:
        return len(stream.collect()[0])
    except DecodeError as error:
        return str(error)


def test_frames_are_those_of_the_decoder(make_video):
    path = make_video(frames=90, width=320, height=240)  # more than the ring holds
    expected = list(iter_frames(path))
    with DecodeWorkers(1) as workers:
        for stream in workers.streams([Job(path)]):
            assert stream.header() == read_header(path)
            times, pictures = stream.collect()
    assert times == [frame.time_s for frame in expected]
    assert list(pictures) == list(range(90))
    for ours, theirs in zip(pictures.values(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs.image)


def test_streams_come_in_the_order_of_the_jobs(make_video):
    paths = [make_video(f"{n}.mp4", frames=n) for n in (9, 3, 12, 1, 5)]
    with DecodeWorkers(2) as workers:
        assert [outcome(s) for s in workers.streams(Job(p) for p in paths)] == [9, 3, 12, 1, 5]


def test_only_wanted_pictures_are_sent(make_video):
    path = make_video(frames=40)
    plan = {
        "video_id": "a",
        "views": 1,
        "segments": 2,
        "clip_frames": 3,
        "interval_frames": 2,
        "clips_per_segment": 1,
        "seed": 0,
    }
    with DecodeWorkers(1) as workers:
        for stream in workers.streams([Job(path, partial(training_frames, **plan))]):
            times, pictures = stream.collect()
    assert len(times) == 40
    assert sorted(pictures) == training_frames(40, **plan)
    frames = list(iter_frames(path))
    for index, picture in pictures.items():
        np.testing.assert_array_equal(picture, frames[index].image)


def last_frame(frames: int) -> list[int]:
    return [frames - 1]


def test_frames_are_chosen_again_when_the_decoder_yields_another_number(double, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    with DecodeWorkers(1, crop=8, short_side=8, decoder=double) as workers:
        for stream in workers.streams([Job(Path("longer.mp4"), last_frame)]):
            times, pictures = stream.collect()
    assert len(times) == 7
    assert list(pictures) == [6]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crash.mp4", r"crash.mp4: the decoder's process died \(SIGSEGV\), at frame 3"),
        ("header.mp4", r"header.mp4: the decoder's process died \(SIGSEGV\), at frame 0"),
        ("hang.mp4", "hang.mp4: the decoder gave no sign of life for 4 s, at frame 3"),
        ("raise.mp4", "raise.mp4: ValueError: a library's message"),
        ("exit.mp4", r"exit.mp4: the decoder's process died \(exit code 3\), at frame 3"),
    ],
)
def test_a_failing_decoder_costs_one_video(double, name, message):
    paths = [Path("a.mp4"), Path(name), Path("b.mp4"), Path("c.mp4")]
    with DecodeWorkers(2, 4 if "hang" in name else 60, crop=8, short_side=8, decoder=double) as workers:
        first, failed, *rest = [outcome(s) for s in workers.streams(Job(p) for p in paths)]
    assert (first, rest) == (5, [5, 5])
    assert re.search(message, failed)


class Frames:
    """Keeps what it is given, and how often it was told to begin."""

    def __init__(self) -> None:
        self.values, self.begun = [], 0

    def begin(self):
        self.values, self.begun = [], self.begun + 1

    def take(self, times_s, pictured, pictures):
        assert len(pictured) == len(pictures)
        values = dict(zip(pictured, pictures[:, 0, 0, 0].tolist(), strict=True))
        self.values += [values.get(position) for position in range(len(times_s))]


NUMBERED = """
import time
from pipeline.data.decoding.decode import Frame, VideoHeader
import numpy as np

def read_header(path, alive=None):
    return VideoHeader(path, 8, 8, 10.0, int(path.stem), 1)

def iter_frames(path, *, short_side, crop, wanted=None, damage=None):
    for index in range(int(path.stem)):
        image = np.full((crop, crop, 3), index % 256, np.uint8) if wanted is None or index in wanted else None
        yield Frame(image, index / 10)
"""


@pytest.fixture
def numbered(tmp_path, monkeypatch) -> str:
    """A decoder whose pictures are their frames' numbers, with as many frames as the file's name says."""
    (tmp_path / "decoder_numbered.py").write_text(NUMBERED)
    monkeypatch.syspath_prepend(tmp_path)
    return "decoder_numbered"


def test_no_picture_is_overwritten_before_it_is_read(numbered):
    with DecodeWorkers(1, crop=8, short_side=8, decoder=numbered) as workers:
        for stream in workers.streams([Job(Path("250.mp4"))] * 3):  # no multiple of what is sent at once
            frames, reads = Frames(), 0
            while not stream.closed:
                if reads % 3 == 0:
                    time.sleep(0.1)  # the decoder fills the ring meanwhile
                stream.advance(frames, 1)
                reads += 1
            assert frames.values == list(range(250))
            assert reads < 100  # several frames come at once


def every_third(frames: int) -> list[int]:
    return list(range(0, frames, 3))


@pytest.mark.parametrize("select", [None, every_third, last_frame])
@pytest.mark.parametrize("count", [1, 15, 16, 17, SLOTS - 1, SLOTS, SLOTS + 1, 5 * SLOTS + 3])
def test_every_picture_comes_with_its_frame_wherever_the_ring_ends(numbered, monkeypatch, count, select):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    wanted = range(count) if select is None else select(count)
    expected = [number % 256 if number in wanted else None for number in range(count)]
    with DecodeWorkers(1, crop=8, short_side=8, decoder=numbered) as workers:
        assert read_together(workers, [Job(Path(f"{count}.mp4"), select)] * 3, most=1) == [expected] * 3


def test_a_slow_decoder_is_not_taken_for_one_that_hangs(tmp_path, monkeypatch):
    """Its frames are sent before there are as many as are sent at once otherwise."""
    (tmp_path / "decoder_slow.py").write_text(
        NUMBERED.replace("        image =", "        time.sleep(0.5)\n        image =", 1)
    )
    monkeypatch.syspath_prepend(tmp_path)
    with DecodeWorkers(1, 2.5, crop=8, short_side=8, decoder="decoder_slow") as workers:
        assert read_together(workers, [Job(Path("9.mp4"))]) == [list(range(9))]


def read_together(workers, jobs, most=8) -> list[list[int | None] | str]:
    """What becomes of every job when all streams are read as they can be."""
    received, errors = {}, {}
    for number, stream in workers.readable(jobs):
        try:
            stream.advance(received.setdefault(number, Frames()), most)
        except DecodeError as error:
            errors[number] = str(error)
    return [errors.get(number) or received[number].values for number in sorted(received)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crash.mp4", r"crash.mp4: the decoder's process died \(SIGSEGV\), at frame 3"),
        ("hang.mp4", "hang.mp4: the decoder gave no sign of life for 4 s, at frame 3"),
        ("raise.mp4", "raise.mp4: ValueError: a library's message"),
    ],
)
def test_a_failing_decoder_among_several_costs_one_video(double, name, message):
    jobs = [Job(Path(file)) for file in ("a.mp4", name, "b.mp4", "c.mp4", "d.mp4")]
    with DecodeWorkers(3, 4 if "hang" in name else 60, crop=8, short_side=8, decoder=double) as workers:
        first, failed, *rest = read_together(workers, jobs)
        assert len(workers.processes()) <= 3
    assert (first, rest) == (list(range(5)), [list(range(5))] * 3)
    assert re.search(message, failed)


def test_frames_begin_again_when_the_decoder_yields_another_number(double, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    frames = Frames()
    with DecodeWorkers(1, crop=8, short_side=8, decoder=double) as workers:
        for _, stream in workers.readable([Job(Path("longer.mp4"), last_frame)]):
            stream.advance(frames, 2)
    assert (frames.begun, frames.values) == (2, [None] * 6 + [6])


MEETING = """
import time
from pathlib import Path
from pipeline.data.decoding.decode import Frame, VideoHeader
import numpy as np

FRAMES = 150  # more than two rings hold

def read_header(path, alive=None):
    return VideoHeader(path, 8, 8, 10.0, FRAMES, 1)

def iter_frames(path, *, short_side, crop, wanted=None, damage=None):
    mine, other = path.with_suffix(".half"), path.with_name({"a": "b", "b": "a"}[path.stem]).with_suffix(".half")
    for index in range(FRAMES):
        if index == FRAMES // 2:
            mine.touch()
            while not other.exists():
                time.sleep(0.01)
        path.with_suffix(".count").write_text(str(index + 1))
        yield Frame(np.full((crop, crop, 3), index, np.uint8), index / 10)
"""


@pytest.fixture
def meeting(tmp_path, monkeypatch) -> str:
    """A decoder that waits in the middle of a video, past what the ring holds, until the other video's has come as
    far."""
    (tmp_path / "meeting_decoder.py").write_text(MEETING)
    monkeypatch.syspath_prepend(tmp_path)
    return "meeting_decoder"


def test_decoders_of_several_videos_work_at_the_same_time(meeting, tmp_path):
    """Read one after the other, the second would stop at a full ring, and the first would wait for it for ever."""
    assert SLOTS < 75
    with DecodeWorkers(2, 30, crop=8, short_side=8, decoder=meeting) as workers:
        found = read_together(workers, [Job(tmp_path / "a.mp4"), Job(tmp_path / "b.mp4")])
    assert found == [list(range(150))] * 2


def test_a_decoder_does_not_run_ahead_of_its_reader_by_more_than_its_ring(meeting, tmp_path):
    (tmp_path / "b.half").touch()
    count = tmp_path / "a.count"
    with DecodeWorkers(1, 30, crop=8, short_side=8, decoder=meeting) as workers:
        for _, stream in workers.readable([Job(tmp_path / "a.mp4")]):
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and not (count.exists() and count.read_text() == str(SLOTS + 1)):
                time.sleep(0.01)
            time.sleep(0.2)  # room to go wrong
            assert count.read_text() == str(SLOTS + 1)  # the last one waits for its place
            stream.close()


def test_the_oldest_video_is_read_first(double):
    """So that videos are finished one after the other where the reader is the slow one."""
    order = []
    with DecodeWorkers(3, crop=8, short_side=8, decoder=double) as workers:
        for number, stream in workers.readable(Job(Path(f"{n}.mp4")) for n in range(3)):
            order.append(number)
            stream.advance(Frames(), 3)
            deadline = time.monotonic() + 30
            others = [other.worker for other in workers._open if not (stream.closed and other is stream)]
            while time.monotonic() < deadline and not all(worker.has_sent() for worker in others):
                time.sleep(0.01)  # a slow reader: whichever is asked for next has something
    assert order[1:] == sorted(order[1:])  # the first was whichever came first
    assert len(order) > 3


def test_headers_of_readable_and_unreadable_videos(make_video, tmp_path):
    good, text = make_video(frames=4), tmp_path / "text.mp4"
    text.write_text("no video")
    with DecodeWorkers(2) as workers:
        first, second, third = workers.headers([good, text, good])
        assert workers.count_frames(good) == 4
    assert first == third == read_header(good)
    assert isinstance(second, DecodeError)
    assert "text.mp4" in str(second)


def test_a_stream_left_unread_does_not_disturb_the_next(make_video):
    paths = [make_video(f"{n}.mp4", frames=n) for n in (80, 6)]
    with DecodeWorkers(1) as workers:
        streams = workers.streams(Job(p) for p in paths)
        next(streams).advance(Frames(), 1)
        assert outcome(next(streams)) == 6


def test_workers_import_neither_torch_nor_mmaction(tmp_path, monkeypatch):
    (tmp_path / "spy.py").write_text(
        "import sys\nfrom pipeline.data.decoding.decode import *\n"
        "def read_header(path, alive=None):\n"
        "    raise ValueError(','.join(sorted({'torch', 'mmaction', 'luigi', 'pydantic'} & set(sys.modules))) or 'none')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with DecodeWorkers(1, decoder="spy") as workers:
        (found,) = workers.headers([Path("x")])
    assert found.library == "ValueError: none"


def test_a_worker_ends_with_the_process_that_made_it(double, tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal, time
        from pathlib import Path
        from pipeline.data.decoding.pool import DecodeWorkers, Job
        workers = DecodeWorkers(1, crop=8, short_side=8, decoder="decoder_double")
        stream = next(iter(workers.streams([Job(Path("hang.mp4"))])))
        while stream.worker.decoded < 3:
            time.sleep(0.01)
        print(stream.worker.process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    process = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    pid = int(process.stdout)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_there_is_a_decoder_a_core_unless_asked_otherwise(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    assert (DecodeWorkers().count, DecodeWorkers(3).count) == (6, 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(96)))
    assert DecodeWorkers().count == 16


def test_processes_can_start_before_there_is_work(double):
    with DecodeWorkers(2, crop=8, short_side=8, decoder=double) as workers:
        workers.start(5)
        started = {process.pid for process in workers.processes()}
        assert len(started) == 2
        assert read_together(workers, [Job(Path(f"{n}.mp4")) for n in range(4)]) == [list(range(5))] * 4
        assert {process.pid for process in workers.processes()} == started


KILLED_ONCE = """
import os, signal
from pipeline.data.decoding.decode import Frame, VideoHeader
import numpy as np

def killed(path, where):
    mark = path.with_suffix("." + where)
    if mark.exists():
        mark.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

def read_header(path, alive=None):
    killed(path, "header")
    return VideoHeader(path, 8, 8, 10.0, 5, 1)

def iter_frames(path, *, short_side, crop, wanted=None, damage=None):
    for index in range(5):
        if index == 2:
            killed(path, "frame")
        yield Frame(np.full((crop, crop, 3), index, np.uint8), index / 10)
"""


def test_headers_and_whole_videos_are_read_again_where_a_decoder_was_killed(tmp_path, monkeypatch):
    (tmp_path / "decoder_killed_once.py").write_text(KILLED_ONCE)
    monkeypatch.syspath_prepend(tmp_path)
    paths = [tmp_path / f"{name}.mp4" for name in "abc"]
    with DecodeWorkers(2, crop=8, short_side=8, decoder="decoder_killed_once") as workers:
        (tmp_path / "b.header").touch()
        assert [getattr(header, "packets", header) for header in workers.headers(paths)] == [5, 5, 5]
        (tmp_path / "b.frame").touch()
        collected = [workers.collect(stream) for stream in workers.streams(map(Job, paths))]
    assert [
        (len(times), [int(picture[0, 0, 0]) for picture in pictures.values()]) for times, pictures in collected
    ] == [(5, [0, 1, 2, 3, 4])] * 3
    assert not list(tmp_path.glob("b.header")) + list(tmp_path.glob("b.frame"))  # both kills took place
