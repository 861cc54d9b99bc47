"""What is done on a cluster, task by task, and what is heard of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Future

    from pipeline.cluster.crew import Member

__all__ = ["Answer", "Attempt", "Done", "Event", "Finished", "Gone", "Heard", "Held", "Task", "WorkerKilled"]


class WorkerKilled(Exception):
    """A task over which two workers have died that had no other."""


@dataclass(frozen=True)
class Task:
    """Something to do.

    Attributes:
        key: names it in dask; no two tasks of a run have the same.
        argument: what the place on the worker is given; small, and picklable.
    """

    key: str
    argument: Any


@dataclass(frozen=True)
class Finished:
    """The end of a task.

    Attributes:
        task: which.
        result: what the place has returned; None with an error.
        error: what it has raised, or WorkerKilled.
        worker: name of the worker.
    """

    task: Task
    result: Any
    error: Exception | None
    worker: str


@dataclass
class Attempt:
    """A task, and what has happened to it.

    Attributes:
        task: which.
        number: how often it was given to a worker.
        deaths: workers that have died while it was their only task.
        alone: whether a worker that gets it may have no other task.
    """

    task: Task
    number: int = 0
    deaths: int = 0
    alone: bool = False


@dataclass(frozen=True)
class Held:
    """A task that a worker has."""

    attempt: Attempt
    future: Future


@dataclass(frozen=True)
class Done:
    """A task has ended: with a result, or an error. TimeoutError: it was cancelled, or its result cannot be had."""

    member: Member
    future: Future
    result: Any
    error: BaseException | None


@dataclass(frozen=True)
class Answer:
    """A place has told its facts, or an error."""

    member: Member
    told: object


@dataclass(frozen=True)
class Gone:
    """The scheduler says that a worker is gone; expected, where it has taken its leave."""

    address: str
    expected: bool


@dataclass(frozen=True)
class Heard:
    """A place has sent a message while it works."""

    message: Mapping[str, Any]


Event = Done | Answer | Gone | Heard
"""What a command waits for while its tasks are under way."""
