"""Tasks on a cluster, without videos: windows, refusals, deaths and their blame. Most workers are threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest
from cluster_places import Doubling
from clusters import cluster

from pipeline.cluster import Connection, Task, WorkerKilled, connected, run_tasks
from pipeline.cluster.crew import WINDOW, Member, differences
from pipeline.cluster.dispatch import _Run
from pipeline.cluster.tasks import Attempt
from pipeline.errors import ClusterError, ConfigError

pytest.importorskip("distributed")


def no_workers() -> None:
    raise AssertionError("a scheduler is given")


@contextmanager
def connection(address: str, wait_s: float = 300.0) -> Iterator[Connection]:
    """A connection that waits so long for workers, and for the scheduler as long as a busy machine needs."""
    with connected(address, "video", 300.0, no_workers) as found:
        yield replace(found, wait_s=wait_s)


def test_tasks_are_done_and_wrong_workers_refused():
    told, heard = [], []
    with cluster(2, 2) as local, connection(local.scheduler_address) as found:
        asked = []

        def tasks() -> Iterator[Task]:
            for number in range(2 * WINDOW + 1):  # more than one worker is given, and three of them wait for each other
                yield Task(f"space/meet-{number}", ("meet", 3))
            for number in range(30):
                asked.append(number)
                yield Task(f"space/{number}", number)
            yield Task("space/tell", "tell")
            yield Task("space/bad", "raise")

        ends = {}
        for end in run_tasks(found, Doubling, {"version": "1"}, tasks(), heard.append, say=told.append):
            ends[end.task.key] = end
            assert len(asked) - len(ends) <= 2 * 2 * WINDOW  # no more are under way than the workers have room for
        assert [ends[f"space/{number}"].result for number in range(30)] == [2 * number for number in range(30)]
        assert {end.worker for end in ends.values()} == {"0", "1"}
        assert isinstance(ends["space/bad"].error, ValueError)
        assert heard[0]["told"] in {"0", "1"}
        assert not told

    with cluster(1, 1) as local, connection(local.scheduler_address, wait_s=0.5) as found:
        with pytest.raises(ClusterError, match="worker 0 on 127.0.0.1: version: expected 2, got 1"):
            list(run_tasks(found, Doubling, {"version": "2"}, [Task("space/0", 0)], say=told.append))
        assert told == ["warning: worker 0 on 127.0.0.1 gets no work: version: expected 2, got 1"]


@pytest.mark.slow
def test_a_resource_that_no_worker_has_is_an_error():
    with cluster(1, 1, resource="picture") as local, connection(local.scheduler_address, wait_s=0.5) as found:
        with pytest.raises(ClusterError, match="the resource 'video'") as raised:
            list(run_tasks(found, Doubling, {}, [Task("space/0", 0)]))
        assert "worker 0: offers {'picture': 1" in str(raised.value)


@pytest.mark.slow
def test_workers_that_come_late_work_and_those_that_leave_are_replaced():
    tasks = [Task(f"space/{number}", ("sleep", 0.2)) for number in range(40)]
    workers = []
    with cluster(1, 2) as local, connection(local.scheduler_address) as found:
        for number, end in enumerate(run_tasks(found, Doubling, {"version": "1"}, tasks)):
            assert end.error is None
            workers.append(end.worker)
            if number == 4:
                local.scale(2)
            if number == 20:
                local.sync(local.scheduler.retire_workers, names=[0])
    assert len(workers) == 40
    assert set(workers) == {"0", "1"}
    assert set(workers[-5:]) == {"1"}


def test_no_scheduler_is_an_error():
    answer = pytest.raises(ClusterError, match="tcp://127.0.0.1:1: no dask scheduler answers within")
    with answer, connected("tcp://127.0.0.1:1", "video", 0.5, no_workers):
        pass


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'gig-vad\[cluster\]'"), connected(None, "video", 1, no_workers):
        pass


def test_differences_name_what_was_expected():
    assert differences({"a": "1", "b": "2"}, {"a": "1"}) == ["b: expected 2, got nothing"]


class Submitted:
    """Stands for a cluster whose tasks never end by themselves."""

    class client:
        status = "running"
        subscribe_topic = unsubscribe_topic = cancel = staticmethod(lambda *args, **kwargs: None)

        @staticmethod
        def submit(*args, **kwargs):
            return type("Future", (), {"add_done_callback": lambda self, call: None, **kwargs})()

    scheduler, resource, wait_s, grows = "tcp://head:8786", "video", 0.0, True
    known: ClassVar[dict] = {}

    @classmethod
    def workers(cls):
        return cls.known


def run_with(members: list[Member], tasks: list[Task]) -> _Run:
    run = _Run(Submitted, Doubling, {}, iter(tasks), lambda message: None, lambda result: False, lambda message: None)
    run._crew.members = {member.address: member for member in members}
    return run


def ready(name: str, slots: int = 2) -> Member:
    return Member(f"tcp://{name}", name, name, slots, state="ready")


def names(member: Member) -> list[str]:
    return sorted(held.attempt.task.key for held in member.held.values())


def test_a_task_that_kills_two_workers_is_given_up_and_no_neighbour_is():
    a, b = ready("a"), ready("b")
    run = run_with([a, b], [Task(str(number), number) for number in range(12)])
    run._fill()
    assert len(a.held) == len(b.held) == 2 * WINDOW  # two per slot
    assert list(a.held.values())[0].future.workers == ["tcp://a"]
    assert list(a.held.values())[0].future.resources == {"video": 1}
    suspects = names(a)

    assert run._take_back(run._crew.leave(a.address), expected=False) == []
    b.held.clear()  # its own are done
    run._fill()
    assert len(b.held) == 1  # a suspect, and nothing beside it
    (culprit,) = names(b)
    assert culprit in suspects
    assert list(b.held.values())[0].future.key == f"{culprit}#2"

    assert run._take_back(run._crew.leave(b.address), expected=False) == []  # it may have died of something else
    c = ready("c")
    run._crew.members = {c.address: c}
    for _ in range(3):  # the neighbours, one after the other, which do no harm
        run._fill()
        (neighbour,) = names(c)
        assert neighbour in suspects
        assert neighbour != culprit
        c.held.clear()
    run._fill()
    assert names(c) == [culprit]
    (end,) = run._take_back(run._crew.leave(c.address), expected=False)
    assert end.task.key == culprit
    assert isinstance(end.error, WorkerKilled)

    d = ready("d")
    run._crew.members = {d.address: d}
    run._fill()
    assert len(d.held) == 2 * WINDOW  # work as usual


def test_a_worker_that_takes_its_leave_is_not_blamed_on_its_tasks():
    a, b = ready("a"), ready("b")
    run = run_with([a, b], [Task(str(number), number) for number in range(8)])
    run._fill()
    left = names(a)
    assert run._take_back(run._crew.leave(a.address), expected=True) == []
    b.held.clear()
    run._fill()
    assert names(b) == left


def test_most_workers_go_on_while_some_are_kept_for_suspects():
    members = [ready(str(number), slots=1) for number in range(8)]
    run = run_with(members, [Task(str(number), number) for number in range(100)])
    for number in range(4):
        attempt = Attempt(Task(f"suspect {number}", number), deaths=1, alone=True)
        run._suspects.append(attempt)
    run._fill()
    alone = [member for member in members if any(held.attempt.alone for held in member.held.values())]
    assert len(alone) == 2  # a quarter
    assert all(len(member.held) == 1 for member in alone)
    assert all(len(member.held) == WINDOW for member in members if member not in alone)


def test_a_worker_that_pauses_for_ever_is_not_waited_for(monkeypatch):
    a, b = ready("a"), ready("b")
    run = run_with([a, b], [Task(str(number), number) for number in range(8)])
    run._fill()
    left = names(a)
    facts = {"name": "a", "host": "a", "nthreads": 2, "resources": {"video": 2}}
    paused, well = {**facts, "status": "paused"}, {**facts, "status": "running"}
    monkeypatch.setattr(Submitted, "known", {a.address: paused, b.address: well})
    run._look()
    time.sleep(0.01)
    run._look()
    assert a.address not in run._crew.members
    assert sorted(attempt.task.key for attempt in run._again) == left

    a.held.clear()
    run._crew.members = {a.address: a}
    monkeypatch.setattr(Submitted, "wait_s", 60.0)
    run._crew.check()
    monkeypatch.setattr(Submitted, "wait_s", 0.0)
    with pytest.raises(ClusterError, match="worker a on a: it does no new task"):
        run._crew.check()


class Asked:
    """A client whose scheduler is too busy to answer the first questions."""

    status = "running"

    def __init__(self, unanswered: int) -> None:
        self.unanswered, self.scheduler = unanswered, self

    identity = None

    def sync(self, question: object, **options: object) -> dict[str, object]:
        self.unanswered -= 1
        if self.unanswered >= 0:
            raise TimeoutError
        return {"workers": {"tcp://a": {}}}


def test_a_busy_scheduler_is_asked_again_and_a_silent_one_is_lost(monkeypatch):
    monkeypatch.setattr("pipeline.cluster.connection.ASK_AGAIN_S", 0.0)
    patient = Connection(Asked(3), "tcp://busy", "video", 60.0, False, None)
    assert patient.workers() == {"tcp://a": {}}
    monkeypatch.setattr("pipeline.cluster.connection.ANSWER_S", 0.0)
    with pytest.raises(ClusterError, match="tcp://silent: the connection .* is lost, or it has not answered for 0 s"):
        Connection(Asked(10**9), "tcp://silent", "video", 0.0, False, None).workers()
    gone = Asked(10**9)
    gone.status = "closed"
    with pytest.raises(ClusterError, match="tcp://gone: the connection to the dask scheduler is lost; what"):
        Connection(gone, "tcp://gone", "video", 60.0, False, None).workers()


@pytest.mark.slow
def test_a_killer_is_found_among_its_neighbours():
    """Worker processes, one of whose tasks kills its process."""
    from pipeline.cluster import LocalWorkers

    tasks = [Task(f"space/{number}", number) for number in range(12)]
    tasks.insert(3, Task("space/killer", "die"))
    with connected(None, "video", 60, lambda: LocalWorkers([{}, {}], 2)) as found:
        ends = {end.task.key: end for end in run_tasks(found, partial(Doubling), {"version": "1"}, tasks)}
    assert len(ends) == 13
    assert isinstance(ends.pop("space/killer").error, WorkerKilled)
    assert [ends[f"space/{number}"].result for number in range(12)] == [2 * number for number in range(12)]


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_run():
    with cluster(1, 1) as local, connection(local.scheduler_address, wait_s=5) as found:
        run = run_tasks(found, Doubling, {}, (Task(str(number), ("sleep", 0.1)) for number in range(100)))
        next(run)
        local.sync(local.scheduler.close)
        with pytest.raises(ClusterError, match="the connection to the dask scheduler is lost"):
            list(run)
