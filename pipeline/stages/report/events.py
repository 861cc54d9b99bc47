"""By which rules a run's events are found: those of its evaluation, so that page and metrics agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.config.events import Events
from pipeline.data.events import ANOMALY
from pipeline.errors import PipelineError
from pipeline.metrics.hysteresis import EventRule
from pipeline.stages.events.rules import make_rules

__all__ = ["rule_in_words", "rules_of", "without_seconds"]


def rules_of(metrics: Mapping[str, Any], settings: Events, classes: Sequence[str]) -> dict[str, EventRule]:
    """The rules of every class and of anomaly in general.

    Args:
        metrics: the content of metrics.json. Where it names no rules, they are those of the settings.
        settings: the section `events` of the configuration.
        classes: anomaly classes.

    Raises:
        PipelineError: the rules in metrics.json cannot be read.
    """
    found = (metrics.get("events") or {}).get("rules")
    if not found:
        return make_rules(settings, classes)
    try:
        return {name: EventRule(**rule) for name, rule in found.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise PipelineError(f"metrics.json: the rules of events cannot be read ({error})") from error


def without_seconds(rules: Mapping[str, EventRule]) -> dict[str, EventRule]:
    """The rules for videos of which nothing says when frames are shown: no gap is closed, and no event is too short."""
    return {name: replace(rule, merge_gap_s=0.0, min_length_s=0.0) for name, rule in rules.items()}


def rule_in_words(rules: Mapping[str, EventRule], with_truth: bool = True) -> str:
    """By which rule events of anomaly in general are found, and with ground truth what counts as found."""
    rule = rules[ANOMALY]
    gaps = f"; gaps of up to {rule.merge_gap_s:g} s are closed" if rule.merge_gap_s else ""
    shortest = f", and what is shorter than {rule.min_length_s:g} s is none" if rule.min_length_s else ""
    said = f"An event begins where the score reaches {rule.upper:.3g} and goes on while it is at least {rule.lower:.3g}"
    met = " An annotated interval counts as found where an event overlaps it, whatever the class." if with_truth else ""
    return f"{said}{gaps}{shortest}.{met}"
