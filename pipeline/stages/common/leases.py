"""Locks in an object store: a lease that its owner renews as long as it lives, and that a dead owner loses.

A lease is one small object. It is put only if there is none, and renewed, taken over and removed only while it is the
one that was seen last. Nobody compares clocks: a process that waits takes a lease over when it has watched it unchanged
for as long as the lease says, and an owner that could not renew it for that long takes it for lost itself. An owner
asks `check` before it publishes, so one that was paused, or cut off from the store, publishes nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from cache.errors import CacheError, InvalidSetting
from pipeline.errors import OutputError
from pipeline.progress import Say
from pipeline.stages.common.bucket import bucket_at

__all__ = ["VARIABLE", "LeaseStore", "Leases", "lease_s", "leases_at"]

VARIABLE = "GIG_LEASE_S"
DEFAULT_S = 60.0
AT_ONCE = 16
"""Leases that are renewed at the same time: a command on a large cluster holds one for each of hundreds of videos."""
logger = logging.getLogger(__name__)


class LeaseStore(Protocol):
    """Objects that are put under a condition; see `Bucket`."""

    url: str

    def conditional(self) -> bool: ...
    def create(self, name: str, data: bytes) -> str | None: ...
    def replace(self, name: str, data: bytes, tag: str) -> str | None: ...
    def remove_tagged(self, name: str, tag: str) -> None: ...
    def read_tagged(self, name: str) -> tuple[bytes, str] | None: ...


def lease_s() -> float:
    """Seconds after which a dead owner loses its leases. Raises InvalidSetting for no positive number."""
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else DEFAULT_S
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidSetting(f"environment variable {VARIABLE}: expected a positive number of seconds, got {text!r}")
    return seconds


def seconds() -> float:
    """A clock that never falls, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class _Held:
    """A lease of this process.

    Attributes:
        tag: of the object that this process put last; None once another process has taken the lease over.
        renewed_s: when this process began to put it.
        content: what the object says, but for `beat`, which makes each renewal differ.
    """

    name: str
    tag: str | None
    renewed_s: float
    content: dict[str, object]
    beat: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


