"""How sure is a figure? Percentile intervals of the bootstrap over videos.

Frames of one video depend on each other, so whole videos are drawn, with replacement, as many as there are. A resample
is a column of weights: how often each video was drawn. MetricFunction are functions of such weights, so nothing is
copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["LEVEL", "Estimate", "MetricFunction", "difference", "draw_weights", "estimate"]

LEVEL = 0.95
MetricFunction = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""From the weights (V, R) of R resamples to (R,) values of every figure, nan where one is not defined."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure on all videos once; None where it is not defined, and `reason` says why.
        low, high: 95 % interval over the resamples; None without resamples, and where the interval is not defined.
        resamples: how many had the figure defined, and so count.
        reason: why there is no value, or no interval though there are resamples.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    resamples: int = 0
    reason: str | None = None


def draw_weights(videos: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of V videos is drawn in each of R resamples of V, (V, R) float64."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(videos, np.full(videos, 1 / videos), size=resamples).T.astype(np.float64)


def estimate(
    groups: Iterable[MetricFunction], videos: int, *, resamples: int, seed: int, needs: Mapping[str, str]
) -> dict[str, Estimate]:
    """Every figure of some groups with its interval.

    Args:
        groups: of the same V videos.
        videos: V.
        resamples: R; 0 for no intervals.
        seed: of the draws.
        needs: name -> what the figure is not defined without.
    """
    once, drawn = np.ones((videos, 1)), draw_weights(videos, resamples, seed)
    found = {}
    for figures in groups:
        values, spread = figures(once), figures(drawn) if resamples else {}
        alone = _resting_on_one(figures, spread, videos)
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
    """First minus second of every figure that both have, on the same draws (paired). Arguments as `estimate`."""

    def minus(one: MetricFunction, other: MetricFunction) -> MetricFunction:
        def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
            subtrahend = other(weights)
            return {name: values - subtrahend[name] for name, values in one(weights).items() if name in subtrahend}

        return figures

    pairs = [minus(one, other) for one, other in zip(first, second, strict=True)]
    return estimate(pairs, videos, resamples=resamples, seed=seed, needs=needs)


def _resting_on_one(figures: MetricFunction, spread: Mapping[str, np.ndarray], videos: int) -> set[str]:
    """MetricFunction that are the same in every resample because they rest on one video: without it they are not
    defined.

    Others can be the same in every resample too, such as the AUC of a system that makes no mistake.
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
    without = figures(1 - np.eye(videos))
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
