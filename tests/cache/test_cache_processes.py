"""Crash and concurrency, with real processes: a video is visible exactly when it is complete."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import register_implementation

from cache import FeatureStore, WriteFailed
from cache.objects import _warn_of_no_locks

CLIPS = 70  # more than is kept in memory before the first chunk is written


def values_of(number: int, clips: int = CLIPS) -> np.ndarray:
    return np.random.default_rng(number).random((2, clips, 2, 2, 8)).astype(np.float16)


def write_video(store: FeatureStore, video_id: str, number: int) -> None:
    values = values_of(number)
    with store.writer("ns", video_id, views=2, rows=2, columns=2, channels=8, frames_per_clip=1) as writer:
        for start in range(0, CLIPS, 10):
            for view in range(2):
                writer.append(view, values[view, start : start + 10], np.full((10, 1), number))
        writer.set_times(np.arange(CLIPS) / 10)
        writer.commit({"number": number})


def write_many(url: str, names: list[str], started: object = None) -> None:
    store = FeatureStore.open(url)
    for number, name in enumerate(names):
        if started and number == 1:
            started.set()
        write_video(store, name, number)


def write_same(url: str, number: int, barrier: object) -> None:
    store = FeatureStore.open(url)
    barrier.wait()
    for _ in range(3):
        write_video(store, "same", number)


def hold_open(url: str, started: object) -> None:
    store = FeatureStore.open(url)
    with store.writer("ns", "live", views=1, rows=2, columns=2, channels=8, frames_per_clip=1) as writer:
        writer.append(0, values_of(0)[0], np.zeros((CLIPS, 1), int))
        started.wait()  # written to, and held
        started.wait()  # the collector has been here
        writer.commit({})


def check_visible(store: FeatureStore) -> set[str]:
    """Everything that is listed can be read whole, and is what its writer wrote."""
    listed = store.video_ids("ns")
    for name in listed:
        reader = store.reader("ns", name)
        number = reader.record.provenance["number"]
        for view in range(2):
            np.testing.assert_array_equal(reader.features(view), values_of(number)[view])
        assert (reader.frames() == number).all()
        assert len(reader.times()) == CLIPS
    return listed


def leftovers(folder: Path) -> list[Path]:
    """Files that belong to no committed video."""
    store = FeatureStore.open(folder)
    kept = {folder / "ns" / record.payload for record in store.records("ns")}
    payloads = (folder / "ns" / "payloads").rglob("*")
    return [path for path in payloads if path.is_file() and not kept & set(path.parents)]


@pytest.fixture(scope="module")
def processes():
    """Processes that start in milliseconds and share no threads with the tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cache", "cache.reader", "cache.writer"])
    return context


def start(context, target, *arguments):
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def join(*running) -> list[int]:
    for process in running:
        process.join(300)
    return [process.exitcode for process in running]


def test_a_writer_killed_at_any_moment_leaves_complete_videos_and_collectable_garbage(tmp_path, processes):
    store, moments, interrupted = FeatureStore.open(tmp_path), random.Random(7), 0
    for turn in range(30):
        started = processes.Event()
        names = [f"v{turn}-{i}" for i in range(1000)]  # more than are ever written
        writer = start(processes, write_many, str(tmp_path), names, started)
        assert started.wait(300)
        time.sleep(moments.uniform(0, 0.08))
        os.kill(writer.pid, signal.SIGKILL)
        assert join(writer) == [-signal.SIGKILL]
        interrupted += bool(leftovers(tmp_path))
        names = check_visible(store)
        assert f"v{turn}-0" in names
        store.gc("ns", older_than_s=0)
        assert leftovers(tmp_path) == []
        for name in names:
            store.withdraw("ns", name)
        store.gc("ns", older_than_s=0)
    assert interrupted > 10  # else the moments were not in the middle of writing
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_two_writers_of_one_video_both_end_well_and_one_of_them_wins(tmp_path, processes):
    barrier = processes.Barrier(2)
    assert join(*(start(processes, write_same, str(tmp_path), number, barrier) for number in (1, 2))) == [0, 0]
    store = FeatureStore.open(tmp_path)
    assert check_visible(store) == {"same"}
    assert len(store.gc("ns", older_than_s=0)) == 5
    assert check_visible(store) == {"same"}


