"""What lies on a worker between two tasks of one command: a place, with what its tasks need, loaded once.

A place is opened by the client before the worker gets any task, under a token that belongs to one command. It tells
facts about itself and its worker, on which the client decides whether the worker may work. A worker that was restarted
has no places, so a task of a dead worker that finds its way there does nothing.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Place", "PlaceGone", "Surroundings", "close_place", "open_place", "work_at"]

IDLE_S = 60.0
"""For so long nothing is done at a place of another command before it counts as left behind."""
ABANDONED_S = 300.0
"""For so long nothing is done at a place before it counts as left behind although no other command has come."""
logger = logging.getLogger(__name__)


class PlaceGone(Exception):
    """A task for a place that is not, or no longer, open on this worker."""


@dataclass(frozen=True)
class Surroundings:
    """What a place is told about its worker.

    Attributes:
        worker: name of the worker.
        slots: tasks that are done there at once.
        neighbours: workers on the same host, this one included.
        limited: whether dask has told the worker's libraries for arithmetic to use one thread, as it usually does.
        tell: sends a message, plain data, to the client; it may get lost, and must not be sent often.
    """

    worker: str
    slots: int
    neighbours: int
    limited: bool
    tell: Callable[[Mapping[str, Any]], None]


class Place(Protocol):
    """What does the tasks of one command on one worker. Its methods are called by several threads."""

    def facts(self) -> Mapping[str, str]:
        """What the client compares with what it expects, and more that it shows."""
        ...

    def do(self, argument: Any) -> Any:
        """Do a task."""
        ...

    def close(self) -> None:
        """Give up tasks in progress and let go of everything."""
        ...


@dataclass
class _Opened:
    place: Place
    busy: int = 0
    used: float = field(default_factory=time.monotonic)


class _Places:
    """The open places of this process, by worker and token; workers can share a process."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], _Opened] = {}
        self._opening: set[tuple[str, str]] = set()
        self._unwanted: set[tuple[str, str]] = set()
        self._watcher: threading.Thread | None = None
        self._lock = threading.Lock()

    def open(self, worker: str, token: str, make: Callable[[], Place]) -> Mapping[str, str]:
        """Make a place, unless it is open, and return its facts. Raises PlaceGone if it was closed meanwhile."""
        self._close_left_behind(IDLE_S, worker)
        key = worker, token
        with self._lock:
            opened = self._opened.get(key)
            if opened is None:
                self._opening.add(key)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True, name="places")
                self._watcher.start()
        if opened is None:
            opened = self._made(key, make)
        return opened.place.facts()

    def _made(self, key: tuple[str, str], make: Callable[[], Place]) -> _Opened:
        """A new place, which is kept unless its command has ended while it was made, which can take minutes."""
        opened = None
        try:
            opened = _Opened(make())
        finally:
            with self._lock:
                self._opening.discard(key)
                unwanted = key in self._unwanted
                self._unwanted.discard(key)
                if opened and not unwanted:
                    self._opened[key] = opened
        if unwanted:
            opened.place.close()
            raise PlaceGone(f"{key[0]}: the command has ended while its place was opened")
        return opened

    @contextmanager
    def use(self, worker: str, token: str) -> Iterator[Place]:
        """A place during a task. Raises PlaceGone."""
        with self._lock:
            opened = self._opened.get((worker, token))
            if opened is None:
                raise PlaceGone(f"{worker}: nothing is open there for this task")
            opened.busy += 1
        try:
            yield opened.place
        finally:
            with self._lock:
                opened.busy -= 1
                opened.used = time.monotonic()

    def close(self, worker: str, token: str) -> None:
        """Close a place if it is open, or else as soon as it is."""
        with self._lock:
            opened = self._opened.pop((worker, token), None)
            if (worker, token) in self._opening:
                self._unwanted.add((worker, token))
        if opened:
            opened.place.close()

    def _close_left_behind(self, idle_s: float, worker: str | None = None) -> None:
        """Close what commands have left that were killed; one that lives opens its place again."""
        with self._lock:
            now = time.monotonic()
            left = [
                key
                for key, opened in self._opened.items()
                if worker in (None, key[0]) and not opened.busy and now - opened.used > idle_s
            ]
            # Taken away before any task can begin there.
            places = [self._opened.pop(key).place for key in left]
        for place in places:
            place.close()

    def _watch(self) -> None:
        """Close now and then what has been left behind for long: it may hold a GPU that others wait for."""
        while True:
            time.sleep(IDLE_S)
            try:
                self._close_left_behind(ABANDONED_S)
            except Exception as error:
                logger.warning("warning: a place that was left behind cannot be closed: %s", error)


_PLACES = _Places()


async def open_place(token: str, factory: bytes, slots: int, neighbours: int, dask_worker: Any) -> dict[str, str]:
    """Open a place on the worker where this runs, in a thread, and return its facts.

    Args:
        token: of the command.
        factory: pickled; called with `Surroundings`, returns a `Place`. Its modules are imported here, not before, so
            that an import that fails is an answer.
        slots, neighbours: see `Surroundings`.
        dask_worker: passed by dask.
    """

    def tell(message: Mapping[str, Any]) -> None:
        dask_worker.log_event(token, dict(message))

    def opened() -> dict[str, str]:
        around = Surroundings(str(dask_worker.name), slots, neighbours, _limited(dask_worker), tell)
        return dict(_PLACES.open(dask_worker.address, token, lambda: pickle.loads(factory)(around)))

    return await asyncio.get_running_loop().run_in_executor(None, opened)


def _limited(dask_worker: Any) -> bool:
    import dask

    told = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return dask_worker.nanny is not None and "OMP_NUM_THREADS" in told


async def close_place(token: str, dask_worker: Any) -> None:
    """Close a place on the worker where this runs."""
    await asyncio.get_running_loop().run_in_executor(None, _PLACES.close, dask_worker.address, token)


def work_at(token: str, argument: Any) -> Any:
    """The task: do something at the place of a command. Raises PlaceGone."""
    from distributed import get_worker

    with _PLACES.use(get_worker().address, token) as place:
        return place.do(argument)
