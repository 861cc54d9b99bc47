"""The type of the callback that long work of the cache reports its progress to."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, message)."""
