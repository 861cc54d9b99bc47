"""Decoding in other processes: the same frames, in order, with bounded read-ahead."""

from __future__ import annotations

import itertools
import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from reading import Frames, every_third, last_frame, outcome, read_together, small_workers

from pipeline.data.decoding.decode import iter_frames, read_header
from pipeline.data.decoding.pool import DecodeWorkers, Job
from pipeline.data.decoding.process import SLOTS
from pipeline.data.sampling import training_frames
from pipeline.errors import DecodeError


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


def test_frames_are_chosen_again_when_the_decoder_yields_another_number():
    with small_workers("failing") as workers:
        for stream in workers.streams([Job(Path("longer.mp4"), last_frame)]):
            times, pictures = stream.collect()
    assert len(times) == 7
    assert list(pictures) == [6]


def test_no_picture_is_overwritten_before_it_is_read():
    with small_workers("numbered") as workers:
        for stream in workers.streams([Job(Path("250.mp4"))] * 3):  # no multiple of what is sent at once
            frames, reads = Frames(), 0
            while not stream.closed:
                if reads % 3 == 0:
                    time.sleep(0.1)  # the decoder fills the ring meanwhile
                stream.advance(frames, 1)
                reads += 1
            assert frames.values == list(range(250))
            assert reads < 100  # several frames come at once


@pytest.fixture(scope="module")
def numbered():
    """A decoder of numbered pictures; its process starts once."""
    with small_workers("numbered") as workers:
        yield workers


@pytest.mark.parametrize("select", [None, every_third, last_frame])
@pytest.mark.parametrize("count", [1, 15, 16, 17, SLOTS - 1, SLOTS, SLOTS + 1, 5 * SLOTS + 3])
def test_every_picture_comes_with_its_frame_wherever_the_ring_ends(numbered, count, select):
    wanted = range(count) if select is None else select(count)
    expected = [number % 256 if number in wanted else None for number in range(count)]
    assert read_together(numbered, [Job(Path(f"{count}.mp4"), select)] * 3, most=1) == [expected] * 3


def test_frames_begin_again_when_the_decoder_yields_another_number():
    frames = Frames()
    with small_workers("failing") as workers:
        for _, stream in workers.readable([Job(Path("longer.mp4"), last_frame)]):
            stream.advance(frames, 2)
    assert (frames.begun, frames.values) == (2, [None] * 6 + [6])


def test_decoders_of_several_videos_work_at_the_same_time(tmp_path):
    """Read one after the other, the second would stop at a full ring, and the first would wait for it forever."""
    assert SLOTS < 75
    with small_workers("meeting", 2, 300) as workers:
        found = read_together(workers, [Job(tmp_path / "a.mp4"), Job(tmp_path / "b.mp4")])
    assert found == [list(range(150))] * 2


def test_a_decoder_does_not_run_ahead_of_its_reader_by_more_than_its_ring(tmp_path):
    (tmp_path / "b.half").touch()
    count = tmp_path / "a.count"
    with small_workers("meeting", 1, 300) as workers:
        for _, stream in workers.readable([Job(tmp_path / "a.mp4")]):
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline and not (count.exists() and count.read_text() == str(SLOTS + 1)):
                time.sleep(0.01)
            time.sleep(0.2)  # room to go wrong
            assert count.read_text() == str(SLOTS + 1)  # the last one waits for its place
            stream.close()


def test_the_oldest_video_is_read_first():
    """So videos are finished one after the other if the reader is the slow part."""
    order = []
    with small_workers("failing", 3) as workers:
        for number, stream in workers.readable(Job(Path(f"{n}.mp4")) for n in range(3)):
            order.append(number)
            stream.advance(Frames(), 3)
            deadline = time.monotonic() + 300
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


def test_decoding_processes_import_neither_torch_nor_mmaction(tmp_path, monkeypatch):
    (tmp_path / "spy.py").write_text(
        "import sys\nfrom pipeline.data.decoding.decode import *\n"
        "def read_header(path, alive=None):\n"
        "    found = {'torch', 'mmaction', 'luigi', 'pydantic'} & set(sys.modules)\n"
        "    raise ValueError(','.join(sorted(found)) or 'none')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with DecodeWorkers(1, decoder="spy") as workers:
        (found,) = workers.headers([Path("x")])
    assert found.library == "ValueError: none"


def test_there_is_one_decoder_per_core_unless_asked_otherwise(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    assert (DecodeWorkers().count, DecodeWorkers(3).count) == (6, 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(96)))
    assert DecodeWorkers().count == 16


def test_processes_can_start_before_there_is_work():
    with small_workers("failing", 2) as workers:
        workers.start(5)
        started = {process.pid for process in workers.processes()}
        assert len(started) == 2
        assert read_together(workers, [Job(Path(f"{n}.mp4")) for n in range(4)]) == [list(range(5))] * 4
        assert {process.pid for process in workers.processes()} == started


def test_jobs_can_come_while_others_are_read(numbered):
    """None: no job at the moment. The reader learns when there is nothing to read, and the next job has its number."""
    heard: list[int | None] = []
    frames = [Frames(), Frames()]

    def jobs():
        yield None  # nothing yet
        yield Job(Path("3.mp4"))
        while heard.count(None) < 3:  # the first one is read meanwhile, and then there is nothing
            yield None
        yield Job(Path("4.mp4"))

    for readable in numbered.readable(jobs()):
        heard.append(None if readable is None else readable[0])
        if readable is not None:
            readable[1].advance(frames[readable[0]], 100)
    assert [frame.values for frame in frames] == [[0, 1, 2], [0, 1, 2, 3]]
    assert [number for number, _ in itertools.groupby(heard)] == [None, 0, None, 1]
