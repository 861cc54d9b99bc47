"""A decoder that crashes, hangs or is killed costs one video at most, and none outlives the process that made it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from reading import outcome, read_together, small_workers

from pipeline.data.decoding.pool import Job

FAILURES = {
    "crash.mp4": r"crash.mp4: the decoder's process died \(SIGSEGV\), at frame 3",
    "header.mp4": r"header.mp4: the decoder's process died \(SIGSEGV\), at frame 0",
    "hang.mp4": "hang.mp4: the decoder gave no sign of life for 0.5 s, at frame 3",
    "raise.mp4": "raise.mp4: ValueError: a library's message",
    "exit.mp4": r"exit.mp4: the decoder's process died \(exit code 3\), at frame 3",
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_decoder_costs_one_video(name):
    paths = [Path("a.mp4"), Path(name), Path("b.mp4"), Path("c.mp4")]
    with small_workers("failing", 2) as workers:
        first, failed, *rest = [outcome(stream) for stream in workers.streams(map(Job, paths))]
    assert (first, rest) == (5, [5, 5])
    assert re.search(FAILURES[name], failed)


@pytest.mark.parametrize("name", ["crash.mp4", "hang.mp4", "raise.mp4"])
def test_a_failing_decoder_among_several_costs_one_video(name):
    jobs = [Job(Path(file)) for file in ("a.mp4", name, "b.mp4", "c.mp4", "d.mp4")]
    with small_workers("failing", 3) as workers:
        first, failed, *rest = read_together(workers, jobs)
        assert len(workers.processes()) <= 3
    assert (first, rest) == (list(range(5)), [list(range(5))] * 3)
    assert re.search(FAILURES[name], failed)


def test_a_slow_decoder_is_not_taken_for_one_that_hangs():
    """Its frames are sent early, before there are as many as are usually sent at once."""
    with small_workers("slow") as workers:
        assert read_together(workers, [Job(Path("1.mp4"))]) == [[0]]  # its process has started
        workers.timeout_s = 5  # of which a busy machine may miss all but one second
        assert read_together(workers, [Job(Path("11.mp4"))]) == [list(range(11))]


@pytest.fixture
def videos(tmp_path) -> list[Path]:
    return [tmp_path / f"{name}.mp4" for name in "abcd"]


class TestKilled:
    def test_a_header_is_read_again_alone(self, videos, tmp_path):
        (tmp_path / "b.header").touch()
        with small_workers("killed_once", 2) as workers:
            headers = list(workers.headers(videos))
        assert [getattr(header, "packets", header) for header in headers] == [5, 5, 5, 5]
        assert (tmp_path / "b.alone").read_text() == "True"

    def test_a_whole_video_is_decoded_again_alone(self, videos, tmp_path):
        (tmp_path / "b.frame").touch()
        with small_workers("killed_once", 2) as workers:
            collected = [workers.collect(stream) for stream in workers.streams(map(Job, videos))]
        for times, pictures in collected:
            assert (len(times), [int(picture[0, 0, 0]) for picture in pictures.values()]) == (5, [0, 1, 2, 3, 4])
        assert len(collected) == 4
        assert (tmp_path / "b.alone").read_text() == "True"


def test_a_decoder_ends_with_the_process_that_made_it(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal, time
        from pathlib import Path
        from pipeline.data.decoding.geometry import centre_crop
        from pipeline.data.decoding.pool import DecodeWorkers, Job
        workers = DecodeWorkers(1, fit=centre_crop(8, 8), decoder="decoders.failing")
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
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False
