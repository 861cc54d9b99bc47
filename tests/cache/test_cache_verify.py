"""Integrity: every change of what was written is found, and repair withdraws damaged videos and nothing else."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import cache.record
from cache import (
    CacheError,
    CommitRecord,
    DamagedPayload,
    FeatureStore,
    InvalidFrames,
    InvalidRecord,
    ReadFailed,
    UnsupportedRecord,
)

CLIPS = 40  # a full chunk and a part of one


def maps(seed: int = 0) -> np.ndarray:
    return np.maximum(np.random.default_rng(seed).normal(size=(2, CLIPS, 2, 2, 8)), 0).astype(np.float16)


def write(store: FeatureStore, video_id: str, seed: int = 0) -> CommitRecord:
    with store.writer("ns", video_id, views=2, rows=2, columns=2, channels=8, frames_per_clip=1) as writer:
        for view in range(2):
            writer.append(view, maps(seed)[view], np.arange(CLIPS)[:, None])
        writer.set_times(np.arange(CLIPS) / 10)
        return writer.commit({"source": {"sha256": "abc"}})


def read_all(store: FeatureStore, video_id: str) -> None:
    reader = store.reader("ns", video_id)
    for view in range(2):
        reader.features(view)
    reader.cue(), reader.frames(), reader.times()


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    store = FeatureStore.open(tmp_path / "cache")
    write(store, "v1", 1)
    write(store, "v2", 2)
    return store


def files_of(store: FeatureStore, video_id: str) -> dict[str, Path]:
    """The path of every file of a video, by what it belongs to."""
    folder = Path(store.url) / "ns"
    payload = folder / store.record("ns", video_id).payload
    files = {str(path.relative_to(payload)): path for path in payload.rglob("*") if path.is_file()}
    return files | {"record": folder / "commits" / f"{video_id}.json"}


def owner(name: str) -> str:
    """The array that a file of a payload belongs to; for the record and the payload's own metadata, their names."""
    return name.split("/")[0]


