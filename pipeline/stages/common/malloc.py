"""Keeps the large buffers of a model on a CPU, instead of asking the system for them anew for every layer."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["heap_kept"]

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # mallopt(3)
# glibc stops adapting its thresholds once one is set, so afterwards they get the values that adapting ends with.
AFTERWARDS = {TRIM_THRESHOLD: 64 * 2**20, MMAP_THRESHOLD: 32 * 2**20, MMAP_MAX: 65536}


@contextmanager
def heap_kept(device: torch.device) -> Iterator[None]:
    """Let the process keep freed memory during the block, and give it back to the system afterwards.

    Otherwise the C library maps each block beyond 32 MiB anew and unmaps it when it is freed. A layer's output is such
    a block, and the kernel would clear its pages each time. Does nothing without glibc, and for other devices than the
    CPU.
    """
    library = ctypes.CDLL(None)
    if device.type != "cpu" or not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(MMAP_MAX, 0)
    library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        for option, value in AFTERWARDS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
