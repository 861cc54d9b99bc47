"""Object stores that accept a request and never answer it."""

from __future__ import annotations

import asyncio
import socket
import threading

import numpy as np
import pytest
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem

from cache import FeatureStore
from cache.errors import InvalidSetting, ReadFailed, WriteFailed
from cache.limits import answered, within


class SilentFileSystem(MemoryFileSystem):
    """A store in memory that stops answering some kind of request, until `ended` is set."""

    protocol = "silent"
    deaf_to = ""
    ended = threading.Event()

    def _answer(self, kind: str) -> None:
        if kind == type(self).deaf_to:
            type(self).ended.wait()

    def cat_file(self, path: str, *arguments: object, **options: object) -> bytes:
        self._answer("read")
        return super().cat_file(path, *arguments, **options)

    def pipe_file(self, path: str, value: bytes, **options: object) -> None:
        self._answer("write")
        super().pipe_file(path, value, **options)

    def ls(self, path: str, *arguments: object, **options: object) -> list:
        self._answer("list")
        return super().ls(path, *arguments, **options)


@pytest.fixture
def silent(monkeypatch):
    """Returns a store and a function that has it stop answering."""
    register_implementation("silent", SilentFileSystem, clobber=True)
    monkeypatch.setattr(SilentFileSystem, "ended", threading.Event())
    store = FeatureStore.open("silent://cache")
    write(store, "v1")

    def stop(kind: str, limit_s: float = 0.2) -> FeatureStore:
        monkeypatch.setenv("GIG_CACHE_TIMEOUT_S", f"{limit_s}")
        monkeypatch.setattr(SilentFileSystem, "deaf_to", kind)
        return FeatureStore.open("silent://cache")

    yield stop
    SilentFileSystem.ended.set()


def write(store: FeatureStore, video_id: str) -> None:
    with store.writer("ns", video_id, views=1, rows=1, columns=1, channels=2, frames_per_clip=1) as writer:
        writer.append(0, np.zeros((3, 1, 1, 2)), np.zeros((3, 1), dtype=np.int64))
        writer.commit({})


def test_a_record_that_never_comes(silent):
    with pytest.raises(ReadFailed, match=r"v1\.json cannot be read: no answer within 0\.2 s \(GIG_CACHE_TIMEOUT_S"):
        silent("read").record("ns", "v1")


def test_features_that_never_come(silent):
    reader = silent("", 2).reader("ns", "v1")  # answered, though late on a busy machine
    silent("read", 2)
    with pytest.raises(ReadFailed, match="no answer within 2 s"):
        reader.features(0)


def test_a_write_that_is_never_answered(silent):
    with pytest.raises(WriteFailed, match="no answer within 0.2 s"):
        write(silent("write"), "v2")


def test_a_listing_may_take_longer_but_not_forever(silent):
    with pytest.raises(ReadFailed, match="no answer within 2 s"):
        silent("list").video_ids("ns")


def test_an_s3_server_that_accepts_and_is_silent(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("GIG_CACHE_TIMEOUT_S", "0.5")
        with pytest.raises(ReadFailed, match="s.json cannot be read: no answer within 0.5 s"):
            # fsspec would give a file system of this address to every test that comes later.
            FeatureStore.open("s3://bucket/cache", {"skip_instance_cache": True}).record("ns", "s")


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_a_limit_that_is_no_number_of_seconds(monkeypatch, tmp_path, text):
    monkeypatch.setenv("GIG_CACHE_TIMEOUT_S", text)
    with pytest.raises(
        InvalidSetting, match=f"GIG_CACHE_TIMEOUT_S: expected a positive number of seconds, got '{text}'"
    ):
        FeatureStore.open(str(tmp_path))


def test_results_and_errors_are_passed_on():
    assert within(60, lambda: 3) == 3
    with pytest.raises(KeyError, match="x"):
        within(60, lambda: {}["x"])

    async def three() -> int:
        return 3

    assert asyncio.run(answered(60, three())) == 3
