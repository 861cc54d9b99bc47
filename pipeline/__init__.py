"""Weakly supervised video anomaly detection: data, models, metrics and the stages that join them.

`Detector` is loaded when it is first asked for, so that `import pipeline` loads neither torch nor mmaction2.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.stages.detector.detector import Detector as Detector
    from pipeline.stages.detector.detector import ScoredFile as ScoredFile

__all__ = ["Detector", "ScoredFile"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("pipeline.stages.detector.detector"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
