"""Datasets in HDF5 files of any origin. Values that lie outside the file, or are declared and missing, are refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from cache.errors import CacheError, InvalidImport

__all__ = ["check_dataset", "datasets", "opened"]


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file to read it. Raises InvalidImport if it is no HDF5 file or cannot be read in the block."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CacheError:
        raise
    except (OSError, RuntimeError) as error:
        raise InvalidImport(f"{path}: not a readable HDF5 file ({error})") from error


def datasets(group: h5py.Group, path: Path) -> Iterator[tuple[str, h5py.Dataset]]:
    """(name below the group, dataset) of all datasets, by name; each is checked with `check_dataset`.

    Raises InvalidImport for a link out of the file, for an object that has two names, and for a dataset that fails.
    """
    yield from _walk(group, "", path, set())


def _walk(group: h5py.Group, prefix: str, path: Path, seen: set[int]) -> Iterator[tuple[str, h5py.Dataset]]:
    for name in sorted(group):
        place = f"{prefix}{name}"
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            where = (
                f"{link.filename}:{link.path}"
                if isinstance(link, h5py.ExternalLink)
                else getattr(link, "path", "elsewhere")
            )
            raise InvalidImport(f"{path}: {place}: a link to {where}; only what lies in the file itself is read")
        item = group[name]
        # A group that holds one of its own ancestors would be walked for ever.
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            raise InvalidImport(f"{path}: {place}: an object that is there under another name already")
        seen.add(address)
        if isinstance(item, h5py.Group):
            yield from _walk(item, f"{place}/", path, seen)
        elif isinstance(item, h5py.Dataset):
            check_dataset(item, place, path)
            yield place, item


def check_dataset(dataset: h5py.Dataset, name: str, path: Path) -> None:
    """Check that all values that a dataset declares lie in the file.

    Raises InvalidImport for storage in other files, a virtual dataset, and less stored data than it declares.
    """
    if dataset.external or dataset.is_virtual:
        raise InvalidImport(f"{path}: {name}: its values lie in other files; only what lies in the file itself is read")
    if dataset.shape is None:
        return
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    if dataset.chunks:
        expected = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        stored, what = dataset.id.get_num_chunks(), "chunks"
    else:
        expected, stored, what = declared, dataset.id.get_storage_size(), "bytes"
    if stored < expected:
        raise InvalidImport(f"{path}: {name}: declares {expected} {what} of values {dataset.shape}, {stored} are there")
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > max(
        2**28, 2**16 * dataset.id.get_storage_size()
    ):
        size = dataset.id.get_storage_size()
        raise InvalidImport(f"{path}: {name}: declares chunks {dataset.chunks}, which {size} stored bytes cannot hold")
