"""The section `events`: how frame scores become events, and which load of false alarms is accepted.

It is no part of a run and in no digest but those of the operating point, the events and the evaluation, so changing it
leaves features, heads and scores as they are.
"""

from __future__ import annotations

from pydantic import Field

from pipeline.config.section import Section

__all__ = ["EventChanges", "Events"]


class EventChanges(Section):
    """What one class has otherwise; what is left out is as for all classes."""

    upper: float | None = Field(
        default=None, ge=0, le=1, description="Upper threshold of this class; then no other is chosen for it."
    )
    lower_share: float | None = Field(default=None, ge=0, le=1)
    merge_gap_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    min_length_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    false_alarms_per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Events(Section):
    """From frame scores to events, of every class and of anomaly in general."""

    upper: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Score that some frame of an event reaches, where no threshold was chosen on validation videos.",
    )
    lower_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Lower threshold, as a share of the upper one: an event spreads over frames that reach it.",
    )
    merge_gap_s: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="Longest gap, in seconds, between two events that become one.",
    )
    min_length_s: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Least length of an event in seconds, after merging."
    )
    false_alarms_per_hour: float | None = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="Events per hour of normal footage that are accepted, of each class and of anomaly in general; "
        "upper thresholds are chosen for it on the validation videos. null: `upper` is used as it is.",
    )
    by_class: dict[str, EventChanges] = Field(
        default={}, description="What a class has otherwise, by its name; `anomaly` is anomaly in general."
    )

    def of(self, name: str) -> Events:
        """The settings of one class, its changes applied."""
        changes = self.by_class.get(name)
        return self.model_copy(update=changes.model_dump(exclude_none=True)) if changes else self

    def fixed(self, name: str) -> bool:
        """Whether the upper threshold of a class is that of the configuration, whatever the validation videos say."""
        changes = self.by_class.get(name)
        return self.false_alarms_per_hour is None or (changes is not None and changes.upper is not None)
