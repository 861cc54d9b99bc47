"""What a cluster has: every worker, why it would get no work, and what it answers to one task."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from pipeline.cluster.connection import Connection
from pipeline.cluster.crew import Crew, Member
from pipeline.cluster.places import Place, Surroundings, work_at
from pipeline.progress import silent

__all__ = ["Surveyed", "survey"]

ASK_S = 0.2


@dataclass(frozen=True)
class Surveyed:
    """A worker.

    Attributes:
        address, name, host: of it.
        slots: tasks that it would do at once; 0 without the resource.
        facts: what its place has told.
        problem: why it would get no work; empty for one that would.
        result: what it has returned for the task; None with a problem.
    """

    address: str
    name: str
    host: str
    slots: int
    facts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    result: Any = None


def survey(
    connection: Connection,
    factory: Callable[[Surroundings], Place],
    expected: Mapping[str, str],
    argument: Any,
    seconds: float,
) -> Iterator[Surveyed]:
    """Look at every worker that is there, and have each do one task, one after the other.

    Args:
        connection: to the scheduler.
        factory, expected: see `run_tasks`.
        argument: of the task.
        seconds: how long a task may take.

    Raises:
        ClusterError: the scheduler does not answer, or no worker comes.
    """
    answers: queue.SimpleQueue[tuple[Member, object]] = queue.SimpleQueue()
    token = f"gig-{uuid.uuid4().hex}"
    crew = Crew(connection, token, factory, expected, silent, lambda member, told: answers.put((member, told)))
    with closing(crew):
        begun = time.monotonic()
        while not (workers := connection.workers()) and time.monotonic() - begun < connection.wait_s:
            time.sleep(ASK_S)
        crew.look()
        while any(member.state == "opening" for member in crew.members.values()):
            try:
                crew.answer(*answers.get(timeout=ASK_S))
            except queue.Empty:
                crew.look()
        for address, known in workers.items():
            member = crew.members.get(address)
            if member is None:
                problem = f"it offers {known['resources'] or 'no resource'}, not {connection.resource!r}"
                yield Surveyed(address, str(known["name"]), known["host"], 0, {}, problem)
            elif member.state == "refused":
                yield Surveyed(address, member.name, member.host, member.slots, member.facts, member.problem)
            else:
                yield _asked(connection, token, member, argument, seconds)


def _asked(connection: Connection, token: str, member: Member, argument: Any, seconds: float) -> Surveyed:
    future = connection.client.submit(
        work_at,
        token,
        argument,
        key=f"{token}/{member.name}",
        pure=False,
        retries=0,
        resources={connection.resource: 1},
        workers=[member.address],
        allow_other_workers=False,
    )
    problem, result = "", None
    try:
        result = future.result(timeout=seconds)
    except TimeoutError:
        problem = f"it has not done a task within {seconds:g} s; it is busy, or hangs"
    except Exception as error:  # whatever it is: it is what the survey finds
        problem = f"{type(error).__name__}: {error}"
    return Surveyed(member.address, member.name, member.host, member.slots, member.facts, problem, result)
