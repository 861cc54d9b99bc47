"""Times in words."""

from __future__ import annotations

__all__ = ["clock"]


def clock(seconds: float, digits: int = 0) -> str:
    """Seconds as m:ss or h:mm:ss, rounded down."""
    scale = 10**digits
    ticks = int(seconds * scale + 1e-6)
    whole, part = divmod(ticks, scale)
    told = (
        f"{whole // 60 % 60}:{whole % 60:02d}"
        if whole < 3600
        else f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    )
    return f"{told}.{part:0{digits}d}" if digits else told
