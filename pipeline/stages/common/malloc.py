"""Large buffers of a model on a CPU that are not asked of the system anew for every layer."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["heap_kept"]

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # mallopt(3)
# glibc stops adapting its thresholds once one was set, so afterwards they get what adapting would have come to.
AFTERWARDS = {TRIM_THRESHOLD: 64 * 2**20, MMAP_THRESHOLD: 32 * 2**20, MMAP_MAX: 65536}


@contextmanager
def heap_kept(device: torch.device) -> Iterator[None]:
    """Within it a CPU's process keeps the memory it has freed; afterwards it is given back to the system.

    The C library maps every block beyond 32 MiB for itself and unmaps it when it is freed. A layer's output is such a
    block, and the kernel would clear its pages each time. Where there is no glibc, and for other devices, nothing is
    done.
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
