"""The stages: plain functions that read and write; what a Luigi task, a command and a worker all call.

Import a stage from its module: `extract`, `train` and `score` load torch, the others do not.
"""

__all__ = ["evaluate", "extract", "manifest", "recipes", "report", "score", "train"]
