"""Times and rules in words."""

from __future__ import annotations

from pipeline.stages.report.events import RULE

__all__ = ["clock", "rule_in_words"]


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


def rule_in_words() -> str:
    """By which rule events are found, and what counts as found."""
    return (
        f"An event begins where the score reaches {RULE.upper:g} and goes on while it is at least {RULE.lower:g}; gaps of "
        f"up to {RULE.merge_gap_s:g} s are closed, and what is shorter than {RULE.min_length_s:g} s is none. An annotated "
        "interval counts as found where an event overlaps it, whatever the class."
    )
