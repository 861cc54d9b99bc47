"""The form of a detector file: one safetensors file with a document in its metadata and a seal over all of it.

The header is checked against the size of the file before anything is allocated, and it is read here rather than by
safetensors, whose errors do not say what is wrong. docs/detector.md describes the form.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import DetectorError, OutputError
from pipeline.stages.common.outputs import whole_file

__all__ = ["FORMAT", "DetectorFile", "HeldTensor", "read_header", "read_tensors", "seal_of", "write_file"]

FORMAT = 1
"""Version of the form that is written, and the newest that is read."""

KEY = "gig-vad-detector"
MOST_HEADER_BYTES = 1 << 24
TYPES = {
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I32": torch.int32,
    "I64": torch.int64,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in TYPES.items()}


@dataclass(frozen=True)
class HeldTensor:
    """A tensor as the header declares it; `start` counts bytes from the beginning of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class DetectorFile:
    """The header of a detector file.

    Attributes:
        path: of the file.
        document: what determines a score, as plain data; its content is not checked yet.
        seal: 64 hex digits, SHA-256 over document and tensors as the file states it; `read_tensors` checks it.
        tensors: by name; together they fill the file exactly.
    """

    path: Path
    document: dict[str, Any]
    seal: str
    tensors: dict[str, HeldTensor]


def write_file(path: Path, document: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Write a detector file, whole or not at all; equal content gives equal bytes.

    Args:
        path: is replaced where it is there.
        document: plain data for JSON.
        tensors: on the CPU and contiguous.

    Returns:
        The seal.

    Raises:
        OutputError: it cannot be written.
        DetectorError: a tensor has a type that the form does not have.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES:
            raise DetectorError(f"{name}: expected a tensor of {', '.join(TYPES)}, got {tensor.dtype}")
    seal = seal_of(document, tensors)
    # One entry: safetensors writes several in no fixed order, and equal detectors should be equal files.
    entry = json.dumps({"format": FORMAT, "seal": seal, "document": document}, sort_keys=True, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            _write(partial, entry, tensors)
    except OSError as error:
        raise OutputError(f"{path}: the detector cannot be written: {error.strerror or error}") from error
    return seal


def _write(path: Path, entry: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write the form of safetensors without a second copy of the tensors in memory; the widest types come first."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": {KEY: entry}}
    place = 0
    for name in order:
        tensor = tensors[name]
        stop = place + tensor.numel() * tensor.dtype.itemsize
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, stop]}
        place = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MOST_HEADER_BYTES:
        raise DetectorError(f"{path}: expected a header of at most {MOST_HEADER_BYTES} bytes, got {len(text)}")
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            stream.write(_bytes(tensors[name]))


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The values of a contiguous tensor, in its own memory."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")


