"""Warnings are told as they come, and counted at the end of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.progress import counting_warnings, silent
from pipeline.steps import Report, Step


def test_warnings_are_passed_on_and_counted_at_the_end() -> None:
    said: list[str] = []
    with counting_warnings(said.append) as say:
        for message in ("warning: one", "a warning: not at the beginning", "warning: two"):
            say(message)
        assert said == ["warning: one", "a warning: not at the beginning", "warning: two"]
    assert said[3:] == ["2 warning(s), see above"]


def test_without_a_warning_nothing_is_added() -> None:
    said: list[str] = []
    with counting_warnings(said.append) as say:
        say("all is well")
    assert said == ["all is well"]


def test_warnings_before_an_error_are_counted_too() -> None:
    said: list[str] = []

    def fail() -> None:
        with counting_warnings(said.append) as say:
            say("warning: one")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert said == ["warning: one", "1 warning(s), see above"]


def test_a_step_counts_the_warnings_of_its_work(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Warned(Step):
        def output(self) -> Path:
            return tmp_path / "output"

        def needs(self) -> Sequence[Step]:
            return ()

        def build(self, folder: Path, report: Report) -> None:
            report.say("warning: one")

    said: list[str] = []
    Warned(None).make(Report(silent, said.append))  # it asks nothing of its recipes
    assert said == ["warning: one", "1 warning(s), see above"]
    Warned(None).make(Report(silent, said.append))
    assert len(said) == 2  # the output is there
