"""The speed that a CUDA GPU can reach, and what it spends its time on."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a matrix product (8192, 8192, 8192), about the most that the GPU reaches in a precision."""
    side, repeats = 8192, 10
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        left @ right
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        left @ right
    end.record()
    torch.cuda.synchronize()
    return 2 * side**3 * repeats / (begin.elapsed_time(end) / 1000)


def kernels(run: Callable[[], object]) -> dict:
    """Where the time of a call goes on a GPU.

    Returns:
        busy_share, the kernels' time over that of the call; share_by_kernel, of the 20 kernels with the largest shares;
        and the number of calls. Kernels that run side by side count each, so `busy_share` can be above 1.
    """
    activities = [torch.profiler.ProfilerActivity.CUDA]
    start = time.monotonic()
    with torch.profiler.profile(activities=activities) as profile:
        run()
        torch.cuda.synchronize()
        seconds = time.monotonic() - start
    found = sorted(profile.key_averages(), key=lambda kernel: -kernel.self_device_time_total)
    total = sum(kernel.self_device_time_total for kernel in found)
    return {
        "busy_share": round(1e-6 * total / seconds, 3),
        "share_by_kernel": {kernel.key[:110]: round(kernel.self_device_time_total / total, 4) for kernel in found[:20]},
        "calls": sum(kernel.count for kernel in found),
    }