class Leases:
    """The leases of this process in one store.

    Args:
        store: where they lie.
        duration_s: how long a lease lives that is not renewed.
        clock: seconds, never falling.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        store: LeaseStore,
        duration_s: float,
        clock: Callable[[], float] = seconds,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._duration_s, self._clock, self._sleep = store, duration_s, clock, sleep
        self._held: dict[str, _Held] = {}
        self._seen: dict[str, tuple[str, float]] = {}  # of others: the tag, and since when it is known
        self._keeper: threading.Thread | None = None
        self._turn = threading.Lock()

    @contextmanager
    def hold(self, name: str, what: str, report: Say | None = None, wait: bool = True) -> Iterator[bool]:
        """Hold a lease during the block; gives whether it is held, which with `wait` it always is.

        In a store without puts under a condition nothing is held, and a warning says so.

        Args:
            name: the object.
            what: what the lease is for, in words.
            report: told which process this one waits for.
            wait: wait while another process holds it.

        Raises:
            CacheError: the store cannot be reached.
        """
        if not self._store.conditional():
            _warn_of_no_locks(self._store.url)
            yield True
            return
        lease = self._take(name, what, report, wait)
        if not lease:
            yield False
            return
        with self._turn:
            self._held[name] = lease
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, daemon=True, name="leases")
                self._keeper.start()
        try:
            yield True
        finally:
            with self._turn:
                del self._held[name]
            self._release(lease)

    def check(self, name: str) -> None:
        """Raise OutputError if this process has lost a lease that it took."""
        lease = self._held.get(name)
        if lease and not self._is_mine(lease):
            raise OutputError(
                f"{self._store.url}/{name}: this process could not renew its lease for {self._duration_s:g} s, so "
                "another one may be at work on this output; what is finished here is kept, run the command again"
            )

    def renew(self) -> None:
        """Renew all leases that are held. A store that cannot be reached is asked again the next time."""
        with self._turn:
            held = list(self._held.values())
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="renewals") as pool:
            list(pool.map(self._renew, held))

    def _renew(self, lease: _Held) -> None:
        with lease.turn, contextlib.suppress(CacheError):
            if lease.tag is not None and lease.name in self._held:
                self._put_again(lease)

    def _put_again(self, lease: _Held) -> None:
        assert lease.tag is not None
        lease.beat += 1
        began_s, body = self._clock(), _body(lease.content, lease.beat)
        tag = self._store.replace(lease.name, body, lease.tag)
        if tag is None:  # refused, or put by an attempt whose answer was lost
            found = self._store.read_tagged(lease.name)
            tag = found[1] if found and _nonce(found[0]) == lease.content["nonce"] else None
        lease.tag, lease.renewed_s = tag, began_s
        if tag is None:
            logger.warning("warning: %s/%s: another process has taken this lease over", self._store.url, lease.name)

    def _take(self, name: str, what: str, report: Say | None, wait: bool) -> _Held | None:
        """The lease; without `wait` None if it is another process's."""
        content: dict[str, object] = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "nonce": uuid.uuid4().hex,
            "lease_s": self._duration_s,
            "what": what,
        }
        body, found, told = _body(content, 0), None, False
        while True:
            if not found:
                put_s = self._clock()
                if tag := self._store.create(name, body):
                    return _Held(name, tag, put_s, content)
            found = self._store.read_tagged(name)
            if not found:
                continue  # released in between
            now_s, (there, tag) = self._clock(), found
            if _nonce(there) == content["nonce"]:
                return _Held(name, tag, put_s, content)  # put by an attempt whose answer was lost
            seen, since_s = self._seen.get(name, ("", 0.0))
            if tag != seen:
                self._seen[name] = tag, now_s
            elif now_s - since_s > _duration(there, self._duration_s):
                put_s = now_s
                if new := self._store.replace(name, body, seen):
                    return _Held(name, new, put_s, content)
            if not wait:
                return None
            if report and not told:
                report(f"waiting for {_owner(there)}, which is making {what}")
                told = True
            self._sleep(min(2.0, self._duration_s / 4))

    def _is_mine(self, lease: _Held) -> bool:
        return lease.tag is not None and self._clock() - lease.renewed_s < self._duration_s

    def _release(self, lease: _Held) -> None:
        with lease.turn:
            if lease.tag is None or not self._is_mine(lease):
                return
            try:
                self._store.remove_tagged(lease.name, lease.tag)
            except CacheError as error:  # it ends by itself
                logger.warning("warning: %s/%s: %s", self._store.url, lease.name, error)

    def _keep(self) -> None:
        while True:
            time.sleep(self._duration_s / 4)
            with contextlib.suppress(RuntimeError):  # the process is about to end, and begins no threads
                self.renew()


def _body(content: dict[str, object], beat: int) -> bytes:
    return json.dumps(content | {"beat": beat}).encode()


def _content(body: bytes) -> dict[str, object]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _nonce(body: bytes) -> object:
    return _content(body).get("nonce")


def _duration(body: bytes, default_s: float) -> float:
    told = _content(body).get("lease_s")
    return float(told) if isinstance(told, int | float) else default_s


def _owner(body: bytes) -> str:
    content = _content(body)
    return f"process {content.get('process', '?')} on {content.get('host', '?')}"


@lru_cache(maxsize=8)
def _leases(url: str, process: int) -> Leases:
    return Leases(bucket_at(url), lease_s())


def leases_at(url: str) -> Leases:
    """The leases of this process below a URL."""
    return _leases(url, os.getpid())


@lru_cache(maxsize=8)
def _warn_of_no_locks(url: str) -> None:
    logger.warning(
        "warning: %s: this store has no puts under a condition, so nothing is locked; run one command at a time", url
    )
