"""The uncertainty of a metric: percentile intervals of the bootstrap over videos.

Frames of one video depend on each other, so whole videos are drawn with replacement, as many as there are. A resample
is a column of weights: how often each video was drawn. Metrics are computed from such weights, so no data is copied.

Where all resamples are alike because no video differs, they cannot say how sure the figure is. Then the interval is
exact if the metric counts something (`pipeline.metrics.exact`), and else it is not defined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.exact import LEVEL, Edge

__all__ = ["LEVEL", "Estimate", "MetricFunction", "difference", "draw_weights", "estimate"]

MetricFunction = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""From the weights (V, R) of R resamples to (R,) values of each metric by name, nan where it is not defined."""

ON_ONE_VIDEO = "the interval is not defined: the figure rests on one video"
ALIKE = "the interval is not defined: the figure is the same whichever videos are drawn"


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval.

    Attributes:
        value: the metric on every video once; None if it is not defined, and `reason` says why.
        low, high: 95 % interval over the resamples, or the exact one where they are all alike; None without resamples,
            or if the interval is not defined.
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
    groups: Iterable[MetricFunction],
    videos: int,
    *,
    resamples: int,
    seed: int,
    needs: Mapping[str, str],
    edges: Mapping[str, Edge] | None = None,
) -> dict[str, Estimate]:
    """Every metric of some groups with its interval.

    Args:
        groups: functions that each compute some metrics of the same V videos.
        videos: V.
        resamples: R; 0 for no intervals.
        seed: seed of the draws.
        needs: by metric, the data without which it is not defined.
        edges: by metric, what it counts, if it has an exact interval where all resamples are alike.
    """
    once, drawn, edges = np.ones((videos, 1)), draw_weights(videos, resamples, seed), edges or {}
    found = {}
    for metrics in groups:
        values, spread = metrics(once), metrics(drawn) if resamples else {}
        alike = {name for name, figures in spread.items() if _alike(figures)}
        exact = {name: edges[name].interval(float(values[name][0])) for name in alike if name in edges}
        unsure = _not_defined(metrics, {name for name in alike if not exact.get(name)}, videos)
        for name, value in values.items():
            lacking = needs.get(name, "other videos")
            found[name] = _interval(
                float(value[0]), spread.get(name, np.zeros(0)), lacking, unsure.get(name), exact.get(name)
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


def _alike(figures: np.ndarray) -> bool:
    """Whether figures (n,), nan where not defined, are all the same; not if none is defined."""
    defined = figures[~np.isnan(figures)]
    return bool(len(defined)) and bool(np.ptp(defined) < 1e-12 * max(1.0, np.abs(defined).max()))


def _not_defined(metrics: MetricFunction, names: set[str], videos: int) -> dict[str, str]:
    """Why the intervals of metrics that are the same in every resample are not defined, by name.

    They rest on one video, without which they are not defined; or no video differs from the others, so that drawing
    others tells nothing, such as the AUC of a system that makes no mistake. Where single videos differ, the interval is
    defined: the median delay can be 0 in every resample because it is 0 in most videos.
    """
    if not names:
        return {}
    if videos == 1:
        return dict.fromkeys(names, ON_ONE_VIDEO)
    each, without = metrics(np.eye(videos)), metrics(1 - np.eye(videos))
    found = {}
    for name in names:
        if np.isnan(without[name]).any():
            found[name] = ON_ONE_VIDEO
        elif np.isnan(each[name]).all() or _alike(each[name]):
            found[name] = ALIKE
    return found


def _interval(
    value: float, spread: np.ndarray, needs: str, unsure: str | None, exact: tuple[float, float] | None
) -> Estimate:
    if np.isnan(value):
        return Estimate(None, reason=f"not defined without {needs}")
    defined = spread[~np.isnan(spread)]
    if not len(defined):
        return Estimate(
            value, reason="the interval is not defined: no resample has the figure" if len(spread) else None
        )
    if unsure:
        return Estimate(value, None, None, len(defined), unsure)
    low, high = exact or np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), len(defined))
