"""CSV tables as text: reading those that other programs write, and writing cells that are safe to open in them.

A table that is read must be UTF-8, separated by commas, with its columns named in line 1. Other forms that spreadsheets
write (UTF-16, semicolons or tabs, a comma in a cell without quotes) are reported with their place; a cell is never put
into another column in silence.

A spreadsheet runs a cell that begins with one of `= + - @`, a tab or a carriage return as a formula. Names of videos
and classes come from others and may begin so: they are written with an apostrophe before them, and read without it.
Numbers stay as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from pipeline.data.problems import Problems
from pipeline.remote import AnyPath

__all__ = ["read_cell", "read_rows", "read_text", "safe_row", "safe_rows"]

SAVE = "save it as UTF-8 text, which spreadsheets call 'CSV UTF-8 (comma delimited)'"
SEPARATORS = {";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
FORMULA = re.compile(r"'*[=+\-@\t\r\n]")  # with apostrophes too, so that reading undoes writing for every text
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_text(file: AnyPath, problems: Problems) -> str | None:
    """The text of a UTF-8 file, without a byte order mark.

    A file that cannot be read, or is in another encoding, is a problem, and gives None. Raises StorageError where it
    lies in a storage that fails.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        problems.add(str(file), f"cannot be read: {error.strerror or error}")
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:1000]:
        problems.add(str(file), f"cannot be read: expected UTF-8 text, got UTF-16 or no text at all; {SAVE}")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        problems.add(
            f"{file}, row {row}", f"cannot be read: expected UTF-8 text, got the byte 0x{data[error.start]:02x}; {SAVE}"
        )
        return None


def read_rows(
    file: AnyPath, required: Sequence[str], problems: Problems, *, other_names: Mapping[str, str] | None = None
) -> list[tuple[str, dict[str, str]]]:
    """The rows of a CSV file; empty lines are left out.

    Args:
        file: what to read.
        required: columns that must be there; any others are kept.
        problems: told of everything wrong. A file or header that cannot be used gives no rows; a row with too many
            cells, or too few for the required columns, is left out.
        other_names: another name that a required column may have -> the column's name.

    Returns:
        (place, values by column) of every row. The place is "FILE, row N", N being the line, from 1, where it begins.
    """
    text = read_text(file, problems)
    if text is None:
        return []
    # Not its own lines: a cell in quotes may hold a line break.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, dict[str, str]]] = []
    try:
        header = _header(file, next(reader, []), required, problems, other_names or {})
        line = reader.line_num
        for cells in reader if header else ():
            place, line = f"{file}, row {line + 1}", reader.line_num
            values = [cell.strip() for cell in cells]
            if any(values) and _fits(place, values, header, required, problems):
                values += [""] * (len(header) - len(values))
                rows.append((place, {name: read_cell(value) for name, value in zip(header, values, strict=False)}))
    except csv.Error as error:
        problems.add(f"{file}, row {reader.line_num}", f"cannot be read: {error}; is a quote not closed?")
        return []
    return rows


def _header(
    file: AnyPath, cells: Sequence[str], required: Sequence[str], problems: Problems, other_names: Mapping[str, str]
) -> list[str]:
    """The names of the columns, up to the last that has a name.

    Where required columns are missing or doubled, that is a problem, and no names are returned.
    """
    names = [cell.strip() for cell in cells]
    for other, name in other_names.items():
        if name in required and name not in names:
            names = [name if found == other else found for found in names]
    while names and not names[-1]:
        names.pop()
    missing = [name for name in required if name not in names]
    twice = [name for name in required if names.count(name) > 1]
    if not missing and not twice:
        return names
    got = ", ".join(names) or "nothing"
    for separator, called in SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            what = f"the separator is {called}, expected a comma, got {got!r}; {SAVE}"
            problems.add(f"{file}, row 1", what)
            return []
    what = f"no column {', '.join(missing)}" if missing else "a column is there twice"
    problems.add(f"{file}, row 1", f"{what}: expected {', '.join(required)}, got {got}")
    return []


def _fits(
    place: str, cells: Sequence[str], header: Sequence[str], required: Collection[str], problems: Problems
) -> bool:
    """Whether a row has a cell for every required column and none too many; a problem if not."""
    if surplus := [cell for cell in cells[len(header) :] if cell]:
        what = f"{len(header) + len(surplus)} cells for {len(header)} columns, {', '.join(map(repr, surplus))} has none"
        problems.add(
            place, f"{what}; a cell with a comma in it is put in double quotes, several labels are separated by ';'"
        )
        return False
    needed = 1 + max(header.index(name) for name in required)
    if len(cells) < needed:
        separator = next((called for sign, called in SEPARATORS.items() if len(cells) == 1 and sign in cells[0]), None)
        hint = f"; the separator is {separator}, expected a comma" if separator else ""
        problems.add(place, f"{len(cells)} cell(s) for the columns {', '.join(header)}{hint}")
        return False
    if broken := [cell for cell in cells if "\n" in cell or "\r" in cell]:
        problems.add(place, f"a cell with a line break, {broken[0][:40]!r}; is a quote not closed?")
        return False
    return True


def safe_row(cells: Iterable[object]) -> list[object]:
    """Make cells safe to write: a text that a spreadsheet would run gets an apostrophe before it."""
    return [f"'{cell}" if isinstance(cell, str) and _runs(cell) else cell for cell in cells]


def safe_rows(rows: Iterable[Iterable[object]]) -> Iterator[list[object]]:
    """Apply `safe_row` to every row."""
    return (safe_row(row) for row in rows)


def read_cell(text: str) -> str:
    """Undo `safe_row` for one cell."""
    return text[1:] if text.startswith("'") and _runs(text[1:]) else text


def _runs(text: str) -> bool:
    return bool(FORMULA.match(text)) and not NUMBER.fullmatch(text)
