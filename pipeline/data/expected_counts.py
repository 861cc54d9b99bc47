"""Compares a manifest with the counts that the configuration expects."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.expected import Expected, ExpectedSplit
from pipeline.data.manifest import SPLITS, Manifest, VideoEntry

__all__ = ["compared_counts", "has_counts", "unexpected_counts"]


def has_counts(expected: Expected) -> bool:
    """Whether any count is expected."""
    return expected.intervals is not None or any(getattr(expected, split) != ExpectedSplit() for split in SPLITS)


def unexpected_counts(expected: Expected, manifest: Manifest) -> list[str]:
    """Every count that differs, such as `train: 1609 videos, expected 1610`.

    Args:
        expected: what the configuration expects.
        manifest: with its ground truth. A split without videos is not compared: it was left out on purpose.
    """
    found = []
    for split in SPLITS:
        entries = manifest.split(split)
        if entries:
            found += [f"{split}: {line}" for line in _of_split(getattr(expected, split), entries)]
    if expected.intervals is not None and manifest.intervals is not None:
        found += _differs("intervals", len(manifest.intervals), expected.intervals)
    return found


def compared_counts(expected: Expected, manifest: Manifest) -> str:
    """One line: that the counts are as expected, or each that is not; "" where no count is expected."""
    if not has_counts(expected):
        return ""
    source = f" ({expected.counts_source})" if expected.counts_source else ""
    differing = unexpected_counts(expected, manifest)
    if not differing:
        return f"the counts of the data set are as expected{source}"
    return f"the data set is not as expected{source}: {'; '.join(differing)}"


def _of_split(expected: ExpectedSplit, entries: Sequence[VideoEntry]) -> list[str]:
    found = _differs("videos", len(entries), expected.videos)
    found += _differs("normal videos", sum(not entry.known_labels for entry in entries), expected.normal)
    for name, count in expected.classes.items():
        found += _differs(f"videos of {name}", sum(name in entry.known_labels for entry in entries), count)
    frames = sum(entry.packets for entry in entries)
    if expected.frames and not expected.frames[0] <= frames <= expected.frames[1]:
        low, high = expected.frames
        found.append(f"{frames} frames, expected {low if low == high else f'{low} to {high}'}")
    return found


def _differs(what: str, count: int, expected: int | None) -> list[str]:
    return [] if expected is None or count == expected else [f"{count} {what}, expected {expected}"]
