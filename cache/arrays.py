"""Arrays in .npy and .npz files of any origin.

The size that a file declares is checked against the size of the file before memory is allocated. Nothing is unpickled.
An array is described by its header and read when its values are needed.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cache.errors import InvalidImport

__all__ = ["LazyArray", "npy_array", "npz_arrays"]

DEFLATE = 1032  # a deflated stream unpacks to at most this many times its size


@dataclass(frozen=True)
class LazyArray:
    """An array whose header is known and whose values are not read yet.

    Attributes:
        name: the name of its file without the extension, or its name in the file.
        path: the file.
        shape, dtype: as the file declares them; the file is large enough for them.
        load: reads the values or maps them into memory; returns anything that can be sliced.
    """

    name: str
    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], Any]


def npy_array(path: Path) -> LazyArray:
    """The array of a .npy file. Raises InvalidImport for a file that is no array, is truncated, or holds objects."""
    try:
        with path.open("rb") as stream:
            shape, dtype = _header(stream, path.stat().st_size)
    except (ValueError, OSError, EOFError) as error:
        raise InvalidImport(f"{path}: not a readable array ({error})") from error

    def load() -> np.ndarray:
        try:
            values: np.ndarray = np.load(path, mmap_mode="r" if math.prod(shape) else None, allow_pickle=False)
            return values
        except (ValueError, OSError, EOFError) as error:
            raise InvalidImport(f"{path}: not a readable array ({error})") from error

    return LazyArray(path.stem, path, shape, dtype, load)


def npz_arrays(path: Path) -> list[LazyArray]:
    """The arrays of a .npz file, by name. Raises InvalidImport as `npy_array` does."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [_member(path, archive, info) for info in sorted(archive.infolist(), key=lambda info: info.filename)]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        if isinstance(error, InvalidImport):
            raise
        raise InvalidImport(f"{path}: not a readable .npz file ({error})") from error


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> LazyArray:
    name = info.filename.removesuffix(".npy")
    if info.file_size > info.compress_size * DEFLATE + DEFLATE:
        raise InvalidImport(
            f"{path}: {name}: declares {info.file_size} bytes, which {info.compress_size} stored ones cannot hold"
        )
    try:
        with archive.open(info) as stream:
            shape, dtype = _header(stream, info.file_size)
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InvalidImport(f"{path}: {name}: not a readable array ({error})") from error

    def load() -> np.ndarray:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                values: np.ndarray = arrays[name]
                return values
        except (
            ValueError,
            OSError,
            EOFError,
            KeyError,
            RuntimeError,
            zipfile.BadZipFile,
            NotImplementedError,
        ) as error:
            raise InvalidImport(f"{path}: {name}: not a readable array ({error})") from error

    return LazyArray(name, path, shape, dtype, load)


def _header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype) of an array file of `size` bytes. Raises ValueError where that is too small for them."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    declared = math.prod(shape) * dtype.itemsize
    if declared > size - stream.tell():
        raise ValueError(f"it declares {declared} bytes of values {shape}, {size - stream.tell()} are there")
    return shape, dtype
