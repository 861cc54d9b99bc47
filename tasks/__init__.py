"""Luigi tasks; each has parameters and makes one step of `pipeline.workflow`, or a day of a dataset (`ScoreNew`).

luigi --module tasks EvaluateAll --config configs/fixture.yaml
"""

from tasks.ablation import Ablate
from tasks.base import ExperimentTask
from tasks.nightly import ScoreNew
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
    "ScoreNew",
    "ScoreVideos",
    "TrainHead",
]
