"""Asking a storage: within a limit of time, again after a passing failure, and with errors that never blame a video.

fsspec's storages raise errors of any type, and some never answer. Here every failure becomes a `StorageError`, which
is no DecodeError: a storage that fails ends the run, and no video goes to quarantine for it.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pipeline.errors import StorageError

__all__ = ["VARIABLE", "Answer", "ask", "file_system", "limit_s", "public", "scheme_of", "when_waiting"]

Result = TypeVar("Result")

VARIABLE = "GIG_VIDEOS_TIMEOUT_S"
DEFAULT_S = 120.0
PAUSES_S = (0.1, 0.5, 2.0)  # before the second, third and fourth attempt
SIGN_S = 1.0
WEB = ("http", "https")
FINAL = (FileNotFoundError, NotADirectoryError, PermissionError, ImportError, NotImplementedError, StorageError)
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")

_told: Callable[[], object] = lambda: None  # noqa: E731


def when_waiting(tell: Callable[[], object]) -> None:
    """Have a function called every second while this process waits for a storage; it is its sign of life."""
    global _told
    _told = tell


def limit_s() -> float:
    """Seconds for one request with its repetitions. Raises StorageError if the variable is no positive number."""
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else DEFAULT_S
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise StorageError(f"environment variable {VARIABLE}: expected a positive number of seconds, got {text!r}")
    return seconds


class Answer(Generic[Result]):
    """A request that is under way in a thread of its own, with repetitions after failures that may pass.

    Only a daemon thread can be left behind when a storage never answers.

    Args:
        call: the request.
        seconds: how long it may take in all.
    """

    def __init__(self, call: Callable[[], Result], seconds: float) -> None:
        self._call, self._seconds, self._begun = call, seconds, time.monotonic()
        self._result: list[Result] = []
        self._error: BaseException | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="storage-request").start()

    def wait(self) -> Result:
        """The result. Raises what the last attempt raised, and TimeoutError where there is no answer in time."""
        while not self._ended.wait(max(0.0, min(SIGN_S, self._left_s()))):
            if self._left_s() <= 0:
                raise TimeoutError(f"no answer within {self._seconds:g} s ({VARIABLE} sets the limit)")
            _told()
        if self._error:
            raise self._error
        return self._result[0]

    def _left_s(self) -> float:
        return self._begun + self._seconds - time.monotonic()

    def _run(self) -> None:
        for pause_s in (*PAUSES_S, None):
            try:
                self._result.append(self._call())
                self._error = None
                break
            except BaseException as error:  # raised by `wait`
                self._error = error
                if pause_s is None or isinstance(error, FINAL) or pause_s > self._left_s():
                    break
                time.sleep(pause_s)
        self._ended.set()


def ask(place: str, call: Callable[[], Result], *, times: int = 1) -> Result:
    """The answer of a storage to one request.

    Args:
        place: what is asked for, in errors; holds no password.
        call: the request.
        times: by how much a request of many parts, such as a listing, may take longer than the limit.

    Raises:
        FileNotFoundError: nothing lies there.
        StorageError: anything else that prevents an answer.
    """
    return answered(place, Answer(call, times * limit_s()))


def answered(place: str, answer: Answer[Result]) -> Result:
    """The result of a request that was begun before. As `ask`."""
    try:
        return answer.wait()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{place}: nothing lies there") from error
    except StorageError:
        raise
    except PermissionError as error:
        raise StorageError(f"{place}: the storage refuses access: {_said(error)}; check the credentials") from error
    except ImportError as error:
        raise StorageError(f"{place}: a package is missing for this storage ({_said(error)})") from error
    except TimeoutError as error:
        raise StorageError(f"{place}: {_said(error)}") from error
    except Exception as error:  # a storage's own
        hint = "; check the credentials" if "redential" in f"{type(error).__name__} {error}" else ""
        raise StorageError(f"{place}: cannot be read: {type(error).__name__}: {_said(error)}{hint}") from error


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path that it has there. Raises StorageError."""
    import fsspec

    place = public(url)
    try:
        # A listing that fsspec remembers would hide what has changed since.
        found, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **_options(url))
    except ImportError as error:
        raise StorageError(f"{place}: a package is missing for this storage ({error})") from error
    except ValueError as error:
        raise StorageError(f"{place}: expected a URL of a storage that fsspec knows: {str(error)[:200]}") from error
    return found, str(path)


def scheme_of(url: str) -> str | None:
    """The scheme of a URL, such as s3, in small letters; None for a path."""
    found = SCHEME.match(url)
    return found[1].lower() if found else None


def public(url: str) -> str:
    """A URL without user, password and, on the web, its query, which can be a signature."""
    scheme, rest = url.split("://", 1)
    host, slash, path = rest.partition("/")
    if scheme.lower() in WEB:  # elsewhere ? and # can be part of a name
        path = re.split("[?#]", path, maxsplit=1)[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _options(url: str) -> dict[str, Any]:
    """s3fs asks for the size of an object before it reads it whole, unless it is to read in one piece."""
    return {"max_concurrency": 1} if scheme_of(url) in ("s3", "s3a") else {}


def _said(error: BaseException) -> str:
    """A storage's message, short, and without the URL that some repeat with its signature."""
    return str(error).split(", url=")[0][:200] or type(error).__name__
