"""The workers of a cluster as one command sees them: which may work for it, which not and why, and what each has."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.cluster.connection import Connection, briefly
from pipeline.cluster.places import Place, Surroundings, close_place, open_place
from pipeline.errors import ClusterError
from pipeline.progress import Say

__all__ = ["Crew", "Member", "differences"]

WINDOW = 2
"""Tasks per slot that a worker has been given: one that it does, and one for when that is done."""
OPENED_AT_ONCE = 64
OPENING_S = 600.0
"""For so long a worker may load what it needs."""
UNTOLD_S = 5.0
"""For so long a worker may be missing before it counts as dead although the scheduler has not said so."""
SHOWN = 8


@dataclass
class Member:
    """A worker that has the resource.

    Attributes:
        address, name, host: of the worker.
        slots: tasks that it does at once.
        state: opening while it loads and is looked at; ready to work; refused.
        since: when that state began, by the monotonic clock.
        halted: since when it does no new task, because it pauses for want of memory or is about to leave.
        facts: what its place has told.
        problem: why it was refused.
        held: the tasks that it has, by key.
        reserved: whether it gets no ordinary task: it has one that must be alone, or shall get it.
        missing: since when the scheduler does not list it.
    """

    address: str
    name: str
    host: str
    slots: int
    state: Literal["opening", "ready", "refused"] = "opening"
    since: float = field(default_factory=time.monotonic)
    halted: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    held: dict[str, Any] = field(default_factory=dict)
    reserved: bool = False
    missing: float | None = None

    @property
    def room(self) -> int:
        """How many more tasks it can be given."""
        return WINDOW * self.slots - len(self.held) if self.halted is None else 0

    @property
    def share(self) -> float:
        """The share of its window that is free."""
        return self.room / self.slots

    def become(self, state: Literal["ready", "refused"], problem: str = "") -> None:
        """Change the state."""
        self.state, self.since, self.problem = state, time.monotonic(), problem


class Crew:
    """The workers; `close` it in the end.

    Args:
        connection: to their scheduler.
        token: of the command; names the places.
        factory: makes a place on a worker; picklable.
        expected: facts that a place must tell.
        say: told which workers are refused.
        answered: called from another thread when a place has answered, with the worker's address and what to pass to
            `answer`.

    Attributes:
        members: by address.
    """

    def __init__(
        self,
        connection: Connection,
        token: str,
        factory: Callable[[Surroundings], Place],
        expected: Mapping[str, str],
        say: Say,
        answered: Callable[[Member, object], None],
    ) -> None:
        self.members: dict[str, Member] = {}
        self._connection, self._token, self._expected = connection, token, expected
        self._factory, self._say, self._answered = pickle.dumps(factory), say, answered
        self._pool = ThreadPoolExecutor(OPENED_AT_ONCE, thread_name_prefix="crew")
        self._others: dict[str, str] = {}
        self._without_since: float | None = None

    def close(self) -> None:
        """Close the places. Workers of a cluster of this process end anyway, and close theirs by that."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        client, token = self._connection.client, self._token
        opened = [member.address for member in self.members.values()]
        if opened and self._connection.grows and client.status == "running":
            briefly(lambda: client.run(close_place, token, workers=opened, on_error="ignore"), 2)

    def look(self) -> list[tuple[Member, bool]]:
        """See which workers there are, and open places on new ones.

        Returns:
            Those that are not to be counted on any more, and whether that is no fault of their tasks: they are gone
            without a word, or have been halted for too long.

        Raises:
            ClusterError: the scheduler does not answer.
        """
        workers = self._connection.workers()
        able = {address: slots for address, facts in workers.items() if (slots := self._slots(facts))}
        hosts = Counter(workers[address]["host"] for address in able)
        self._others = {
            str(facts["name"]): f"offers {facts['resources'] or 'no resource'}"
            for address, facts in workers.items()
            if address not in able
        }
        for address, slots in able.items():
            facts = workers[address]
            if address not in self.members:
                member = self.members[address] = Member(address, str(facts["name"]), facts["host"], slots)
                self._pool.submit(self._open, member, hosts[member.host])
        now = time.monotonic()
        gone: list[tuple[Member, bool]] = []
        for member in list(self.members.values()):
            if member.address not in able:
                member.missing = member.missing or now
                if now - member.missing > UNTOLD_S:
                    gone.append((self.members.pop(member.address), False))
                continue
            member.missing = None
            halts = workers[member.address]["status"] != "running"
            member.halted = (member.halted or now) if halts else None
            if member.held and member.halted and now - member.halted > self._connection.wait_s:
                gone.append((self.members.pop(member.address), True))
                continue
            if member.state == "opening" and now - member.since > OPENING_S:
                self._refuse(member, f"it has not answered for {OPENING_S:g} s")
        return gone

    def answer(self, member: Member, told: object) -> None:
        """Take what a place has told, its facts or an error: its worker may work, or not."""
        if self.members.get(member.address) is not member or member.state != "opening":
            return
        if not isinstance(told, Mapping):
            self._refuse(member, f"{type(told).__name__}: {told}")
            return
        member.facts = told
        if problems := differences(self._expected, told):
            self._refuse(member, "; ".join(problems))
        else:
            member.become("ready")

    def leave(self, address: str) -> Member | None:
        """The scheduler says that a worker is gone; returns it if it was of these."""
        return self.members.pop(address, None)

    def reopen(self, member: Member) -> None:
        """A place is gone although its worker lives: open it again when the worker is next seen."""
        if self.members.get(member.address) is member:
            del self.members[member.address]

    def ready(self) -> list[Member]:
        """The workers that may work."""
        return [member for member in self.members.values() if member.state == "ready"]

    def check(self) -> None:
        """Raise ClusterError when there has been no worker that works, or may come to work, for too long."""
        states = {member.state for member in self.members.values()}
        if any(_counts(member) for member in self.members.values()):
            self._without_since = None
            return
        self._without_since = self._without_since or time.monotonic()
        waited = time.monotonic() - self._without_since
        hopeless = states == {"refused"} and not self._connection.grows  # and no others can come
        if waited > self._connection.wait_s or hopeless:
            raise ClusterError(self._missing())

    def _missing(self) -> str:
        resource, wait_s = self._connection.resource, self._connection.wait_s
        lines = [f"worker {m.name} on {m.host}: {m.problem or 'it does no new task'}" for m in self.members.values()]
        lines += [f"worker {name}: {what}" for name, what in self._others.items()]
        seen = "\n  ".join(lines[:SHOWN] + ["..."] * (len(lines) > SHOWN)) or "no worker is connected"
        return (
            f"{self._connection.scheduler}: expected a worker with the resource {resource!r} that can do the work "
            f"within machine.cluster_wait_s = {wait_s:g} s, found none:\n  {seen}\n"
            f"start workers with: dask worker {self._connection.scheduler} --nthreads 4 --resources {resource}=4"
        )

    def _slots(self, facts: Mapping[str, Any]) -> int:
        return int(min(facts["resources"].get(self._connection.resource, 0), facts["nthreads"]))

    def _refuse(self, member: Member, problem: str) -> None:
        member.become("refused", problem)
        self._say(f"warning: worker {member.name} on {member.host} gets no work: {problem}")

    def _open(self, member: Member, neighbours: int) -> None:
        told: object
        try:
            told = self._connection.client.run(
                open_place,
                self._token,
                self._factory,
                member.slots,
                neighbours,
                workers=[member.address],
                on_error="return",
            ).get(member.address)
        except Exception as error:  # whatever it is, this worker cannot work
            told = error
        self._answered(member, told)


def _counts(member: Member) -> bool:
    """Whether something can be expected of a worker."""
    return member.state == "opening" or (member.state == "ready" and (member.halted is None or bool(member.held)))


def differences(expected: Mapping[str, str], told: Mapping[str, str]) -> list[str]:
    """In which facts a worker differs from what is expected, one phrase each.

    Examples:
        >>> differences({"torch": "2.5.1", "cache": "reached"}, {"torch": "2.4.0", "cache": "reached", "host": "a"})
        ['torch: expected 2.5.1, got 2.4.0']
    """
    return [
        f"{name}: expected {value}, got {told.get(name, 'nothing')}"
        for name, value in expected.items()
        if told.get(name) != value
    ]
