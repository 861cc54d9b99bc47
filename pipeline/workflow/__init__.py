"""The steps of an experiment, each defined once: its name, its output, the steps that it needs, and how it is made.

Luigi tasks, the `gig` command and ablations all run these steps. To add one, write a class in a module of this package,
name it below and, for `luigi --module tasks`, write a task of a few lines in `tasks/`.

    ensure(Evaluate(recipes, "gig"), listen)   # makes the missing steps before it, then the evaluation

Stages are imported when a step is made, so that asking for outputs loads neither torch nor mmaction2.
"""

from pipeline.steps import SILENT, Report, Step, ensure
from pipeline.workflow.features_and_heads import ExtractFeatures, ExtractShard, FineTune, TrainHead, model
from pipeline.workflow.manifest import Manifest, check_readable, frozen, usable_manifest
from pipeline.workflow.reductions import ReduceTest, ReduceTraining
from pipeline.workflow.report import HtmlReport
from pipeline.workflow.results import Evaluate, EvaluateAll, Events, OperatingPoint, ScoreVideos

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
    "check_readable",
    "ensure",
    "frozen",
    "model",
    "usable_manifest",
]
