"""Imports timm, also where torchvision was built for another torch.

timm imports torchvision for its transforms and data sets, none of which is used here. A torchvision whose compiled
operators do not load beside the installed torch (PyPI's build, for CUDA, beside torch for a CPU) stops its own import
with "operator torchvision::nms does not exist". Then the operators that its import asks for are declared, without being
implemented: timm calls none of them, and whoever does gets an error. A torchvision that imports is left alone.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from types import ModuleType

import torch

from pipeline.errors import ConfigError

__all__ = ["import_timm"]

NOT_LOADED = "operator torchvision::"
DECLARED = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_timm() -> ModuleType:
    """The library, which this program never lets download anything. Raises ConfigError where it is not installed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        _import_torchvision()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("timm")
    except ImportError as error:
        raise ConfigError(f"backbone.name: timm:<model> needs timm ({error}): pip install 'gig-vad[timm]'") from error


def _import_torchvision() -> None:
    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError as error:
        if NOT_LOADED not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # the part that was imported before the error
    for operator in DECLARED:
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", SCHEMA)
    importlib.import_module("torchvision")
