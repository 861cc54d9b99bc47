"""Text in pictures: whatever names hold, on one line and no wider than there is room."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

__all__ = ["clock", "font", "line", "put"]

Colour = tuple[int, int, int]


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def line(text: str, size: int, width: int) -> str:
    """A text as one line that can be drawn.

    Args:
        text: any; line breaks become blanks, and characters that cannot be printed are replaced.
        size: of the letters, pixels.
        width: most pixels of the line; a longer text is cut and ends with an ellipsis.
    """
    plain = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split()))
    plain = plain[:300]
    if font(size).getlength(plain) <= width:
        return plain
    while plain and font(size).getlength(f"{plain}…") > width:
        plain = plain[:-1]
    return f"{plain}…"


def put(image: Image.Image, place: tuple[int, int], text: str, size: int, width: int, colour: Colour) -> None:
    """Draw a line of text.

    Args:
        image: on which it is drawn.
        place: (x, y) of its upper left corner, pixels.
        text, size, width: as of `line`.
        colour: RGB, 0 to 255.
    """
    ImageDraw.Draw(image).text(place, line(text, size, width), fill=colour, font=font(size))


def clock(time_s: float, *, tenths: bool = False) -> str:
    """Minutes and seconds, m:ss; from an hour on h:mm:ss; with tenths of a second on request."""
    # Rounded first, so that 59.97 s are 1:00.0 and not 0:60.0.
    all_tenths = round(10 * time_s) if tenths else 10 * int(time_s)
    seconds, tenth = divmod(all_tenths, 10)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    text = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{text}.{tenth}" if tenths else text
