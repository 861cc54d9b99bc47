"""Tables of events: what is written is read again, in every form."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from pipeline.data.events import COLUMNS, SUFFIXES, Event, read_events, write_events
from pipeline.errors import ManifestError, PipelineError

EVENTS = [
    Event("a", "cam/a.mp4", "anomaly", 0.04, 1.96, 1, 49, 0.8, 0.9321, 0.71),
    Event("=b,c", "", 'Fight, "Street"', 0.0, 0.1, 0, 3, 0.0666, 1.0, 0.5),
]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("events", [EVENTS, []])
def test_what_is_written_is_read(tmp_path, suffix, events):
    path = tmp_path / f"events{suffix}"
    write_events(path, events)
    assert read_events(path) == events


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_signs_that_some_take_for_the_end_of_a_line_are_part_of_a_name(tmp_path, suffix, sign):
    named = [Event(f"a{sign}b", "", f"x{sign}y", 0.0, 0.1, 0, 3, 0.0666, 1.0, 0.5)]
    write_events(tmp_path / f"events{suffix}", named)
    assert read_events(tmp_path / f"events{suffix}") == named


def test_the_columns_are_the_documented_ones(tmp_path):
    write_events(tmp_path / "e.parquet", [])
    names = [
        "video_id",
        "source",
        "class",
        "start_s",
        "end_s",
        "start_frame",
        "end_frame",
        "peak_s",
        "peak_score",
        "mean_score",
    ]
    assert list(COLUMNS) == names == pq.read_schema(tmp_path / "e.parquet").names


def test_a_formula_in_a_csv_cell_is_made_safe(tmp_path):
    write_events(tmp_path / "e.csv", EVENTS)
    assert "\n'=b" in (tmp_path / "e.csv").read_text().replace('"', "")


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"ends in \.parquet, \.csv, \.jsonl, got \.txt"):
        write_events(tmp_path / "e.txt", [])
    (tmp_path / "e.jsonl").write_text('{"video_id": "a"}\n')
    with pytest.raises(PipelineError, match=r"line 1: expected the columns .*, got none named source"):
        read_events(tmp_path / "e.jsonl")
    (tmp_path / "e.csv").write_text("video_id,source\na,b\n")
    with pytest.raises(ManifestError, match="class"):
        read_events(tmp_path / "e.csv")
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    with pytest.raises(PipelineError, match="cannot be read"):
        read_events(tmp_path / "e.parquet")
