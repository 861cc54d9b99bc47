"""What several processes that train together say to the one that started them."""

from __future__ import annotations

import io
import sys

import pytest

from pipeline.stages.finetuning.team import launch, tell

TALKS = """
import sys
from pipeline.stages.finetuning.team import tell

sys.stderr.write("a warning without an end of line ")
sys.stderr.flush()
tell("progress", 1, 2, "half")
sys.stdout.write("gig-vad: cut sho\\n")
"""


class Pipe(io.TextIOBase):
    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return len(text)


def test_a_line_is_written_in_one_piece_so_that_no_other_process_comes_between(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Pipe())
    tell("progress", 1, 2, "half")
    assert sys.stdout.writes == ['gig-vad: ["progress", 1, 2, "half"]\n']


@pytest.mark.slow
def test_what_other_text_surrounds_is_understood_and_what_it_spoils_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "talks.py").write_text(TALKS)
    monkeypatch.syspath_prepend(tmp_path)
    told = []
    launch(1, "talks", tmp_path / "request", lambda *state: told.append(state))
    assert told == [(1, 2, "half")]
