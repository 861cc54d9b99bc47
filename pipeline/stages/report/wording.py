"""Times and sizes in words."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Wording", "clock", "file_size"]


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


def file_size(size_bytes: int) -> str:
    """Bytes in the unit in which they are 0.1 or more.

    Examples:
        >>> file_size(2_400_000), file_size(30_500), file_size(80)
        ('2.3 MiB', '29.8 KiB', '80 bytes')
    """
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= scale / 10:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes} bytes"


@dataclass(frozen=True)
class Wording:
    """How a page says times.

    Attributes:
        timed: whether they are seconds; else they are numbers of frames.
    """

    timed: bool

    def time(self, time_s: float, digits: int = 0) -> str:
        """A moment, or the end of a stretch."""
        return clock(time_s, digits) if self.timed else f"frame {round(time_s)}"

    def span(self, start_s: float, end_s: float) -> str:
        """A stretch from one moment to another."""
        if self.timed:
            return f"{clock(start_s, 1)} to {clock(end_s, 1)}"
        return f"frames {round(start_s)} to {round(end_s) - 1}"

    def length(self, duration_s: float, digits: int = 0) -> str:
        """How long something is."""
        return clock(duration_s, digits) if self.timed else f"{round(duration_s)} frames"
