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
    NonFiniteFeatures,
    NotCached,
    ReadFailed,
    ShapeMismatch,
    WriteFailed,
)
from cache.names import escape, is_hashed, unescape

NAMES = ["a#b=c d/e.mp4", ".hidden", "..", "a//b", "Ärger 日本", "UPPER", "x" * 200, "É" * 200, "a%20b+c?d&e"]
SHAPE = {"views": 2, "rows": 2, "columns": 3, "channels": 4, "frames_per_clip": 6}


@pytest.fixture(params=["local", "memory", "s3"])
def store(request, tmp_path) -> FeatureStore:
    if request.param == "s3":
        return FeatureStore.open(f"{request.getfixturevalue('s3_bucket')}/cache")
    return FeatureStore.open(tmp_path / "cache" if request.param == "local" else f"memory://{uuid.uuid4().hex}/cache")


def maps(clips: int = 19, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(2, clips, 2, 3, 4))
    return np.maximum(values, 0).astype(np.float16)


def write(store: FeatureStore, video_id: str, values: np.ndarray, namespace: str = "ns") -> None:
    with store.writer(namespace, video_id, **SHAPE) as writer:
        for view in range(2):
            for start in range(0, values.shape[1], 5):
                piece = values[view, start : start + 5]
                writer.append(view, piece, np.arange(start, start + len(piece))[:, None] + np.arange(6))
        writer.set_times(np.arange(30) / 10)
        writer.commit({"source": {"sha256": "abc"}})


