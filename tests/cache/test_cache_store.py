"""The cache: complete or absent, checked on every read; the same tests on a local folder, in memory and on S3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr
from places import ROOT

from cache import (
    DamagedPayload,
    FeatureStore,
    InvalidName,
    ReadFailed,
    WriteFailed,
)
from cache.errors import InvalidSetting
from cache.names import escape, is_hashed, unescape
from cache.testing import StoreTests
from cache.testing import example_maps as maps
from cache.testing import write_example as write


class TestLocalStore(StoreTests):
    @pytest.fixture
    def store(self, tmp_path) -> FeatureStore:
        return FeatureStore.open(tmp_path / "cache")


class TestMemoryStore(StoreTests):
    @pytest.fixture
    def store(self) -> FeatureStore:
        return FeatureStore.open(f"memory://{uuid.uuid4().hex}/cache")


class TestS3Store(StoreTests):
    @pytest.fixture
    def store(self, s3_bucket) -> FeatureStore:
        return FeatureStore.open(f"{s3_bucket}/cache")


def test_zarr_alone_opens_a_payload(tmp_path):
    store = FeatureStore.open(tmp_path)
    write(store, "v1", maps())
    group = zarr.open_group(tmp_path / "ns" / store.record("ns", "v1").payload, mode="r")
    np.testing.assert_array_equal(group["features"][:], maps())
    assert group["features"].metadata.dimension_names == ("view", "clip", "row", "column", "channel")
    assert np.isnan(group["features"].fill_value)


def test_a_scheme_that_nobody_knows_is_an_error_that_names_it():
    with pytest.raises(InvalidSetting, match=r"foo://bucket: expected a folder or a URL .* foo"):
        FeatureStore.open("foo://bucket")


def payload_files(tmp_path: Path, store: FeatureStore) -> list[Path]:
    folder = tmp_path / "ns" / store.record("ns", "v1").payload
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_all(store: FeatureStore) -> None:
    reader = store.reader("ns", "v1")
    for view in range(2):
        reader.features(view)
    reader.cue(), reader.frames(), reader.times()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_to_any_file_of_a_payload_is_an_error_that_names_the_video(tmp_path, damage):
    store = FeatureStore.open(tmp_path)
    write(store, "v1", maps())
    for path in payload_files(tmp_path, store):
        data = path.read_bytes()
        if damage == "remove":
            path.unlink()
        elif damage == "truncate":
            path.write_bytes(data[: len(data) // 2])
        else:
            changed = bytearray(data)
            changed[len(data) // 2] ^= 0x10
            path.write_bytes(bytes(changed))
        with pytest.raises(DamagedPayload, match="v1"):
            read_all(store)
        path.write_bytes(data)
    read_all(store)


def test_a_killed_writer_leaves_garbage_that_gc_removes_when_it_is_old(tmp_path):
    code = """
import sys, time, numpy as np
from cache import FeatureStore
store = FeatureStore.open(sys.argv[1])
writer = store.writer("ns", "v1", views=1, rows=2, columns=2, channels=4, frames_per_clip=1).__enter__()
while True:
    writer.append(0, np.ones((8, 2, 2, 4)), np.zeros((8, 1), int))
    print("written", flush=True)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = FeatureStore.open(tmp_path)
    assert store.video_ids("ns") == set()
    assert store.gc("ns", older_than_s=3600) == []
    assert len(store.gc("ns", older_than_s=0)) == 1
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_names_are_reversible_and_blind_to_case():
    assert escape("Ab") != escape("ab")
    assert escape("Ab").lower() == escape("Ab")
    assert unescape(escape("Ab#=/")) == "Ab#=/"
    assert is_hashed(escape("É" * 200))
    assert len(escape("É" * 200)) <= 180
    assert escape("É" * 200) != escape("É" * 199 + "e")
    with pytest.raises(InvalidName, match="empty"):
        escape("")
    with pytest.raises(InvalidName):
        unescape("=zz")
    with pytest.raises(InvalidName, match="namespace"):
        FeatureStore.open("memory://x").video_ids("../up")


def test_a_server_that_is_not_there_is_an_error_of_the_cache(monkeypatch, s3_bucket):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = FeatureStore.open(f"{s3_bucket}/cache", {"use_ssl": False, "skip_instance_cache": True})
    with pytest.raises(WriteFailed, match="ns/v1"):
        write(store, "v1", maps(3))
    with pytest.raises(ReadFailed, match="v1"):
        store.reader("ns", "v1")


def test_the_cache_imports_no_torch():
    code = "import sys, cache, cache.views, cache.verify; sys.exit('torch' in sys.modules or 'luigi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
