"""The callbacks for progress and messages: their types, one that does nothing, and one that counts warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["WARNING", "Progress", "Say", "counting_warnings", "silent"]

Progress = Callable[[int, int, str], None]
"""Called often, as progress(done, total, message)."""

Say = Callable[[str], None]
"""Called with each message that a person should read."""


WARNING = "warning: "
"""How a message begins that is a warning."""


def silent(*told: object) -> None:
    """No-op callback."""


@contextmanager
def counting_warnings(say: Say) -> Iterator[Say]:
    """Count the warnings among the messages of a block and say their number at its end, also after an error.

    Long work tells much between its first warning and its last message; the count says that there is one to look for.

    Yields:
        What to call in place of `say`.
    """
    warnings = 0

    def counted(message: str) -> None:
        nonlocal warnings
        warnings += message.startswith(WARNING)
        say(message)

    try:
        yield counted
    finally:
        if warnings:
            say(f"{warnings} warning(s), see above")