def test_eight_writers_and_a_reader_and_a_collector_at_once(tmp_path, processes):
    running = [start(processes, write_many, str(tmp_path), [f"p{p}-{i}" for i in range(4)]) for p in range(8)]
    store, seen = FeatureStore.open(tmp_path), []
    while any(process.is_alive() for process in running):
        seen.append(len(check_visible(store)))
        store.gc("ns", older_than_s=0)
    assert join(*running) == [0] * 8
    assert len(check_visible(store)) == 32
    assert seen == sorted(seen)
    assert leftovers(tmp_path) == []


def test_the_collector_leaves_a_live_writer_alone_however_old_its_payload(tmp_path, processes):
    barrier = processes.Barrier(2)
    writer = start(processes, hold_open, str(tmp_path), barrier)
    barrier.wait(300)
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0))
    store = FeatureStore.open(tmp_path)
    assert store.gc("ns", older_than_s=0) == []
    barrier.wait(300)
    assert join(writer) == [0]
    np.testing.assert_array_equal(store.reader("ns", "live").features(0), values_of(0)[0])


def test_the_lock_of_a_writer_killed_right_after_its_commit_is_collected(tmp_path):
    store = FeatureStore.open(tmp_path)
    write_video(store, "v1", 1)
    (record,) = store.records("ns")
    lock = f"ns/{record.payload}.lock"
    with store.objects.held(lock):  # it lives
        assert store.gc("ns", older_than_s=0) == []
        assert leftovers(tmp_path) == [tmp_path / lock]
    (tmp_path / lock).touch()  # it does not
    assert store.gc("ns", older_than_s=0, dry_run=True) == []
    assert leftovers(tmp_path) == [tmp_path / lock]
    assert store.gc("ns", older_than_s=0) == []
    assert leftovers(tmp_path) == []
    assert check_visible(store) == {"v1"}


def test_what_was_replaced_stays_for_its_readers_until_it_is_old(tmp_path):
    store = FeatureStore.open(tmp_path)
    write_video(store, "v1", 1)
    reader = store.reader("ns", "v1")
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0))
    write_video(store, "v1", 2)
    assert store.gc("ns", older_than_s=60) == []
    np.testing.assert_array_equal(reader.features(0), values_of(1)[0])
    (garbage,) = store.gc("ns", older_than_s=0, dry_run=True)
    assert garbage.payload == reader.record.payload
    assert garbage.bytes > values_of(1).nbytes / 2
    assert len(store.gc("ns", older_than_s=0)) == 1
    assert check_visible(store) == {"v1"}


class FullFileSystem(MemoryFileSystem):
    """A store in memory that has no space after so many bytes."""

    protocol = "full"
    left = 0

    def pipe_file(self, path: str, value: bytes, **kwargs: object) -> None:
        type(self).left -= len(value)
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().pipe_file(path, value, **kwargs)


@pytest.mark.parametrize("room", [0, 100, 3_000, 10_000, 13_500])
def test_a_store_that_refuses_at_some_byte_is_a_clear_error_and_shows_nothing(room, monkeypatch):
    register_implementation("full", FullFileSystem, clobber=True)
    monkeypatch.setattr(FullFileSystem, "left", room)
    store = FeatureStore.open(f"full://cache{room}")
    with pytest.raises(WriteFailed, match=r"ns/v1: cannot be written .*No space left"):
        write_video(store, "v1", 1)
    assert store.video_ids("ns") == set()
    FullFileSystem.left = 10**9
    store.gc("ns", older_than_s=0)
    assert store.objects.files("ns") == {}
    write_video(store, "v1", 1)
    assert check_visible(store) == {"v1"}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where the user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_a_clear_error_and_its_space_comes_back(small_disk):
    store = FeatureStore.open(small_disk)

    def fill() -> None:
        for number in range(100):
            write_video(store, f"v{number}", number)

    with pytest.raises(WriteFailed, match="No space left"):
        fill()
    names = check_visible(store)
    assert 0 < len(names) < 100
    for name in names:
        store.withdraw("ns", name)
    store.gc("ns", older_than_s=0)
    assert leftovers(small_disk) == []
    write_video(store, "again", 1)
    assert check_visible(store) == {"again"}


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_written_to_with_one_warning(tmp_path, monkeypatch, caplog, code):
    def refuse(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("cache.objects.fcntl.flock", refuse)
    _warn_of_no_locks.cache_clear()
    store = FeatureStore.open(str(tmp_path))
    write_video(store, "v1", 1)
    write_video(store, "v2", 2)
    assert check_visible(store) == {"v1", "v2"}
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "cache.objects"]
    assert "a file system without locks" in warning
