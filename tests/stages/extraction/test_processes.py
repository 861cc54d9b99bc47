"""Several processes extract the videos of a split together: the same result, whichever of them is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection

import numpy as np
import pytest
import torch
from places import ROOT
from small_dataset import extract

from cache import FeatureStore
from pipeline.config.machine import Machine
from pipeline.errors import PipelineError
from pipeline.stages.extraction import processes
from pipeline.stages.extraction.processes import (
    STOP,
    Done,
    Failed,
    Fate,
    Job,
    Said,
    Settled,
    Watched,
    _follow,
    _part,
    how_many,
)


def changed(experiment, **machine):
    return experiment.model_copy(update={"machine": experiment.machine.model_copy(update=machine)})


class TestTogether:
    @pytest.mark.slow
    def test_two_processes_write_the_bytes_of_one(self, experiment, manifest, tmp_path):
        (tmp_path / "t1.mp4").write_text("this is no video")
        videos, told, seen = manifest.videos, [], []
        one = extract(changed(experiment, threads=1), manifest, "test", videos, "one")
        for record in (tmp_path / "var" / "quarantine").iterdir():
            record.unlink(missing_ok=True) if record.is_file() else None
        settings = changed(experiment, threads=1, extract_processes=2)
        two = extract(
            settings, manifest, "test", videos, "two", say=told.append, progress=lambda *state: seen.append(state)
        )
        assert (two, two.quarantined) == (one, ("t1",))
        assert [line for line in told if not line.startswith("t1 goes to quarantine")] == []
        assert len(told) == 1
        assert seen[-1] == (seen[0][1], seen[0][1], "5 of 5 videos, extracted")
        store = FeatureStore.open(experiment.paths.cache)
        for video_id in one.extracted:
            first, second = store.reader("one", video_id), store.reader("two", video_id)
            assert first.features(0).tobytes() == second.features(0).tobytes()
            assert first.cue().tobytes() == second.cue().tobytes()
            np.testing.assert_array_equal(first.frames(), second.frames())
            np.testing.assert_array_equal(first.times(), second.times())
        assert extract(settings, manifest, "test", videos, "two").cached == one.extracted

    @pytest.mark.slow
    @pytest.mark.parametrize("killed", [1, 2])
    def test_the_videos_of_a_process_that_is_killed_are_taken_by_the_other(
        self, experiment, manifest, monkeypatch, killed
    ):
        started, told = [], []

        class Known(processes._Process):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                started.append(self)

        monkeypatch.setattr(processes, "_Process", Known)

        def progress(done: int, total: int, message: str) -> None:
            if "extracting" in message:
                for process in started[:killed]:
                    process._process.kill()

        def run(**options):
            settings = changed(experiment, extract_processes=2)
            return extract(settings, manifest, "test", manifest.videos, "ns", say=told.append, **options)

        if killed == 2:
            with pytest.raises(PipelineError, match=r"all 2 processes .* by SIGKILL; what they finished is kept"):
                run(progress=progress)
            run()
        else:
            run(progress=progress)
            warning = "warning: process 1 of 2 of the extraction was killed (SIGKILL); 1 go on with its videos"
            assert warning in told
        assert FeatureStore.open(experiment.paths.cache).video_ids("ns") == {
            video.video_id for video in manifest.videos
        }

    @pytest.mark.slow
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_they_end_with_the_process_that_started_them(self, nano, write_config, make_video, tmp_path, how):
        rows = ["video_id,path,split,label", "n,n.mp4,train,Normal", "f,f.mp4,train,Fighting"]
        rows += [f"{name},{name}.mp4,test,Normal" for name in ("t1", "t2", "t3")]
        for row in rows[1:]:
            make_video(row.split(",")[1], frames=900)
        (tmp_path / "videos.csv").write_text("\n".join(rows))
        nano["machine"]["extract_processes"] = 2
        nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
        arguments = ["extract", "--split", "test", "--config", str(write_config(nano))]
        program = f"from pipeline.cli.main import main; main({arguments!r})"
        with subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            printed = []
            for line in process.stderr:
                printed.append(line)
                if "extracting" in line:
                    break
            assert process.poll() is None, "".join(printed)
            children = processes_of(process.pid)
            assert len([child for child in children if "extraction.child" in child[1]]) == 2
            process.send_signal(how)
            process.communicate()
        deadline = time.monotonic() + 300
        while any(os.path.exists(f"/proc/{pid}/exe") for pid, _ in children):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def processes_of(parent: int) -> list[tuple[int, str]]:
    """(pid, command) of the children of a process and of theirs."""
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    own = [(int(pid), command) for pid, above, command in rows if int(above) == parent]
    return own + [deeper for pid, _ in own for deeper in processes_of(pid)]


class TestNumber:
    @pytest.mark.parametrize(
        ("device", "cards", "wanted", "videos", "count"),
        [
            ("cpu", 0, 0, 9, 0),
            ("cpu", 0, 3, 9, 3),
            ("cpu", 0, 3, 2, 2),
            ("cpu", 4, 0, 9, 0),
            ("auto", 0, 0, 9, 0),
            ("auto", 1, 0, 9, 0),
            ("auto", 4, 0, 9, 4),
            ("auto", 4, 0, 1, 0),
            ("cuda", 4, 0, 9, 4),
            ("auto", 4, 2, 9, 2),
            ("auto", 4, 8, 9, 4),
            ("cuda:1", 4, 0, 9, 0),
        ],
    )
    def test_one_per_gpu_that_is_visible(self, monkeypatch, device, cards, wanted, videos, count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
        assert how_many(Machine(device=device, extract_processes=wanted), videos) == count

    def test_a_process_forked_by_luigi_leaves_cuda_to_another(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
        assert how_many(Machine(), 1) == how_many(Machine(device="cuda:1"), 9) == 1
        assert how_many(Machine(device="cpu"), 9) == 0

    @pytest.mark.parametrize(
        ("machine", "decoders", "threads"),
        [({}, 4, 4), ({"decode_workers": 6}, 3, 4), ({"decode_workers": 1}, 1, 4), ({"threads": 3}, 4, 3)],
    )
    def test_decoders_and_threads_are_divided(self, experiment, manifest, monkeypatch, machine, decoders, threads):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
        job = Job(changed(experiment, **machine), manifest, "test", (), "ns", experiment.paths.output, "decoder")
        share = _part(job, 2, "cuda").experiment.machine
        assert (share.device, share.decode_workers, share.threads) == ("cuda", decoders, threads)


class Speaker:
    """A process of an extraction that says what a test wants."""

    def __init__(self, number: int, *messages: object) -> None:
        ours, theirs = multiprocessing.Pipe()
        self.name, self.pid, self.done, self.sent, self.connection = f"process {number}", 100 + number, False, [], ours
        for message in messages:
            theirs.send(message)
        theirs.close()

    def receive(self) -> object:
        try:
            message = self.connection.recv()
        except EOFError:
            return None
        self.done = isinstance(message, Done)
        return message

    def send(self, message: object) -> None:
        self.sent.append(message)

    def end(self) -> str:
        return "SIGKILL"

    connection: Connection


def follow(*speakers: Speaker) -> tuple[list, list[str]]:
    told: list[str] = []
    return list(_follow(list(speakers), told.append)), told


class TestFollowing:
    def test_what_all_report_is_passed_on(self):
        first = [Watched("a", 3), Settled("a", Fate.EXTRACTED), Said("a is damaged"), Done()]
        events, told = follow(Speaker(1, *first), Speaker(2, Settled("a", Fate.CACHED), Done()))
        assert sorted(map(str, events)) == sorted(map(str, [*first[:2], Settled("a", Fate.CACHED)]))
        assert told == ["a is damaged"]

    def test_that_they_wait_for_each_other_is_not_told_and_for_others_once(self):
        other = Said("waiting for process 7 on host, which is making the features of a", waiting=True)
        sibling = Said("waiting for process 102 on host, which is making the features of b", waiting=True)
        _, told = follow(Speaker(1, sibling, other, Done()), Speaker(2, other, Done()))
        assert told == [other.message]

    def test_an_error_stops_the_others_and_is_raised_when_they_have_ended(self):
        failing, other = Speaker(1, Failed("the disk is full")), Speaker(2, Said("finished a"), Done())
        told: list[str] = []
        with pytest.raises(PipelineError, match="^process 1: the disk is full$"):
            list(_follow([failing, other], told.append))
        assert other.sent == [STOP]
        assert sorted(told) == [
            "finished a",
            "process 1 failed; the others finish the videos that they have begun",
        ]

    def test_a_killed_process_is_named_and_it_is_an_error_only_if_none_is_left(self):
        assert follow(Speaker(1), Speaker(2, Done()))[1][0].startswith("warning: process 1 was killed (SIGKILL); ")
        with pytest.raises(PipelineError, match="all 2 processes of the extraction were killed"):
            follow(Speaker(1), Speaker(2))
