"""Luigi tasks: parameters, and the step of `pipeline.workflow` that they make.

luigi --module tasks EvaluateAll --config configs/fixture.yaml
"""

from tasks.ablation import Ablate
from tasks.base import ExperimentTask
from tasks.pipeline import (
    Evaluate,
    EvaluateAll,
    Events,
    ExtractFeatures,
    ExtractShard,
    FineTune,
    Manifest,
    OperatingPoint,
    Report,
    ScoreVideos,
    TrainHead,
)

__all__ = [
    "Ablate",
    "Evaluate",
    "EvaluateAll",
    "Events",
    "ExperimentTask",
    "ExtractFeatures",
    "ExtractShard",
    "FineTune",
    "Manifest",
    "OperatingPoint",
    "Report",
    "ScoreVideos",
    "TrainHead",
]
