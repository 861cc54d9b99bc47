"""A storage that can be made to fail."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from faulty_storage import URL, FaultyFileSystem
from fsspec import register_implementation

from pipeline.remote import RemotePath, path_of
from pipeline.remote import file as remote_file


@pytest.fixture
def faulty(monkeypatch):
    """The file system, empty; `before` on it decides what becomes of a request."""
    register_implementation("faulty", FaultyFileSystem, clobber=True)
    for name, value in (("store", {}), ("pseudo_dirs", [""]), ("requests", Counter()), ("before", lambda kind: None)):
        monkeypatch.setattr(FaultyFileSystem, name, value)
    monkeypatch.setattr(FaultyFileSystem, "ended", threading.Event())
    monkeypatch.setattr("pipeline.remote.storage.PAUSES_S", (0.0, 0.0, 0.0))
    remote_file._kept.clear()
    yield FaultyFileSystem
    FaultyFileSystem.ended.set()


@pytest.fixture
def stored(faulty):
    """Put content under a name, and return its path."""

    def put(name: str, content: bytes) -> RemotePath:
        faulty().pipe_file(f"{URL}/{name}", content)
        path = path_of(URL) / name
        assert isinstance(path, RemotePath)
        return path

    return put
