"""Versions and hardware of this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

__all__ = ["machine_facts"]

PACKAGES = ("gig-vad", "torch", "mmaction2", "av", "numpy", "zarr")


def machine_facts() -> dict[str, str]:
    """What a report of a fault should name, by name."""
    import av

    facts = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "CPU": f"{_cpu()}, {len(os.sched_getaffinity(0))} core(s) for this process",
        "memory": _memory(),
        "GPU": _gpu(),
        "Python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed as a package"
    facts["CUDA of torch"] = torch.version.cuda or "none"
    libraries = ", ".join(
        f"{name} {'.'.join(map(str, av.library_versions[name]))}" for name in ("libavcodec", "libswscale")
    )
    facts["FFmpeg"] = f"{av.ffmpeg_version_info} ({libraries})"
    return facts


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB"


def _gpu() -> str:
    if not torch.cuda.is_available():
        return "none that torch sees"
    cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return ", ".join(f"{card.name} ({card.total_memory / 1e9:.0f} GB)" for card in cards)
