"""CSV as other programs write it is read, or refused with a remedy; cells written here run in no spreadsheet."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from pipeline.data.problems import Problems
from pipeline.data.tables import read_cell, read_rows, safe_row, safe_rows

REQUIRED = ("id", "label")


def read(path: Path, content: str | bytes) -> tuple[list[dict[str, str]], list[str]]:
    """Rows and problems, these without the folder."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    problems = Problems()
    rows = read_rows(path, REQUIRED, problems, other_names={"labels": "label"})
    return [values for _, values in rows], [line.replace(f"{path.parent}/", "") for line in problems.lines]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "t.csv"


@pytest.mark.parametrize(
    "content",
    [
        "id,label,remark\na,x,\nb,y,\n",
        "\ufeffid,label,remark\na,x,\nb,y,\n",
        "id, label ,remark\r\na , x,\r\n\r\nb,y,\r\n",
        "id,labels,remark\na,x\nb,y\n",
        "id,label,remark,,\na,x,,,\n,,,,\nb,y,,,\n,,,,\n",
        '"id","label","remark"\n"a","x",""\n"b","y",""\n',
        "id,label,remark\ra,x,\rb,y,\r",
    ],
    ids=["plain", "byte order mark", "blanks", "short rows", "empty cells and lines", "quotes", "carriage returns"],
)
def test_forms_that_mean_the_same(path, content):
    rows, problems = read(path, content)
    assert problems == []
    assert [(row["id"], row["label"]) for row in rows] == [("a", "x"), ("b", "y")]


def test_a_comma_in_quotes_belongs_to_the_cell(path):
    assert read(path, 'id,label\n"a, b",x\n')[0] == [{"id": "a, b", "label": "x"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("id;label\na;x\n", "t.csv, row 1: the separator is a semicolon, expected a comma"),
        ("id\tlabel\na\tx\n", "t.csv, row 1: the separator is a tab, expected a comma"),
        ("id,label\na;x\n", "t.csv, row 2: 1 cell(s) for the columns id, label; the separator is a semicolon"),
        ("id,label\na,x\n\nb, c,y\n", "t.csv, row 4: 3 cells for 2 columns, 'y' has none; a cell with a comma in it"),
        ("id,label\na\n", "t.csv, row 2: 1 cell(s) for the columns id, label"),
        ("id,name\na,x\n", "t.csv, row 1: no column label: expected id, label, got id, name"),
        ("id,label,id\na,x,b\n", "t.csv, row 1: a column is there twice"),
        ("", "t.csv, row 1: no column id, label: expected id, label, got nothing"),
        ('id,label\n"a,x\nb,y\n', "is a quote not closed?"),
        ('id,label\n"a\nb",x\n', "t.csv, row 2: a cell with a line break, 'a\\nb'; is a quote not closed?"),
        ("id,label\na,x\n".encode("utf-16"), "t.csv: cannot be read: expected UTF-8 text, got UTF-16"),
        ("id,label\na,x\n".encode("utf-16-le"), "t.csv: cannot be read: expected UTF-8 text, got UTF-16"),
        (
            "id,label\na,x\nb,caf\u00e9\n".encode("latin-1"),
            "t.csv, row 3: cannot be read: expected UTF-8 text, got the byte 0xe9",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_problem_with_its_place(path, content, expected):
    _, (problem,) = read(path, content)
    assert expected in problem


def test_a_row_of_the_wrong_length_does_not_hide_the_others(path):
    rows, problems = read(path, "id,label\na,x,too,many\nb,y\nc\nd,z\n")
    assert [row["id"] for row in rows] == ["b", "d"]
    assert len(problems) == 2


RUN = ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\rx", "'=1", "''=1", "--1"]
KEPT = ["-1", "+4.5", "1e-3", "-.5", "'quoted'", "a=b", "", "Fighting"]


@pytest.mark.parametrize("text", RUN)
def test_a_text_that_a_spreadsheet_would_run_begins_with_an_apostrophe(text):
    (cell,) = safe_row([text])
    assert cell == f"'{text}"
    assert read_cell(cell) == text


@pytest.mark.parametrize("value", [*KEPT, -1.5, None, -3, True])
def test_numbers_and_harmless_texts_stay(value):
    assert safe_row([value]) == [value]
    if isinstance(value, str):
        assert read_cell(value) == value


def test_any_cell_is_read_back_as_it_was(path):
    stream = io.StringIO()
    csv.writer(stream).writerows([REQUIRED, *safe_rows([text, "x"] for text in RUN if not text.endswith("\rx"))])
    rows, problems = read(path, stream.getvalue())
    assert problems == []
    assert [row["id"] for row in rows] == [text for text in RUN if not text.endswith("\rx")]
