"""The sections of a run; each run is one line of the summary."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.heads import AnyHead, GigHead
from pipeline.config.section import Section

__all__ = ["Cue", "Evaluation", "Run", "Scoring", "Selection", "Training"]

Cue = Literal["video", "running"]


class Training(Section):
    """Training of the head."""

    later: ClassVar[tuple[str, ...]] = ("schedule", "schedule_epochs", "warmup_steps")

    epochs: int = Field(default=100, ge=1, description="Passes over the bags. Paper: 100.")
    steps: int | None = Field(
        default=None,
        ge=1,
        description="Total number of optimiser steps, instead of epochs; the last epoch can be incomplete.",
    )
    batch_bags: int = Field(default=8, ge=1, description="Bags per batch. Paper: 8.")
    optimizer: Literal["adagrad", "adam"] = Field(default="adagrad", description="Paper: Adagrad.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Paper: 0.001.")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty, added to the gradient. Paper: none.")
    clip_norm: float = Field(
        default=0.0, ge=0, description="Largest norm of the gradient of all parameters; 0: no limit, as in the paper."
    )
    schedule: Literal["constant", "cosine", "cosine_by_epoch"] = Field(
        default="constant",
        description="constant: learning_rate in every step, as in the paper. cosine: it falls to zero along half a "
        "cosine, step by step; cosine_by_epoch: the same, set once per epoch.",
    )
    schedule_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Epochs in which the cosine reaches zero, at least those of the training, which then ends before "
        "zero; null: those of the training.",
    )
    warmup_steps: int = Field(
        default=0,
        ge=0,
        description="First optimiser steps, in which the learning rate rises evenly to learning_rate; a cosine begins "
        "after them. 0: none, as in the paper.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of initialisation, order and dropout.")
    permute_labels_seed: int | None = Field(
        default=None, ge=0, description="A control: shuffle the training labels over the videos with this seed."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_preset(cls, data: Any) -> Any:
        if isinstance(data, str):
            raise ValueError(f"expected a mapping, got {data!r}; a run can say `paper`: runs.<name>.training: paper")
        return data

    @model_validator(mode="after")
    def _the_schedule_fits(self) -> Training:
        if self.schedule_epochs is not None:
            if self.schedule == "constant":
                raise ValueError("schedule_epochs decides nothing with schedule constant; leave it out")
            if self.steps is None and self.schedule_epochs < self.epochs:
                raise ValueError(
                    f"schedule_epochs: expected at least the {self.epochs} epochs of the training, "
                    f"got {self.schedule_epochs}"
                )
        if self.steps is not None and self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps: expected fewer than the {self.steps} steps, got {self.warmup_steps}")
        return self


class Selection(Section):
    """Which training videos are used, and the validation split of them that chooses epoch and class thresholds."""

    later: ClassVar[tuple[str, ...]] = ("train_videos",)

    train_videos: int | None = Field(
        default=None,
        ge=2,
        description="Number of training videos that are used, those of the validation split included, as if no others "
        "were labelled; drawn with training.seed, in the same shares of normal videos and classes, and a smaller "
        "number is a part of a larger one. null: all.",
    )
    validation_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the training videos that is held out; videos of one source, where it is known, stay "
        "together. 0: the last epoch and evaluation.threshold are used.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of videos.")


class Scoring(Section):
    """From window scores to frame scores."""

    later: ClassVar[tuple[str, ...]] = ("views",)

    smooth_sigma: float = Field(default=2.0, ge=0, description="Gaussian sigma, in units of smooth_on. Paper: 2.")
    smooth_on: Literal["windows", "frames", "none"] = Field(
        default="windows", description="What is smoothed. Paper: the rough anomaly, i.e. windows."
    )
    cue: Cue = Field(
        default="video",
        description="video: the cue, eq. 1, is that of the whole video, as in the paper. running: that of the video so "
        "far, and smoothing looks back only, so that a score does not depend on what comes later; not for heads that "
        "see other windows (bn_wvad, mgfn, pel4vad, rtfm, ur_dmu).",
    )
    views: Literal["first", "mean"] = Field(
        default="first",
        description="Where a test video has several views, such as imported crops of the same frames. first: its first "
        "view is scored. mean: all are, and the scores of a window are the mean over them.",
    )

    def deciding(self) -> dict[str, Any]:
        """What decides the scores, as plain data; without the cue of the whole video, as before there was another."""
        return self.model_dump(mode="json", exclude={"cue"} if self.cue == "video" else None)

    @property
    def takes_reduced(self) -> bool:
        """Whether windows reduced beforehand serve: those of the first view, with the cue of the whole video."""
        return self.cue == "video" and self.views == "first"


class Evaluation(Section):
    """From frame scores to metrics."""

    mode: Literal["threshold", "argmax"] = Field(
        default="threshold", description="threshold: a frame may get several classes; argmax: at most one."
    )
    threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="theta of the class-wise metrics; with selection.validation_share, only of classes that the "
        "validation split cannot judge. Never tuned on test labels.",
    )
    resamples: int = Field(
        default=1000, ge=0, le=1_000_000, description="Draws of the bootstrap over videos; 0 for no intervals."
    )
    bootstrap_seed: int = Field(default=0, ge=0, description="Seed of the draws.")


class Run(Section):
    """One line of the summary: a head with its training, scoring and evaluation."""

    head: AnyHead = GigHead()
    training: Training = Training()
    selection: Selection = Selection()
    scoring: Scoring = Scoring()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _running_scores_look_back_only(self) -> Run:
        if self.scoring.cue == "running" and self.head.sees_other_windows:
            raise ValueError(
                f"scoring.cue: running is not for the head {self.head.name}, whose score of a window depends on "
                "windows after it; use video"
            )
        return self