def seal_of(document: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256, 64 hex digits, over a document, and names, types, shapes and values of tensors."""
    digest = hashlib.sha256(f"{KEY} {FORMAT}\n{_canonical(document)}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{_canonical([name, NAMES[tensor.dtype], list(tensor.shape)])}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def read_header(path: Path) -> DetectorFile:
    """Read and check what a file says that it holds; no tensor is read.

    Raises DetectorError for a file that cannot be read, is no detector, is cut or has a newer form.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(size - 8, MOST_HEADER_BYTES):
                raise DetectorError(
                    f"{path}: not a detector file: expected the length of a header of at most {MOST_HEADER_BYTES} "
                    f"bytes, in a file of {size} bytes got {length}; the file is cut, or something else"
                )
            text = stream.read(length)
    except OSError as error:
        raise DetectorError(f"{path}: cannot be read: {error.strerror or error}") from error
    header = _mapping(path, "its header", _json(path, "its header", text))
    metadata = _mapping(path, "its metadata", header.pop("__metadata__", {}))
    if KEY not in metadata:
        raise DetectorError(
            f"{path}: a safetensors file, but not a detector: expected {KEY!r} in its metadata; `gig detector pack` "
            "makes a detector"
        )
    entry = _mapping(path, "its metadata", _json(path, "its metadata", metadata[KEY]))
    _check_format(path, entry.get("format"))
    seal, document = entry.get("seal"), _mapping(path, "its document", entry.get("document"))
    if set(entry) != {"format", "seal", "document"} or not isinstance(seal, str):
        raise DetectorError(f"{path}: expected format, seal and document in its metadata, got {', '.join(entry)}")
    tensors = {name: _held(path, name, facts, 8 + length) for name, facts in header.items()}
    _check_extent(path, tensors, 8 + length, size)
    return DetectorFile(path, document, seal, tensors)


def read_tensors(file: DetectorFile) -> dict[str, torch.Tensor]:
    """The tensors of a file, whose seal is checked.

    Raises DetectorError when something in the file is not as it was written.
    """
    tensors = {}
    try:
        with file.path.open("rb") as stream:
            for name, held in file.tensors.items():
                tensor = torch.empty(held.shape, dtype=held.dtype)
                stream.seek(held.start)
                if held.bytes and stream.readinto(_bytes(tensor)) != held.bytes:
                    raise DetectorError(f"{file.path}: {name}: the file ends before this tensor does; it is cut")
                tensors[name] = tensor
    except OSError as error:
        raise DetectorError(f"{file.path}: cannot be read: {error.strerror or error}") from error
    found = seal_of(file.document, tensors)
    if found != file.seal:
        raise DetectorError(
            f"{file.path}: changed since it was packed: expected the seal {file.seal[:80]}, its content has {found}; "
            "copy or pack it again"
        )
    return tensors


def _check_format(path: Path, version: object) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise DetectorError(f"{path}: expected the number of its format, got {str(version)[:80]!r}")
    if version > FORMAT:
        raise DetectorError(
            f"{path}: a detector of format {version}, this version reads up to {FORMAT}: upgrade gig-vad "
            "(pip install --upgrade gig-vad)"
        )


def _held(path: Path, name: str, facts: object, start: int) -> HeldTensor:
    """A tensor from its entry in the header."""
    try:
        entry = _mapping(path, name, facts)
        dtype, shape, (first, stop) = TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        numbers = [*shape, first, stop]
        if set(entry) != {"dtype", "shape", "data_offsets"} or len(shape) > 8:
            raise ValueError("unknown keys, or too many dimensions")
        if any(isinstance(number, bool) or not isinstance(number, int) or number < 0 for number in numbers):
            raise ValueError("expected whole numbers from 0")
        held = HeldTensor(dtype, tuple(shape), start + first)
        if held.bytes != stop - first:
            raise ValueError(f"{held.bytes} bytes by its shape, {stop - first} by its place")
        return held
    except (KeyError, TypeError, ValueError) as error:
        raise DetectorError(f"{path}: the tensor {name[:80]!r} is not declared as one ({str(error)[:200]})") from error


def _check_extent(path: Path, tensors: Mapping[str, HeldTensor], start: int, size: int) -> None:
    """Raise DetectorError unless the tensors follow each other without gaps from `start` to the end of the file."""
    place = start
    for name, held in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].bytes)):
        if held.start != place:
            raise DetectorError(f"{path}: the tensor {name[:80]!r} begins at byte {held.start}, expected {place}")
        place += held.bytes
    if place != size:
        raise DetectorError(f"{path}: expected a file of {place} bytes, got {size}; it is cut, or something was added")


def _json(path: Path, what: str, text: object) -> object:
    try:
        if not isinstance(text, str | bytes):
            raise ValueError("not text")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DetectorError(f"{path}: {what} is not JSON ({str(error)[:200]})") from error


def _mapping(path: Path, what: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DetectorError(f"{path}: {what[:80]}: expected a JSON object, got {str(value)[:80]!r}")
    return value


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
