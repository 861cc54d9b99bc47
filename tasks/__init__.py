"""Luigi tasks: parameters, requirements, output, and a run of a few lines that calls one stage.

    luigi --module tasks EvaluateAll --config configs/fixture.yaml

runs from the project's root, where luigi.cfg lies.
"""

from tasks.base import ExperimentTask
from tasks.data import ExtractFeatures, ExtractShard, Manifest
from tasks.runs import Evaluate, EvaluateAll, ScoreVideos
from tasks.training import FineTune, TrainHead

__all__ = [
    "Evaluate",
    "EvaluateAll",
    "ExperimentTask",
    "ExtractFeatures",
    "ExtractShard",
    "FineTune",
    "Manifest",
    "ScoreVideos",
    "TrainHead",
]
