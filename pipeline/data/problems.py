"""Problems of a data set, collected and raised together; and guesses what a wrong name was meant to be."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.errors import ManifestError

__all__ = ["Problems", "folded", "look_alike", "nearest", "same_but_capitals"]


@dataclass
class Problems:
    """Everything wrong with a data set, each with its place (file and row); raised together."""

    lines: list[str] = field(default_factory=list)

    def add(self, place: str, message: str) -> None:
        """Add a problem with its place."""
        self.lines.append(f"{place}: {message}")

    def raise_any(self) -> None:
        """Raise ManifestError with every problem added, if there is one."""
        if self.lines:
            raise ManifestError(f"{len(self.lines)} problem(s) in the data set\n  " + "\n  ".join(self.lines))


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for an unknown name: the known one that it resembles, or all of them."""
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1)
    match = next((k for k in known if near and k.lower() == near[0]), None)
    return f"did you mean {match!r}?" if match else f"expected one of {', '.join(known)}"


def same_but_capitals(name: str, known: Iterable[str]) -> str | None:
    """The known name that equals `name` but for capitals and Unicode form; None if there is none."""
    return next((other for other in known if folded(other) == folded(name)), None)


def look_alike(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks the same on a screen but differs in Unicode, such as an accent in one character or two.

    None if there is none.
    """
    form = unicodedata.normalize("NFC", name)
    return next((other for other in known if other != name and unicodedata.normalize("NFC", other) == form), None)


def folded(name: str) -> str:
    """A name in a form that is equal for all capitals and Unicode forms."""
    return unicodedata.normalize("NFC", name).casefold()
