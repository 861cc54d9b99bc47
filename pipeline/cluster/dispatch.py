"""Many independent tasks on the workers of a dask cluster, a few per worker at a time.

dask does the work of a cluster: it connects the machines, queues and runs tasks, keeps to resources, and notices who
dies. What it is not left to decide is what becomes of the tasks of a dead worker: it would run all of them elsewhere at
once, the one that killed the worker too, and in the end blame them all. So every task is given to one worker, and when
this dies, its tasks come back here. Each of them is then run alone on a worker, and only one that kills a second worker
there is given up.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pipeline.cluster.connection import Connection, briefly
from pipeline.cluster.crew import Crew, Member
from pipeline.cluster.places import Place, PlaceGone, Surroundings, work_at
from pipeline.cluster.tasks import Answer, Attempt, Done, Event, Finished, Gone, Heard, Held, Task, WorkerKilled
from pipeline.errors import ClusterError
from pipeline.progress import Say, silent

if TYPE_CHECKING:
    from distributed import Future

__all__ = ["run_tasks"]

LOOK_S = 2.0
FETCHERS, FETCH_S = 8, 60.0
"""Threads that get results from workers, and the seconds that one may take."""
MOST_ATTEMPTS = 20
"""Of one task, whatever the reasons: a task that never comes to an end is an error."""


def run_tasks(
    connection: Connection,
    factory: Callable[[Surroundings], Place],
    expected: Mapping[str, str],
    tasks: Iterable[Task],
    heard: Callable[[Mapping[str, Any]], None] = silent,
    again_alone: Callable[[Any], bool] = lambda result: False,
    say: Say = silent,
) -> Iterator[Finished]:
    """Do tasks on the workers that can do them; about two per slot of a worker are under way at a time.

    Args:
        connection: to the scheduler.
        factory: makes the place on a worker where its tasks are done; picklable, and it must be importable there.
        expected: facts that a place must tell before its worker gets work.
        tasks: asked for one by one, when a worker has room for it. Long ones should come first.
        heard: called with what places tell while they work.
        again_alone: whether a result asks for a second attempt, alone on a worker; asked once per task.
        say: told of workers that are refused or lost.

    Yields:
        Every task, when it is finished.

    Raises:
        ClusterError: the scheduler is lost, or there is no worker that can do the work.
    """
    run = _Run(connection, factory, expected, iter(tasks), heard, again_alone, say)
    try:
        yield from run.finished()
    finally:
        run.close()


class _Run:
    def __init__(
        self,
        connection: Connection,
        factory: Callable[[Surroundings], Place],
        expected: Mapping[str, str],
        tasks: Iterator[Task],
        heard: Callable[[Mapping[str, Any]], None],
        again_alone: Callable[[Any], bool],
        say: Say,
    ) -> None:
        self._connection, self._tasks, self._heard, self._say = connection, tasks, heard, say
        self._again_alone = again_alone
        self._token = f"gig-{uuid.uuid4().hex}"
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._crew = Crew(
            connection,
            self._token,
            factory,
            expected,
            say,
            lambda member, told: self._events.put(Answer(member, told)),
        )
        self._again: deque[Attempt] = deque()
        self._suspects: deque[Attempt] = deque()
        self._over = False
        self._looked = -LOOK_S
        client = connection.client
        client.subscribe_topic("all", self._on_cluster_event)
        client.subscribe_topic(self._token, lambda event: self._events.put(Heard(event[1])))

    def close(self) -> None:
        """Cancel what is under way, close the places, and listen no more."""
        client = self._connection.client
        futures = [held.future for member in self._crew.members.values() for held in member.held.values()]

        def let_go() -> None:
            client.cancel(futures)
            for topic in ("all", self._token):
                client.unsubscribe_topic(topic)

        self._fetchers.shutdown(wait=False, cancel_futures=True)
        if client.status == "running":
            briefly(let_go, 2)
        self._crew.close()

    def finished(self) -> Iterator[Finished]:
        """Give out tasks and yield them as they end."""
        self._look()
        while True:
            self._fill()
            if self._over and not self._under_way():
                return
            self._crew.check()
            try:
                event = self._events.get(timeout=LOOK_S / 4)
            except queue.Empty:
                event = None
            yield from self._react(event)
            if time.monotonic() - self._looked >= LOOK_S:
                yield from self._look()

    def _under_way(self) -> bool:
        return bool(self._again or self._suspects or any(member.held for member in self._crew.members.values()))

    def _on_cluster_event(self, event: tuple[float, Mapping[str, Any]]) -> None:
        message = event[1]
        if message.get("action") == "remove-worker":
            self._events.put(Gone(message["worker"], bool(message.get("expected"))))
        elif message.get("action") == "add-worker":
            self._looked = -LOOK_S  # look soon

    def _look(self) -> list[Finished]:
        self._looked = time.monotonic()
        return [end for member, expected in self._crew.look() for end in self._take_back(member, expected)]

    def _react(self, event: Event | None) -> list[Finished]:
        match event:
            case Done():
                return self._done(event)
            case Answer(member, told):
                self._crew.answer(member, told)
            case Gone(address, expected):
                if left := self._crew.leave(address):
                    return self._take_back(left, expected)
            case Heard(message):
                self._heard(message)
        return []

    # Giving out

    def _fill(self) -> None:
        ready = self._crew.ready()
        self._reserve(ready)
        for member in ready:
            if member.reserved and not member.held and member.room > 0 and self._suspects:
                self._submit(member, self._suspects.popleft())
        while roomy := [member for member in ready if not member.reserved and member.room > 0]:
            attempt = self._next()
            if attempt is None:
                return
            self._submit(max(roomy, key=lambda member: member.share), attempt)

    def _reserve(self, ready: list[Member]) -> None:
        """Keep as many workers free of ordinary tasks as there are suspects, but most of them at their usual work."""
        alone = [member for member in ready if any(held.attempt.alone for held in member.held.values())]
        wanted = min(max(1, len(ready) // 4), len(alone) + len(self._suspects))
        for member in ready:
            member.reserved = member in alone or (member.reserved and bool(self._suspects))
        reserved = sum(member.reserved for member in ready)
        for member in sorted((m for m in ready if not m.reserved), key=lambda m: len(m.held))[: wanted - reserved]:
            member.reserved = True

    def _next(self) -> Attempt | None:
        if self._again:
            return self._again.popleft()
        if self._over:
            return None
        task = next(self._tasks, None)
        self._over = task is None
        return None if task is None else Attempt(task)

    def _submit(self, member: Member, attempt: Attempt) -> None:
        attempt.number += 1
        key = attempt.task.key
        if attempt.number > MOST_ATTEMPTS:
            raise ClusterError(f"{key}: was given to workers {MOST_ATTEMPTS} times and did not come to an end")
        future = self._connection.client.submit(
            work_at,
            self._token,
            attempt.task.argument,
            key=key if attempt.number == 1 else f"{key}#{attempt.number}",
            pure=False,
            retries=0,
            resources={self._connection.resource: 1},
            workers=[member.address],
            allow_other_workers=False,
        )
        member.held[key] = Held(attempt, future)
        future.add_done_callback(lambda done: self._fetch_in_turn(member, done))

    # Taking back

    def _fetch_in_turn(self, member: Member, future: Future) -> None:
        with suppress(RuntimeError):  # the run has ended
            self._fetchers.submit(self._fetch, member, future)

    def _fetch(self, member: Member, future: Future) -> None:
        """Get the end of a task, in a thread: that can take long, above all when the worker has just died."""
        result, error = None, None
        try:
            if future.status == "finished":
                result = future.result(timeout=FETCH_S)
            elif future.status == "error":
                error = future.exception(timeout=FETCH_S)
            else:
                error = TimeoutError()
        except BaseException as failure:  # cancelled in the meantime, for example: the one who waits for it decides
            error = failure
        self._events.put(Done(member, future, result, error))

    def _done(self, end: Done) -> list[Finished]:
        member, error = end.member, end.error
        held = next((held for held in member.held.values() if held.future is end.future), None)
        if held is None or self._crew.members.get(member.address) is not member:
            return []  # it was taken back
        self._connection.check()
        attempt = held.attempt
        del member.held[attempt.task.key]
        end.future.release()
        if isinstance(error, TimeoutError | CancelledError):  # it was cancelled by others, or the worker is dying
            self._once_more(attempt)
            return []
        if isinstance(error, PlaceGone):
            self._once_more(attempt)
            returned = self._take_back(member, expected=True)
            self._crew.reopen(member)
            return returned
        if _is_dasks_blame(error):
            return self._suspect(attempt, member, single=not member.held)
        if error is not None and not isinstance(error, Exception):
            raise error
        if error is None and not attempt.alone and self._again_alone(end.result):
            attempt.alone = True
            self._once_more(attempt)
            return []
        return [Finished(attempt.task, end.result, error, member.name)]

    def _take_back(self, member: Member, expected: bool) -> list[Finished]:
        """What a worker has that is gone: it goes elsewhere, or is suspected of its death."""
        held = list(member.held.values())
        member.held.clear()
        if not held:
            return []
        briefly(lambda: self._connection.client.cancel([one.future for one in held]), 2)
        if expected:
            for one in held:
                self._once_more(one.attempt)
            return []
        alone = held[0].attempt.alone
        self._say(
            f"warning: worker {member.name} on {member.host} died over {held[0].attempt.task.key}"
            if alone
            else f"warning: worker {member.name} on {member.host} died; {len(held)} task(s) that it had are tried "
            "again, each alone on a worker"
        )
        return [end for one in held for end in self._suspect(one.attempt, member, single=len(held) == 1)]

    def _suspect(self, attempt: Attempt, member: Member, single: bool) -> list[Finished]:
        """A worker died over a task, which was its only one (`single`), or over several: then it may be innocent."""
        attempt.deaths += single
        if attempt.deaths > 1:
            error = WorkerKilled("killed two workers that had nothing else to do")
            return [Finished(attempt.task, None, error, member.name)]
        attempt.alone = True
        self._once_more(attempt)
        return []

    def _once_more(self, attempt: Attempt) -> None:
        (self._suspects if attempt.alone else self._again).append(attempt)


def _is_dasks_blame(error: BaseException | None) -> bool:
    from distributed import KilledWorker

    return isinstance(error, KilledWorker)
