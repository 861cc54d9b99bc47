"""The section `finetune` of an experiment: training the backbone together with a run's head."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.section import Section

__all__ = ["Finetune"]


class Finetune(Section):
    """End-to-end training on video clips.

    It starts from the head of the frozen stage and uses the head settings and losses of the run.
    """

    enabled: bool = Field(default=False, description="Fine-tune, and add a line for the tuned model to the summary.")
    run: str = Field(default="gig", description="Which of the runs is fine-tuned; its head is gig.")
    unfreeze: Literal["neck", "last_stage+neck", "all"] = Field(
        default="last_stage+neck",
        description="Parts of the backbone that are trained; the statistics of the norm layers stay fixed.",
    )
    epochs: int = Field(
        default=10, ge=1, description="Passes over the training videos; each draws new clips and flips."
    )
    batch_bags: int = Field(default=8, ge=1, description="Bags per step. Paper: 8.")
    optimizer: Literal["adagrad", "adamw"] = Field(default="adagrad", description="Paper: Adagrad.")
    backbone_learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate of the unfrozen parts.")
    head_learning_rate: float = Field(default=1e-3, gt=0, description="Learning rate of phi1 and phi2. Paper: 0.001.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay of all weights.")
    warmup_steps: int = Field(default=20, ge=0, description="Steps in which the learning rates rise from near zero.")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="Learning rates after the warm-up; cosine falls to zero at the last step."
    )
    clip_norm: float = Field(
        default=5.0, ge=0, description="Largest gradient norm of the backbone, and of the head; 0: no limit."
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        description="Precision of the backbone's arithmetic (autocast); weights and losses stay float32.",
    )
    patience_epochs: int = Field(
        default=0,
        ge=0,
        description="Stop after this many epochs without improvement on the run's validation split; 0: never.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of order, clips, flips and dropout.")
