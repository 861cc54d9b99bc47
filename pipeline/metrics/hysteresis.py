"""Events from frame scores, by two thresholds.

An event begins at a frame that reaches the upper threshold and spreads to both sides as long as frames reach the lower
one. Then events become one if the gap between them is at most `merge_gap_s`, and those that are still shorter than
`min_length_s` are dropped. Lengths are by presentation times, so the rule means the same at any frame rate and at a
variable one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.metrics.temporal import runs

__all__ = ["EventRule", "find_spans", "frame_ends"]

ROUNDING_S = 1e-6
"""Tolerance of comparisons, about the precision of times in files: 30 frames of 1/30 s each last a second."""


@dataclass(frozen=True)
class EventRule:
    """When frame scores are an event.

    Attributes:
        upper: score in [0, 1] that some frame of an event reaches.
        lower: score that all its frames reach, except those of merged gaps; at most `upper`.
        merge_gap_s: longest gap, in seconds, between two events that become one.
        min_length_s: least length of an event in seconds, after merging.

    Raises:
        ValueError: a value is not finite or out of its range.

    Examples:
        >>> EventRule(upper=0.3, lower=0.6)
        Traceback (most recent call last):
        ValueError: expected 0 <= lower <= upper <= 1, got lower 0.6 and upper 0.3
    """

    upper: float
    lower: float
    merge_gap_s: float = 0.0
    min_length_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.lower <= self.upper <= 1:
            raise ValueError(f"expected 0 <= lower <= upper <= 1, got lower {self.lower} and upper {self.upper}")
        for name in ("merge_gap_s", "min_length_s"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected 0 or more seconds, got {getattr(self, name)}")

    def closes(self, gaps_s: np.ndarray) -> np.ndarray:
        """Whether gaps (n,) in seconds are merged, (n,) bool."""
        return gaps_s <= self.merge_gap_s + ROUNDING_S

    def keeps(self, lengths_s: np.ndarray) -> np.ndarray:
        """Whether lengths (n,) in seconds are those of events, (n,) bool."""
        return lengths_s >= self.min_length_s - ROUNDING_S


def frame_ends(times_s: np.ndarray) -> np.ndarray:
    """When each frame ends: at the time of the next one; the last lasts as long as the median frame.

    Args:
        times_s: (N,) float64, rising presentation times; a single frame is taken to last no time.

    Returns:
        (N,) float64, seconds.
    """
    if not len(times_s):
        return np.zeros(0)
    last = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    return np.append(times_s[1:], times_s[-1] + last)


def find_spans(scores: np.ndarray, times_s: np.ndarray, rule: EventRule) -> np.ndarray:
    """The events of one video and class.

    Args:
        scores: (N,) float in [0, 1], one per frame.
        times_s: (N,) float64, rising presentation times.
        rule: when scores are an event.

    Returns:
        (n, 2) int64, first frame and the one after the last, in order; none touch or overlap.

    Raises:
        ValueError: there are not as many times as scores.

    Examples:
        Frames 2 and 3 reach the upper threshold, and the event spreads to frames 1 and 4, which reach the lower one.
        Frames 6 and 7 reach the lower one alone, and are no event.

        >>> import numpy as np
        >>> scores = np.array([0.1, 0.3, 0.7, 0.9, 0.4, 0.2, 0.5, 0.5, 0.1, 0.0])
        >>> times_s = np.arange(10) / 10
        >>> find_spans(scores, times_s, EventRule(upper=0.6, lower=0.3))
        array([[1, 5]])

        A rule with one threshold finds two events; gaps of up to a second make them one.

        >>> find_spans(scores, times_s, EventRule(upper=0.5, lower=0.5))
        array([[2, 4],
               [6, 8]])
        >>> find_spans(scores, times_s, EventRule(upper=0.5, lower=0.5, merge_gap_s=1.0))
        array([[2, 8]])
    """
    if len(scores) != len(times_s):
        raise ValueError(f"expected one time per score, got {len(scores)} scores and {len(times_s)} times")
    ends = frame_ends(times_s)
    spans: list[list[int]] = []
    reaching = runs(scores >= rule.lower)
    highest = np.maximum.reduceat(scores, reaching[:, 0])  # up to the next run, for what lies between is lower
    for start, end in reaching[highest >= rule.upper]:
        if spans and rule.closes(times_s[start] - ends[spans[-1][1] - 1]):
            spans[-1][1] = int(end)
        else:
            spans.append([int(start), int(end)])
    kept = [span for span in spans if rule.keeps(ends[span[1] - 1] - times_s[span[0]])]
    return np.array(kept, dtype=np.int64).reshape(-1, 2)
