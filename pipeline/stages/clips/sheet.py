"""Contact sheets: a picture of the peak of every event, with a caption, in a grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.stages.clips.cut import THUMBNAIL
from pipeline.stages.clips.text import put

__all__ = ["Entry", "draw_sheets"]

COLUMNS, MOST_ROWS = 5, 12
GAP, CAPTION, TEXT = 12, 44, 15
CELL_HEIGHT = THUMBNAIL * 3 // 4
PAPER, INK, FAINT = (250, 250, 250), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class Entry:
    """One cell of a sheet.

    Attributes:
        picture: file of the picture; None where there is none.
        first, second: the two lines of text below it.
    """

    picture: Path | None
    first: str
    second: str


def draw_sheets(entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Write sheet-1.png, sheet-2.png and so on, 60 entries each, in their order; returns their paths, none without
    entries."""
    paths = []
    for number, part in enumerate(_parts(entries), start=1):
        paths.append(folder / f"sheet-{number}.png")
        _sheet(part).save(paths[-1])
    return paths


def _parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    most = COLUMNS * MOST_ROWS
    return (entries[start : start + most] for start in range(0, len(entries), most))


def _sheet(entries: Sequence[Entry]) -> Image.Image:
    columns = min(COLUMNS, len(entries))
    rows = -(-len(entries) // columns)
    across, down = THUMBNAIL + GAP, CELL_HEIGHT + CAPTION + GAP
    sheet = Image.new("RGB", (columns * across + GAP, rows * down + GAP), PAPER)
    for number, entry in enumerate(entries):
        left, top = GAP + number % columns * across, GAP + number // columns * down
        if entry.picture:
            with Image.open(entry.picture) as picture:
                picture.thumbnail((THUMBNAIL, CELL_HEIGHT))
                room = (THUMBNAIL - picture.width) // 2, (CELL_HEIGHT - picture.height) // 2
                sheet.paste(picture, (left + room[0], top + room[1]))
        else:
            put(sheet, (left, top + CELL_HEIGHT // 2), "no picture", TEXT, THUMBNAIL, FAINT)
        put(sheet, (left, top + CELL_HEIGHT + 3), entry.first, TEXT, THUMBNAIL, INK)
        put(sheet, (left, top + CELL_HEIGHT + 22), entry.second, TEXT, THUMBNAIL, FAINT)
    return sheet
