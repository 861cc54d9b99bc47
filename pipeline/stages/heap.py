"""Large buffers of a model on a CPU that are not asked of the system anew for every layer."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["heap_kept"]

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # mallopt(3)
DEFAULTS = {TRIM_THRESHOLD: 128 * 1024, MMAP_MAX: 65536}


@contextmanager
def heap_kept(device: torch.device) -> Iterator[None]:
    """Within it a CPU's process keeps the memory it has freed; afterwards it is given back to the system.

    The C library maps every block beyond 32 MiB for itself and unmaps it when it is freed. A layer's output is such a block, and
    having the kernel clear its pages each time costs R50 a tenth of its time. Where there is no glibc, and for other devices,
    nothing is done.
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
        for option, value in DEFAULTS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