class TestEveryStore:
    def test_what_was_written_is_read(self, store):
        values = maps()
        write(store, "v1", values)
        reader = store.reader("ns", "v1")
        assert reader.shape == (2, 19, 2, 3, 4)
        assert reader.features(1).dtype == np.float16
        np.testing.assert_array_equal(reader.features(1), values[1])
        np.testing.assert_array_equal(np.concatenate([m for _, m in reader.iter_clips(0, 10)]), values[0])
        assert [start for start, _ in reader.iter_clips(0, 10)] == [0]
        np.testing.assert_array_equal(reader.frames()[0, 3], [3, 4, 5, 6, 7, 8])
        np.testing.assert_array_equal(reader.times(), np.arange(30) / 10)
        assert reader.record.provenance == {"source": {"sha256": "abc"}}

    def test_cue_is_the_maximum_of_the_values_as_stored(self, store):
        values = maps().astype(np.float64) + 1e-5
        write(store, "v1", values)
        reader = store.reader("ns", "v1")
        np.testing.assert_array_equal(reader.cue()[0], reader.features(0).max(axis=(0, 1, 2)).astype(np.float32))

    def test_nothing_is_visible_before_the_commit(self, store):
        with store.writer("ns", "v1", **SHAPE) as writer:
            writer.append(0, maps()[0], np.zeros((19, 6), int))
            assert store.list("ns") == set()
            assert not store.has("ns", "v1")
        with pytest.raises(NotCached, match="v1"):
            store.reader("ns", "v1")
        assert store.gc("ns", 0) == []  # the writer took its payload away

    def test_another_process_sees_at_once_what_was_committed_and_withdrawn(self, store):
        other = FeatureStore.open(store.url, {"skip_instance_cache": True})
        for name in ("v1", "v2"):
            assert not other.has("ns", name)
            write(store, name, maps(3))
            assert other.has("ns", name)
            assert name in other.list("ns")
        store.withdraw("ns", "v1")
        assert not other.has("ns", "v1")
        assert other.list("ns") == {"v2"}

    def test_long_videos_are_written_and_read_in_pieces(self, store):
        values = maps(150)
        write(store, "v1", values)
        reader = store.reader("ns", "v1")
        pieces = list(reader.iter_clips(0, 40))
        assert [start for start, _ in pieces] == [0, 64, 128]
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), values[0])
        np.testing.assert_array_equal(reader.read("features", (1, slice(60, 70))), values[1, 60:70])

    def test_float32_is_kept_as_it_is(self, store):
        values = np.random.default_rng(0).normal(size=(3, 2, 3, 4)).astype(np.float32)
        with store.writer("ns", "v1", **SHAPE | {"views": 1}, dtype="float32") as writer:
            writer.append(0, values, np.zeros((3, 6), int))
            writer.commit({})
        reader = store.reader("ns", "v1")
        assert reader.features(0).dtype == np.float32
        np.testing.assert_array_equal(reader.features(0), values)
        np.testing.assert_array_equal(reader.cue()[0], values.max(axis=(0, 1, 2)))

    def test_stats_count_what_lies_there(self, store):
        write(store, "v1", maps(3))
        write(store, "v2", maps(5))
        stats = store.stats("ns")
        assert (stats.videos, stats.clips, stats.feature_bytes) == (2, 16, 16 * 24 * 2)
        assert (stats.dtypes, stats.map_shapes) == (("float16",), ((2, 3, 4),))
        assert stats.files == 2 * (1 + 5 + 2 + 3)
        assert stats.stored_bytes == sum(size for size, _ in store.objects.files("ns").values())

    def test_damage_is_an_error(self, store):
        write(store, "v1", maps(3))
        name = next(name for name in store.objects.files("ns") if "features/c/1" in name)
        store.objects._fs.pipe_file(store.objects.path(f"ns/{name}"), b"junk of some length")
        assert [(f.video_id, f.array, f.kind) for f in store.verify("ns")] == [("v1", "features", "damaged")]
        store.objects.remove(f"ns/{name}")
        with pytest.raises(DamagedPayload, match="v1"):
            store.reader("ns", "v1").features(1)

    def test_a_commit_whose_answer_is_lost_leaves_a_whole_video(self, store, monkeypatch):
        write_whole = store.objects.write_whole

        def lose_the_answer(*arguments: object, **options: object) -> None:
            write_whole(*arguments, **options)
            raise WriteFailed("connection reset")

        monkeypatch.setattr(store.objects, "write_whole", lose_the_answer)
        with pytest.raises(WriteFailed, match="v1.*connection reset"):
            write(store, "v1", maps(3))
        assert store.gc("ns", 0) == []
        assert store.verify("ns") == []
        np.testing.assert_array_equal(store.reader("ns", "v1").features(0), maps(3)[0])

    def test_an_error_leaves_nothing(self, store):
        def fail() -> None:
            with store.writer("ns", "v1", **SHAPE) as writer:
                writer.append(0, maps()[0], np.zeros((19, 6), int))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert store.list("ns") == set()

    def test_a_second_commit_replaces_the_first(self, store):
        write(store, "v1", maps())
        write(store, "v1", maps(9, seed=1))
        np.testing.assert_array_equal(store.reader("ns", "v1").features(0), maps(9, seed=1)[0])
        assert store.gc("ns", 3600) == []
        assert len(store.gc("ns", 0)) == 1
        assert store.reader("ns", "v1").shape[1] == 9

    def test_list_namespaces_and_withdraw(self, store):
        assert store.namespaces() == []
        for name in ("b", "a"):
            write(store, name, maps(3))
        assert store.list("ns") == {"a", "b"}
        assert [r.video_id for r in store.records("ns")] == ["a", "b"]
        assert store.namespaces() == ["ns"]
        store.withdraw("ns", "a")
        assert store.list("ns") == {"b"}
        with pytest.raises(NotCached):
            store.withdraw("ns", "a")

    @pytest.mark.parametrize(
        "name", ["a#b=c d/e.mp4", ".hidden", "..", "a//b", "Ärger 日本", "UPPER", "x" * 200, "É" * 200, "a%20b+c?d&e"]
    )
    def test_names_round_trip(self, store, name):
        write(store, name, maps(1))
        assert store.list("ns") == {name}
        np.testing.assert_array_equal(store.reader("ns", name).features(0), maps(1)[0])
        assert store.verify("ns") == []
        store.withdraw("ns", name)
        assert len(store.gc("ns", 0)) == 1
        assert store.list("ns") == set()

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
    def test_values_that_are_not_finite_as_stored_are_refused(self, store, value):
        values = maps(3)[0].astype(np.float64)
        values[1, 0, 0, 0] = value
        with pytest.raises(NonFiniteFeatures, match="v1: view 0, clip 1"), store.writer("ns", "v1", **SHAPE) as writer:
            writer.append(0, values, np.zeros((3, 6), int))

    def test_views_of_different_length_are_refused(self, store):
        with store.writer("ns", "v1", **SHAPE) as writer:
            writer.append(0, maps(3)[0], np.zeros((3, 6), int))
            with pytest.raises(ShapeMismatch, match=r"\[3, 0\]"):
                writer.commit({})
        assert store.list("ns") == set()

    def test_wrong_shapes_are_refused(self, store):
        with pytest.raises(ShapeMismatch, match="expected features"), store.writer("ns", "v1", **SHAPE) as writer:
            writer.append(0, maps(3)[0, ..., :3], np.zeros((3, 6), int))


def test_zarr_alone_opens_a_payload(tmp_path):
    store = FeatureStore.open(tmp_path)
    write(store, "v1", maps())
    group = zarr.open_group(tmp_path / "ns" / store.record("ns", "v1").payload, mode="r")
    np.testing.assert_array_equal(group["features"][:], maps())
    assert group["features"].metadata.dimension_names == ("view", "clip", "row", "column", "channel")
    assert np.isnan(group["features"].fill_value)


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
    assert store.list("ns") == set()
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
        FeatureStore.open("memory://x").list("../up")


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