def damages(data: bytes, positions: list[int], generator: random.Random) -> list[bytes]:
    flipped = [data[:i] + bytes([data[i] ^ 1 << generator.randrange(8)]) + data[i + 1 :] for i in positions]
    return flipped + [data[:size] for size in (0, 1, 3, 4, 5, len(data) // 2, len(data) - 1)]


def see_every_damage(store: FeatureStore, positions_of: object) -> None:
    generator = random.Random(3)
    for name, path in files_of(store, "v1").items():
        data = path.read_bytes()
        for changed in damages(data, positions_of(data, generator), generator):
            path.write_bytes(changed)
            with pytest.raises((DamagedPayload, InvalidRecord, UnsupportedRecord), match="v1"):
                read_all(store, "v1")
            found = {(finding.video_id, finding.array, finding.kind) for finding in store.verify("ns")}
            assert ("v1", owner(name), "damaged") in found, name
            assert {video_id for video_id, _, _ in found} == {"v1"}
        path.write_bytes(data)
    assert store.verify("ns") == []


def test_there_are_files_of_every_kind(store):
    assert set(files_of(store, "v1")) == {
        "record",
        "zarr.json",
        *(f"{array}/zarr.json" for array in ("features", "cue", "frames", "times")),
        *(f"features/c/{view}/{chunk}/0/0/0" for view in range(2) for chunk in range(2)),
        "cue/c/0/0",
        "frames/c/0/0/0",
        "times/c/0",
    }


def test_flipped_bits_and_cut_ends_of_every_file_are_seen_by_readers_and_by_verify(store):
    see_every_damage(store, lambda data, generator: [0, len(data) - 1, *generator.sample(range(len(data)), 6)])


@pytest.mark.slow
def test_a_flipped_bit_in_every_fifth_byte_of_any_file_is_seen(store):
    see_every_damage(store, lambda data, generator: list(range(generator.randrange(5), len(data), 5)))


def test_a_removed_file_is_seen(store):
    for name, path in files_of(store, "v1").items():
        data = path.read_bytes()
        path.unlink()
        (finding,) = store.verify("ns")
        assert finding.video_id == "v1"
        assert finding.kind == ("orphan" if name == "record" else "damaged")
        assert finding.array == (None if name == "record" else owner(name))
        with pytest.raises((DamagedPayload, KeyError)):
            read_all(store, "v1")
        path.write_bytes(data)


def test_chunks_that_changed_places_are_seen(store):
    files = files_of(store, "v1")
    one, other = files["features/c/0/0/0/0/0"], files["features/c/1/0/0/0/0"]
    one_data, other_data = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_data)
    other.write_bytes(one_data)
    with pytest.raises(DamagedPayload, match="v1: array features, view 0: expected values of CRC-32C"):
        store.reader("ns", "v1").features(0)
    with pytest.raises(DamagedPayload):
        list(store.reader("ns", "v1").iter_clips(1))
    assert {finding.array for finding in store.verify("ns")} >= {"features"}


def test_the_payload_of_another_video_is_seen(store):
    files, others = files_of(store, "v1"), files_of(store, "v2")
    for name, path in files.items():
        if name != "record":
            shutil.copy(others[name], path)
    assert {(finding.video_id, finding.array) for finding in store.verify("ns")} == {("v1", "features"), ("v1", "cue")}


def test_an_edited_record_is_seen(store):
    path = files_of(store, "v1")["record"]
    text = path.read_text()
    edits = [
        text.replace("abc", "abd"),
        text + "\n",
        text.replace('"dtype": "float16"', '"dtype": "float32"'),
        "{",
        "[]",
        "3",
        "",
    ]
    edits += [files_of(store, "v2")["record"].read_text()]
    for edited in edits:
        assert edited != text
        path.write_text(edited)
        with pytest.raises(InvalidRecord, match="v1"):
            store.record("ns", "v1")
        (finding,) = store.verify("ns")
        assert (finding.kind, finding.video_id, finding.array) == ("damaged", "v1", "record")


def test_repair_withdraws_what_is_damaged_and_only_that(store):
    path = files_of(store, "v1")["features/c/1/1/0/0/0"]
    path.write_bytes(path.read_bytes()[:-1])
    (finding,) = store.verify("ns", repair=True)
    assert (finding.video_id, finding.array, finding.withdrawn) == ("v1", "features", True)
    assert store.video_ids("ns") == {"v2"}
    assert [finding.kind for finding in store.verify("ns")] == ["orphan"]
    assert len(store.gc("ns", older_than_s=0)) == 1
    write(store, "v1", 1)
    assert store.verify("ns") == []


def test_what_cannot_be_read_just_now_is_not_withdrawn(store, monkeypatch):
    read = store.objects.read

    def refuse(relative: str) -> bytes:
        if relative.endswith("cue/zarr.json"):
            raise PermissionError(13, "Permission denied")
        return read(relative)

    monkeypatch.setattr(store.objects, "read", refuse)
    with pytest.raises(ReadFailed, match="v1"):
        store.reader("ns", "v1").cue()
    findings = store.verify("ns", repair=True)
    assert {(finding.kind, finding.withdrawn) for finding in findings} == {("unreadable", False)}
    assert store.video_ids("ns") == {"v1", "v2"}


def test_damage_found_in_a_payload_that_was_replaced_meanwhile_is_not_the_videos(store, monkeypatch):
    record = store.record("ns", "v1")
    shutil.rmtree(Path(store.url) / "ns" / record.payload)
    record_of_key, first = store.record_of_key, {"v1": record}
    write(store, "v1", 1)
    monkeypatch.setattr("cache.verify.unreferenced", lambda *_: [])  # which would take the first answer
    monkeypatch.setattr(
        store, "record_of_key", lambda namespace, key: first.pop(key, None) or record_of_key(namespace, key)
    )
    assert store.verify("ns", repair=True) == []
    assert store.video_ids("ns") == {"v1", "v2"}


def test_a_payload_committed_since_the_listing_is_not_collected(store, monkeypatch):
    monkeypatch.setattr("cache.collect.unreferenced", lambda *_: [store.record("ns", "v1").payload])
    assert store.gc("ns", older_than_s=0) == []
    read_all(store, "v1")


def test_garbage_of_a_video_whose_record_is_damaged_is_kept(store):
    files_of(store, "v1")["record"].write_text("{")
    assert store.gc("ns", older_than_s=0) == []
    store.verify("ns", repair=True)
    assert len(store.gc("ns", older_than_s=0)) == 1


class TestUpgrade:
    def write_with_version(self, store: FeatureStore, version: object) -> None:
        """Seal the record anew, as a writer of another version would."""
        path = files_of(store, "v1")["record"]
        data = json.loads(path.read_text()) | {"schema_version": version, "of_the_future": 1}
        data.pop(cache.record.SEAL)
        path.write_text(cache.record._sealed(data))

    def test_a_record_of_a_newer_version_is_refused_with_advice_and_never_withdrawn(self, store):
        self.write_with_version(store, 99)
        with pytest.raises(
            UnsupportedRecord, match=r"v1.json: record of version 99; this library reads version 2: upgrade it"
        ):
            store.reader("ns", "v1")
        (finding,) = store.verify("ns", repair=True)
        assert (finding.kind, finding.withdrawn) == ("unsupported", False)
        assert store.gc("ns", older_than_s=0) == []
        assert store.video_ids("ns") == {"v1", "v2"}

    def test_a_record_without_a_seal_is_too_old(self, store):
        path = Path(store.url) / "ns" / "commits" / "v1.json"
        data = json.loads(path.read_text()) | {"schema_version": 1}
        path.write_text(json.dumps(data))
        with pytest.raises(UnsupportedRecord, match="record of version 1; .* extract the video again"):
            store.record("ns", "v1")

    @pytest.mark.parametrize("version", ["2", None, 2.5])
    def test_a_version_that_is_no_number_is_refused(self, store, version):
        self.write_with_version(store, version)
        with pytest.raises(CacheError, match="version"):
            store.record("ns", "v1")


def test_frames_and_times_that_could_not_be_told_from_damage_are_refused(tmp_path):
    store = FeatureStore.open(tmp_path)
    with store.writer("ns", "v1", views=1, rows=2, columns=2, channels=8, frames_per_clip=1) as writer:
        with pytest.raises(InvalidFrames, match="v1: view 0: expected frame indices from 0, got -1"):
            writer.append(0, maps()[0], np.full((CLIPS, 1), -1))
        with pytest.raises(InvalidFrames, match="v1: time of frame 1: expected seconds, got nan"):
            writer.set_times(np.array([0, np.nan]))
