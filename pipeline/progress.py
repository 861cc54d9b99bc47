"""Who is told what happens: the types of the callbacks that stages call."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "Say"]

Progress = Callable[[int, int, str], None]
"""Called often, as progress(done, total, message)."""

Say = Callable[[str], None]
"""Called with each message that a person should read."""
