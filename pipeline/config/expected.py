"""The section `expected`: what a user should see when all is well. It is in no digest and never makes anything fail.

Counts are compared with the manifest, metrics with the summary. What differs is a warning: the data set or the weights
may be another version, a part may be missing, or the numbers here may be out of date.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.section import Section

__all__ = ["Expected", "ExpectedMetric", "ExpectedSplit"]

Count = Annotated[int, Field(ge=0)]


class ExpectedSplit(Section):
    """What a split should hold; what is left out is not compared."""

    videos: Count | None = Field(default=None, description="Number of videos.")
    normal: Count | None = Field(default=None, description="How many of them have no anomaly.")
    classes: dict[str, Count] = Field(
        default={}, description="Videos of each class; a video of several classes counts for each of them."
    )
    frames: tuple[Count, Count] | None = Field(
        default=None,
        description="Least and most frames of all videos together, as their headers state them.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> ExpectedSplit:
        if self.frames and self.frames[0] > self.frames[1]:
            raise ValueError(f"frames: the least ({self.frames[0]}) is more than the most ({self.frames[1]})")
        return self


class ExpectedMetric(Section):
    """Where a metric of the summary should lie."""

    metric: Literal["auc", "ap", "mf1", "video_auc", "event_f1_0.5", "false_alarms_per_hour", "hit_rate"] = Field(
        description="A column of summary.csv."
    )
    run: str | None = Field(default=None, description="The run that is meant; null: every run.")
    stage: Literal["frozen", "finetuned"] = Field(default="frozen", description="The backbone that is meant.")
    low: float = Field(description="Least expected value.")
    high: float = Field(description="Largest expected value.")
    basis: Literal["measured", "published"] = Field(
        description="measured: this project's own value on this data. published: of others, often with other "
        "features, and not measured here; then a value is also accepted whose 95 % interval reaches the range."
    )
    source: str = Field(min_length=1, description="Where the values are from: a publication, or the command.")

    @model_validator(mode="after")
    def _ordered(self) -> ExpectedMetric:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is more than high ({self.high:g})")
        return self


class Expected(Section):
    """Reference numbers. They decide nothing, are in no digest, and a value outside of them is a warning."""

    train: ExpectedSplit = ExpectedSplit()
    test: ExpectedSplit = ExpectedSplit()
    intervals: Count | None = Field(default=None, description="Annotated intervals of the test videos.")
    counts_source: str = Field(default="", description="Where the counts of videos, frames and intervals are from.")
    metrics: tuple[ExpectedMetric, ...] = Field(default=(), description="Ranges of metrics of the summary.")
