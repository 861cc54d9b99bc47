"""The examples in docstrings give what is printed below them."""

from __future__ import annotations

import doctest
import importlib

import pytest
from places import ROOT

WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("cache", "pipeline", "tasks")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_of_a_module_run_as_written(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_functions_that_newcomers_meet_first_have_examples():
    shown = {"cache.store", "pipeline.config.experiment", "pipeline.data.windows", "pipeline.metrics.hysteresis"}
    assert shown <= set(WITH_EXAMPLES)
