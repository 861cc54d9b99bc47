"""The steps of an experiment, each described once: its name, its output, what it needs, and how the output is made.

Luigi tasks, the `gig` command and ablations all run these steps. To add one, write a class in a module of this package,
name it below and, for `luigi --module tasks`, write a task of a few lines in `tasks/`.

    ensure(Evaluate(recipes, "gig"), listen)   # does whatever is missing before it, then the evaluation

Stages are imported when a step is made, so that asking what is there loads neither torch nor mmaction2.
"""

from pipeline.steps import SILENT, Report, Step, ensure
from pipeline.workflow.events import Events, OperatingPoint
from pipeline.workflow.features_and_heads import ExtractFeatures, ExtractShard, FineTune, TrainHead, model
from pipeline.workflow.manifest import Manifest, frozen, usable_manifest
from pipeline.workflow.reductions import ReduceTest, ReduceTraining
from pipeline.workflow.report import HtmlReport
from pipeline.workflow.results import Evaluate, EvaluateAll, ScoreVideos

__all__ = [
    "Evaluate",
    "EvaluateAll",
    "Events",
    "ExtractFeatures",
    "ExtractShard",
    "FineTune",
    "HtmlReport",
    "Manifest",
    "OperatingPoint",
    "ReduceTest",
    "ReduceTraining",
    "Report",
    "SILENT",
    "ScoreVideos",
    "Step",
    "TrainHead",
    "ensure",
    "frozen",
    "model",
    "usable_manifest",
]
