"""What is wrong with a data set, collected and raised together, and what a wrong name was meant to be."""

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
        self.lines.append(f"{place}: {message}")

    def raise_any(self) -> None:
        """Raise ManifestError with every problem added, if there is one."""
        if self.lines:
            raise ManifestError(f"{len(self.lines)} problem(s) in the data set\n  " + "\n  ".join(self.lines))


def nearest(name: str, known: Sequence[str]) -> str:
    """What to say after an unknown name: the known one it may be a slip of, or all of them."""
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1)
    match = next((k for k in known if near and k.lower() == near[0]), None)
    return f"did you mean {match!r}?" if match else f"expected one of {', '.join(known)}"


def same_but_capitals(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs from `name` in capitals or in Unicode form only."""
    return next((other for other in known if folded(other) == folded(name)), None)


def look_alike(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks the same on a screen but is another in Unicode: an accent in one character, or in
    two."""
    form = unicodedata.normalize("NFC", name)
    return next((other for other in known if other != name and unicodedata.normalize("NFC", other) == form), None)


def folded(name: str) -> str:
    """A name without what capitals and Unicode forms change."""
    return unicodedata.normalize("NFC", name).casefold()
