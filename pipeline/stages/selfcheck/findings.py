"""What the self-check found, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cache.errors import CacheError
from pipeline.errors import PipelineError

__all__ = ["Check", "Speed", "checked", "told"]


@dataclass(frozen=True)
class Check:
    """Whether one thing is right.

    Attributes:
        name: what was checked.
        ok: False is an error of the installation, and makes the command fail.
        detail: what was seen, and what was expected where it is wrong.
    """

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Speed:
    """How fast one part is.

    Attributes:
        name: of the part.
        value, unit: as it is usually told, such as MB/s.
        frames_per_s: the frames of test videos per second that this part allows; None where that is not known.
        detail: of what it was measured, and with what.
        advice: what makes this part faster.
    """

    name: str
    value: float
    unit: str
    frames_per_s: float | None
    detail: str
    advice: str


def told(value: float) -> str:
    """A speed with three digits, or without decimals."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def checked(name: str, check: Callable[[], Check]) -> Check:
    """The result of a check; an error of the pipeline, the cache, the system or the device is a wrong result."""
    try:
        return check()
    except (PipelineError, CacheError, OSError, RuntimeError) as error:
        return Check(name, False, str(error) or type(error).__name__)
