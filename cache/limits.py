"""How long an object store may take to answer: a connection that is accepted and then silent must end in an error."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cache.errors import InvalidSetting

__all__ = ["DEFAULT_S", "LISTING", "VARIABLE", "answered", "limit_s", "within"]

Result = TypeVar("Result")

VARIABLE = "GIG_CACHE_TIMEOUT_S"
DEFAULT_S = 120.0
LISTING = 10
"""So many times as long may a listing or a removal of many objects take, which are many requests."""


def limit_s() -> float:
    """Seconds for one object, all tries of the file system included. Raises InvalidSetting for no positive number."""
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else DEFAULT_S
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise InvalidSetting(f"environment variable {VARIABLE}: expected a positive number of seconds, got {text!r}")
    return seconds


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """The result of a call of any file system. Raises what it raises, and TimeoutError when it takes longer.

    The call runs in a daemon thread, for nothing else can leave one that never returns.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # handed on
            errors.append(error)
        finally:
            ended.set()

    ended = threading.Event()
    threading.Thread(target=run, daemon=True, name="cache-request").start()
    if not ended.wait(seconds):
        raise _unanswered(seconds)
    if errors:
        raise errors[0]
    return results[0]


async def answered(seconds: float, request: Awaitable[Result]) -> Result:
    """As `within`, of a coroutine."""
    done, _ = await asyncio.wait({task := asyncio.ensure_future(request)}, timeout=seconds)
    if not done:
        task.cancel()  # not waited for: it may be deaf to that too
        raise _unanswered(seconds)
    return task.result()


def _unanswered(seconds: float) -> TimeoutError:
    return TimeoutError(f"no answer within {seconds:g} s ({VARIABLE} sets the limit)")
