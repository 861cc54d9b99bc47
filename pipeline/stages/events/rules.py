"""The rules by which the events of every class are found, from the settings and the thresholds chosen for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.events import Events
from pipeline.data.events import ANOMALY
from pipeline.errors import PipelineError
from pipeline.metrics.hysteresis import EventRule

__all__ = ["RuleChanges", "event_names", "make_rule", "make_rules"]


@dataclass(frozen=True)
class RuleChanges:
    """Values that replace those of every rule; None leaves a value as it is. False if nothing is replaced.

    Attributes:
        upper, lower: thresholds in [0, 1].
        merge_gap_s: longest gap between two events that become one, seconds.
        min_length_s: least length of an event, seconds.
    """

    upper: float | None = None
    lower: float | None = None
    merge_gap_s: float | None = None
    min_length_s: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.upper, self.lower, self.merge_gap_s, self.min_length_s))


def event_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The names that events can have: anomaly in general, then every class.

    A single class of the name `anomaly` is anomaly in general itself. Raises PipelineError where one of several
    classes has that name.
    """
    if ANOMALY not in classes:
        return ANOMALY, *classes
    if len(classes) == 1:
        return (ANOMALY,)
    raise PipelineError(
        f"classes: {ANOMALY!r} is the name of anomaly in general in a list of events, expected other names of the "
        f"classes, got {', '.join(classes)}"
    )


def make_rule(settings: Events, name: str, upper: float, changes: RuleChanges | None = None) -> EventRule:
    """The rule of one class.

    Args:
        settings: of the configuration.
        name: of the class, or `ANOMALY`.
        upper: upper threshold, in [0, 1].
        changes: values that replace those of the rule.

    Raises:
        PipelineError: the lower threshold is above the upper one, or a value is out of its range.
    """
    own, changes = settings.of(name), changes or RuleChanges()
    upper = upper if changes.upper is None else changes.upper
    lower = upper * own.lower_share if changes.lower is None else changes.lower
    gap = own.merge_gap_s if changes.merge_gap_s is None else changes.merge_gap_s
    shortest = own.min_length_s if changes.min_length_s is None else changes.min_length_s
    try:
        return EventRule(upper, lower, gap, shortest)
    except ValueError as error:
        raise PipelineError(f"events of {name}: {error}") from error


def make_rules(
    settings: Events,
    classes: Sequence[str],
    thresholds: Mapping[str, float] | None = None,
    changes: RuleChanges | None = None,
) -> dict[str, EventRule]:
    """The rule of anomaly in general and of every class.

    Args:
        settings: of the configuration.
        classes: anomaly classes.
        thresholds: upper thresholds that were chosen on validation videos, by class, in place of the settings'.
        changes: values that replace those of every rule.

    Raises:
        PipelineError: a lower threshold is above an upper one, or a class has the name of anomaly in general.
    """
    chosen = thresholds or {}
    return {
        name: make_rule(settings, name, chosen.get(name, settings.of(name).upper), changes)
        for name in event_names(classes)
    }
