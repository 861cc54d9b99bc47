"""Exact intervals of counts, for figures that are the same whichever videos are drawn.

Where no video has a false alarm, no resample has one, and the bootstrap would say 0 to 0 per hour however little
footage there is. The same holds for a share of which all or none was found. A group of metrics has `edges`, which say
what such a metric counts; `pipeline.metrics.bootstrap` asks them where all resamples are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["LEVEL", "Edge", "Rate", "Share", "rate_interval", "share_of"]

LEVEL = 0.95
"""Of all intervals."""


@dataclass(frozen=True)
class Share:
    """A metric that is a share of units, such as true intervals, of which all or none can be found.

    Units of one video depend on each other, so it is the videos that count: every one that has a unit is one draw of a
    binomial distribution, as if all had equally many.

    Attributes:
        videos: how many videos have such a unit.

    Examples:
        All true intervals of three videos are hit.

        >>> low, high = Share(videos=3).interval(1.0)
        >>> round(low, 4), high
        (0.2924, 1.0)
    """

    videos: int

    def interval(self, value: float) -> tuple[float, float] | None:
        """The interval of Clopper and Pearson; None but for 0 and 1, and where the units are of fewer than two videos.

        C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits illustrated in the case of the
        binomial, Biometrika 26 (1934), 404-413.

        Args:
            value: the share, up to rounding.
        """
        from scipy.stats import binomtest  # only here, because it takes longer to load than all the metrics

        found = {0.0: 0, 1.0: self.videos}.get(round(value, 9))
        if found is None or self.videos < 2:
            return None
        ends = binomtest(found, self.videos).proportion_ci(LEVEL, "exact")
        return float(ends.low), float(ends.high)


@dataclass(frozen=True)
class Rate:
    """A metric that is a number of events per hour, such as false alarms.

    Attributes:
        hours: how long was counted.

    Examples:
        >>> low, high = Rate(hours=2.0).interval(0.0)
        >>> low, round(high, 3)
        (0.0, 1.844)
    """

    hours: float

    def interval(self, value: float) -> tuple[float, float] | None:
        """The interval of `rate_interval` where there was no event; None where there was one, for videos differ."""
        return None if value else rate_interval(0, self.hours)


Edge = Share | Rate
"""What a metric counts, by which it has an exact interval where all resamples are alike."""


def rate_interval(events: int, hours: float) -> tuple[float, float]:
    """The exact interval of a rate per hour, for events that come independently of each other (Poisson).

    Without an event it is 0 to -ln((1 - LEVEL) / 2) / hours. F. Garwood, Fiducial limits for the Poisson distribution,
    Biometrika 28 (1936), 437-442.

    Args:
        events: how many were counted.
        hours: how long was counted, more than 0.
    """
    from scipy.stats import chi2

    tail = (1 - LEVEL) / 2
    low = chi2.ppf(tail, 2 * events) / 2 if events else 0.0
    return float(low / hours), float(chi2.ppf(1 - tail, 2 * events + 2) / 2 / hours)


def share_of(units: np.ndarray) -> Share:
    """A share of the units that each video has, (V,)."""
    return Share(int(np.count_nonzero(units)))
