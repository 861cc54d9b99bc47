"""The form of a detector file: what was written is read, and whatever else is refused before it is allocated."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline.errors import DetectorError, OutputError
from pipeline.stages.detector.file import KEY, read_header, read_tensors, write_file

DOCUMENT = {"name": "Überfall", "numbers": [1.5, 0.1]}
TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.tensor(7),
    "c": torch.zeros(0, 4),
    "d": torch.tensor([True, False, True]),
}


@pytest.fixture
def packed(tmp_path) -> Path:
    write_file(tmp_path / "d.safetensors", DOCUMENT, TENSORS)
    return tmp_path / "d.safetensors"


def header_of(path: Path) -> tuple[dict, bytes]:
    """Header and tensors' bytes of a file."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewritten(path: Path, header: object, data: bytes) -> Path:
    """The file with another header, whose length is right."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_what_was_written_is_read_here_and_by_safetensors(packed, tmp_path):
    file = read_header(packed)
    tensors = read_tensors(file)
    assert file.document == DOCUMENT
    assert list(tensors) == ["b", "a", "c", "d"]  # the widest first
    with safe_open(packed, framework="pt") as stream:
        for name, tensor in TENSORS.items():
            assert tensors[name].dtype == tensor.dtype
            assert torch.equal(tensors[name], tensor)
            assert torch.equal(stream.get_tensor(name), tensor)
    again = dict(reversed(TENSORS.items()))
    assert write_file(tmp_path / "again", dict(reversed(DOCUMENT.items())), again) == file.seal
    assert (tmp_path / "again").read_bytes() == packed.read_bytes()
    assert list(tmp_path.glob("*.partial")) == []


def test_every_changed_byte_of_a_tensor_is_found(packed):
    content = packed.read_bytes()
    _, data = header_of(packed)
    for place in range(len(content) - len(data), len(content)):
        packed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DetectorError, match="changed since it was packed"):
            read_tensors(read_header(packed))


def test_a_changed_document_is_found(packed):
    header, data = header_of(packed)
    entry = json.loads(header["__metadata__"][KEY])
    entry["document"]["numbers"][0] = 1.6
    header["__metadata__"][KEY] = json.dumps(entry)
    with pytest.raises(DetectorError, match="changed since it was packed"):
        read_tensors(read_header(rewritten(packed, header, data)))


def test_a_cut_file_and_one_with_more_are_refused(packed):
    content = packed.read_bytes()
    for size in (0, 5, 8, 100, len(content) - 1):
        packed.write_bytes(content[:size])
        with pytest.raises(DetectorError, match="cut"):
            read_header(packed)
    packed.write_bytes(content + b"\0")
    with pytest.raises(DetectorError, match=r"expected a file of \d+ bytes, got \d+"):
        read_header(packed)
    with pytest.raises(DetectorError, match="cannot be read"):
        read_header(packed.parent)


def test_a_newer_format_asks_for_an_upgrade(packed):
    header, data = header_of(packed)
    for version, message in ((2, "upgrade gig-vad"), ("1", "number of its format"), (True, "number of its format")):
        header["__metadata__"][KEY] = json.dumps({"format": version, "anything": "else"})
        with pytest.raises(DetectorError, match=message):
            read_header(rewritten(packed, header, data))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}, "expected a file of"),
        ({"dtype": "F32", "shape": [10**15], "data_offsets": [0, 24]}, "bytes by its shape"),
        ({"dtype": "F32", "shape": [2**62, 2**62, 2**62], "data_offsets": [0, 24]}, "bytes by its shape"),
        ({"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]}, "whole numbers from 0"),
        ({"dtype": "F32", "shape": [6.0], "data_offsets": [0, 24]}, "whole numbers from 0"),
        ({"dtype": "F32", "shape": [1] * 5000, "data_offsets": [0, 4]}, "too many dimensions"),
        ({"dtype": "F8_E4M3", "shape": [24], "data_offsets": [0, 24]}, "is not declared as one"),
        ({"dtype": "F32", "shape": [6], "data_offsets": [0, 24], "more": 1}, "unknown keys"),
        ({"dtype": ["F32"], "shape": [6], "data_offsets": [0, 24]}, "is not declared as one"),
        ({"dtype": "F32", "shape": "6", "data_offsets": [0, 24]}, "is not declared as one"),
        ({"dtype": "F32", "shape": [6], "data_offsets": [8, 32]}, "begins at byte"),
        ([], "expected a JSON object"),
    ],
)
def test_a_tensor_that_is_declared_otherwise_than_it_lies_is_refused(packed, facts, message):
    header, data = header_of(packed)
    header = {"__metadata__": header["__metadata__"], "a": facts}
    with pytest.raises(DetectorError, match=message):
        read_header(rewritten(packed, header, data[:24]))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"\xff\xfe{}", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        ([], "expected a JSON object"),
        ({"__metadata__": []}, "expected a JSON object"),
        ({"__metadata__": {KEY: "{"}}, "its metadata is not JSON"),
        ({"__metadata__": {KEY: 3}}, "its metadata is not JSON"),
        ({"__metadata__": {KEY: "[1]"}}, "expected a JSON object"),
        ({"__metadata__": {KEY: '{"format": 1}'}}, "its document: expected a JSON object"),
        ({"__metadata__": {KEY: '{"format": 1, "document": {}, "seal": 4}'}}, "expected format, seal and document"),
        ({"__metadata__": {KEY: '{"format": 1, "document": {}, "seal": "", "x": 1}'}}, "expected format, seal"),
        ({}, "but not a detector"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path, header, message):
    with pytest.raises(DetectorError, match=message):
        read_header(rewritten(tmp_path / "d", header, b""))


def test_a_huge_header_is_not_read(tmp_path):
    with (tmp_path / "d").open("wb") as stream:
        stream.write(struct.pack("<Q", 2**40))
        stream.truncate(2**41)  # sparse
    with pytest.raises(DetectorError, match=f"got {2**40}"):
        read_header(tmp_path / "d")


def test_other_safetensors_files_are_no_detectors(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DetectorError, match=r"but not a detector.*gig detector pack"):
        read_header(tmp_path / "other.safetensors")


def test_a_file_that_cannot_be_written_leaves_the_one_before(packed):
    before = packed.read_bytes()
    with pytest.raises(DetectorError, match=r"expected a tensor of .*, got torch\.complex64"):
        write_file(packed, DOCUMENT, {"a": torch.zeros(1, dtype=torch.complex64)})
    with pytest.raises(OutputError, match="cannot be written"):
        write_file(packed / "below", DOCUMENT, TENSORS)
    with pytest.raises(DetectorError, match="header of at most"):
        write_file(packed, {"text": "x" * (1 << 24)}, TENSORS)
    assert packed.read_bytes() == before
    assert list(packed.parent.iterdir()) == [packed]
