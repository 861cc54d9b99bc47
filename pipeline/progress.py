"""The callbacks by which stages tell what happens."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "Say", "silent"]

Progress = Callable[[int, int, str], None]
"""Called often, as progress(done, total, message)."""

Say = Callable[[str], None]
"""Called with each message that a person should read."""


def silent(*told: object) -> None:
    """No-op callback."""
