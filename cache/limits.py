"""Time limits for object stores, so that a connection without an answer ends in an error."""

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
"""A listing or a removal of many objects, which takes many requests, may take this many times as long."""


def limit_s() -> float:
    """Seconds for one object, including retries. Raises InvalidSetting if the variable is not a positive number."""
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else DEFAULT_S
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise InvalidSetting(f"environment variable {VARIABLE}: expected a positive number of seconds, got {text!r}")
    return seconds


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """The result of a call. Raises what the call raises, and TimeoutError if it takes longer than `seconds`.

    The call runs in a daemon thread, because that is the only way to abandon a call that never returns.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised again by the caller
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
    """The result of a coroutine. Raises what it raises, and TimeoutError if it takes longer than `seconds`."""
    done, _ = await asyncio.wait({task := asyncio.ensure_future(request)}, timeout=seconds)
    if not done:
        task.cancel()  # not awaited: it may not react to this either
        raise _unanswered(seconds)
    return task.result()


def _unanswered(seconds: float) -> TimeoutError:
    return TimeoutError(f"no answer within {seconds:g} s ({VARIABLE} sets the limit)")
