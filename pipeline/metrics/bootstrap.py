"""The uncertainty of a metric: percentile intervals of the bootstrap over videos.

Frames of one video depend on each other, so whole videos are drawn with replacement, as many as there are. A resample
is a column of weights: how often each video was drawn. Metrics are computed from such weights, so no data is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["LEVEL", "Estimate", "MetricFunction", "difference", "draw_weights", "estimate"]

LEVEL = 0.95
MetricFunction = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""From the weights (V, R) of R resamples to (R,) values of each metric by name, nan where it is not defined."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval.

    Attributes:
        value: the metric on every video once; None if it is not defined, and `reason` says why.
        low, high: 95 % interval over the resamples; None without resamples, or if the interval is not defined.
        resamples: number of resamples in which the metric is defined; only these count.
        reason: why there is no value, or no interval although there are resamples.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    resamples: int = 0
    reason: str | None = None


def draw_weights(videos: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of V videos is drawn in each of R resamples of V, (V, R) float64.

    Examples:
        >>> weights = draw_weights(videos=5, resamples=3, seed=0)
        >>> weights.shape, weights.sum(axis=0)
        ((5, 3), array([5., 5., 5.]))
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(videos, np.full(videos, 1 / videos), size=resamples).T.astype(np.float64)


def estimate(
    groups: Iterable[MetricFunction], videos: int, *, resamples: int, seed: int, needs: Mapping[str, str]
) -> dict[str, Estimate]:
    """Every metric of some groups with its interval.

    Args:
        groups: functions that each compute some metrics of the same V videos.
        videos: V.
        resamples: R; 0 for no intervals.
        seed: seed of the draws.
        needs: by metric, the data without which it is not defined.
    """
    once, drawn = np.ones((videos, 1)), draw_weights(videos, resamples, seed)
    found = {}
    for metrics in groups:
        values, spread = metrics(once), metrics(drawn) if resamples else {}
        alone = _resting_on_one(metrics, spread, videos)
        for name, value in values.items():
            found[name] = _interval(
                float(value[0]), spread.get(name, np.zeros(0)), needs.get(name, "other videos"), name in alone
            )
    return found


def difference(
    first: Iterable[MetricFunction],
    second: Iterable[MetricFunction],
    videos: int,
    *,
    resamples: int,
    seed: int,
    needs: Mapping[str, str],
) -> dict[str, Estimate]:
    """First minus second of every metric that both have, on the same draws (paired).

    Args:
        first, second: functions that compute metrics of two systems, in the same order.
        videos: number of videos, V.
        resamples: R; 0 for no intervals.
        seed: seed of the draws.
        needs: by metric, the data without which it is not defined.
    """

    def minus(one: MetricFunction, other: MetricFunction) -> MetricFunction:
        def differences(weights: np.ndarray) -> dict[str, np.ndarray]:
            subtrahend = other(weights)
            return {name: values - subtrahend[name] for name, values in one(weights).items() if name in subtrahend}

        return differences

    pairs = [minus(one, other) for one, other in zip(first, second, strict=True)]
    return estimate(pairs, videos, resamples=resamples, seed=seed, needs=needs)


def _resting_on_one(metrics: MetricFunction, spread: Mapping[str, np.ndarray], videos: int) -> set[str]:
    """Names of the metrics that are the same in every resample because one video alone decides them.

    Without that video they are not defined. Other metrics can be the same in every resample too, such as the AUC of a
    system that makes no mistake.
    """
    alike = {
        name
        for name, values in spread.items()
        if np.nanmax(values, initial=-np.inf) - np.nanmin(values, initial=np.inf) < 1e-12
    }
    if not alike:
        return set()
    if videos == 1:
        return alike
    without = metrics(1 - np.eye(videos))
    return {name for name in alike if np.isnan(without[name]).any()}


def _interval(value: float, spread: np.ndarray, needs: str, alone: bool) -> Estimate:
    if np.isnan(value):
        return Estimate(None, reason=f"not defined without {needs}")
    defined = spread[~np.isnan(spread)]
    if not len(defined):
        return Estimate(
            value, reason="the interval is not defined: no resample has the figure" if len(spread) else None
        )
    if alone:
        return Estimate(value, None, None, len(defined), "the interval is not defined: the figure rests on one video")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), len(defined))
