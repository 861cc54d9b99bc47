"""Files of other origin: nothing outside of them is read, and no memory is allocated because a header asks for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import CommitRecord, DamagedPayload, FeatureStore, InvalidImport, InvalidRecord, PlainLayout
from cache.arrays import npy_array, npz_arrays
from cache.importing import import_hdf5, import_npy

LAYOUT = PlainLayout(fps=25)
TERABYTE = (10**9, 250)  # of float32


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "cache")


@pytest.fixture
def committed(store) -> FeatureStore:
    with store.writer("ns", "v", views=1, rows=1, columns=1, channels=4, frames_per_clip=2) as writer:
        writer.append(0, np.ones((3, 1, 1, 4)), np.zeros((3, 2), int))
        writer.commit({})
    return store


def spoil(path: Path, how: str) -> None:
    """An HDF5 file that refers to other files or declares values that it does not hold."""
    rows = np.ones((3, 8), np.float32)
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["secret"] = rows
    rows.tofile(path.with_name("secret.bin"))
    with h5py.File(path, "w") as file:
        if how == "external link":
            file["v"] = h5py.ExternalLink("other.h5", "secret")
        elif how == "soft link":
            file["v"] = h5py.SoftLink("/w")
        elif how == "loop":
            file["v"] = file
        elif how == "external storage":
            file.create_dataset(
                "v", rows.shape, rows.dtype, external=[(str(path.with_name("secret.bin")), 0, rows.nbytes)]
            )
        elif how == "virtual":
            layout = h5py.VirtualLayout(rows.shape, rows.dtype)
            layout[:] = h5py.VirtualSource("other.h5", "secret", rows.shape)
            file.create_virtual_dataset("v", layout)
        elif how == "bytes":
            file.create_dataset("v", TERABYTE, "f4")
        else:
            file.create_dataset("v", TERABYTE, "f4", chunks=(1000, 250))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("external link", "v: a link to other.h5:secret"),
        ("soft link", "v: a link to /w"),
        ("loop", "under another name already"),
        ("external storage", "v: its values lie in other files"),
        ("virtual", "v: its values lie in other files"),
        ("bytes", "v: declares 1000000000000 bytes .* 0 are there"),
        ("chunks", "v: declares 1000000 chunks .* 0 are there"),
    ],
)
def test_hdf5_files_are_read_alone_and_as_far_as_they_go(store, tmp_path, how, message):
    spoil(tmp_path / "f.h5", how)
    with pytest.raises(InvalidImport, match=message):
        import_hdf5(store, "ns", tmp_path / "f.h5", LAYOUT)
    assert store.video_ids("ns") == set()


def test_an_exported_group_is_held_to_the_same(committed, tmp_path):
    record = committed.record("ns", "v")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["features"] = np.ones((1, 3, 1, 1, 4), np.float16)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_group("v").attrs["record"] = record.to_json()
        file["v/features"] = h5py.ExternalLink("other.h5", "features")
    with pytest.raises(InvalidImport, match="v/features: a link to other.h5:features"):
        import_hdf5(committed, "copy", tmp_path / "f.h5")


def npy_header(shape: tuple[int, ...]) -> bytes:
    text = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_a_small_file_that_declares_a_terabyte_is_a_clear_error(store, tmp_path):
    (tmp_path / "npy").mkdir()
    (tmp_path / "npy" / "v.npy").write_bytes(npy_header(TERABYTE))
    with pytest.raises(InvalidImport, match="v.npy: .* declares 1000000000000 bytes of values .* 0 are there"):
        import_npy(store, "ns", tmp_path / "npy", LAYOUT)
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("v.npy", npy_header(TERABYTE))
    with pytest.raises(InvalidImport, match="v: .* declares 1000000000000 bytes"):
        npz_arrays(tmp_path / "v.npz")
    data = bytearray((tmp_path / "v.npz").read_bytes())
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", 2**31)  # the size that the archive states is a lie as well
    (tmp_path / "v.npz").write_bytes(data)
    with pytest.raises(InvalidImport, match="declares 2147483648 bytes, which .* stored ones cannot hold"):
        npz_arrays(tmp_path / "v.npz")


def test_python_objects_are_not_read(tmp_path):
    np.save(tmp_path / "v.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InvalidImport, match="Python objects"):
        npy_array(tmp_path / "v.npy")


def forge(store: FeatureStore, change: dict) -> None:
    """Write a sealed record that says something else."""
    record = store.record("ns", "v")
    data = dataclasses.asdict(record) | change
    seal = hashlib.sha256(json.dumps(data, indent=1, sort_keys=True).encode()).hexdigest()
    text = json.dumps(data | {"record_sha256": seal}, indent=1, sort_keys=True)
    (Path(store.url) / "ns" / "commits" / "v.json").write_text(text)


@pytest.mark.parametrize(
    "payload",
    ["../other/payloads/v/1", "payloads/../../x", "/etc", "payloads/v/..", "payloads/v", "payloads/a\\b/c", 7],
)
def test_a_payload_lies_below_its_namespace(committed, payload):
    forge(committed, {"payload": payload})
    with pytest.raises(InvalidRecord, match=r"v.json: v: payload: expected payloads/<key>/<name>"):
        committed.reader("ns", "v")


@pytest.mark.parametrize(
    "change",
    [
        {"shapes": {"features": [1, -3, 1, 1, 4], "cue": [1, 4], "frames": [1, -3, 2], "times": [0]}},
        {"shapes": {"features": [1, 3.0, 1, 1, 4], "cue": [1, 4], "frames": [1, 3, 2], "times": [0]}},
        {"shapes": {"features": [1, 3, 1, 1, 4], "cue": [1, 4], "frames": [1, 3, 2], "times": [0, 1]}},
        {"shapes": {"features": 3, "cue": [1, 4], "frames": [1, 3, 2], "times": [0]}},
        {"chunk_clips": 0},
        {"metadata_sha256": {}},
        {"values_crc32c": {"features": [], "cue": ["0"], "frames": ["0"], "times": ["0"]}},
    ],
)
def test_a_record_that_cannot_be_true_is_refused(committed, change):
    forge(committed, change)
    with pytest.raises(InvalidRecord, match="v.json: "):
        committed.reader("ns", "v")


def declare(store: FeatureStore, clips: int, chunk: int) -> CommitRecord:
    """Record and metadata that agree on more clips than there are."""
    record = store.record("ns", "v")
    path = Path(store.url) / "ns" / record.payload / "features" / "zarr.json"
    metadata = json.loads(path.read_text())
    metadata["shape"][1] = clips
    metadata["chunk_grid"]["configuration"]["chunk_shape"][1] = chunk
    path.write_text(json.dumps(metadata))
    hashes = dict(record.metadata_sha256) | {"features/zarr.json": hashlib.sha256(path.read_bytes()).hexdigest()}
    shapes = dict(record.shapes) | {"features": (1, clips, 1, 1, 4), "frames": (1, clips, 2)}
    forge(store, {"shapes": shapes, "metadata_sha256": hashes, "chunk_clips": chunk})
    return store.record("ns", "v")


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (3, "array features declares 41666666667 chunks, 1 are there"),
        (125_000_000_000, "declares 1000000000000 bytes, which .* stored"),
    ],
)
def test_declared_sizes_are_held_against_what_is_stored(committed, chunk, message):
    declare(committed, 125_000_000_000, chunk)
    reader = committed.reader("ns", "v")
    with pytest.raises(DamagedPayload, match=message):
        reader.features(0)
    with pytest.raises(DamagedPayload, match=message):
        next(reader.iter_clips(0))
    if chunk == 3:
        with pytest.raises(DamagedPayload, match=message):
            committed.stack("ns", ["v"])
