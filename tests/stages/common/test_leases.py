"""A lease has one owner at a time, a dead owner loses it, and an owner that was overtaken publishes nothing."""

from __future__ import annotations

import json
import logging
import threading

import pytest

from cache.errors import InvalidSetting, ReadFailed, WriteFailed
from pipeline.errors import OutputError
from pipeline.stages.common import leases
from pipeline.stages.common.leases import Leases, lease_s


class Store:
    """Objects in memory, with puts under a condition."""

    url = "fake://store"

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.puts = 0
        self.reachable = self.knows_conditions = True
        self.lose_answer = False

    def conditional(self) -> bool:
        return self.knows_conditions

    def create(self, name: str, data: bytes) -> str | None:
        self._reach()
        return None if name in self.objects else self._put(name, data)

    def replace(self, name: str, data: bytes, tag: str) -> str | None:
        self._reach()
        return self._put(name, data) if self.objects.get(name, (b"", ""))[1] == tag else None

    def remove_tagged(self, name: str, tag: str) -> None:
        self._reach()
        if self.objects.get(name, (b"", ""))[1] == tag:
            del self.objects[name]

    def read_tagged(self, name: str) -> tuple[bytes, str] | None:
        if not self.reachable:
            raise ReadFailed("cut off")
        return self.objects.get(name)

    def _put(self, name: str, data: bytes) -> str | None:
        self.puts += 1
        self.objects[name] = data, f"tag {self.puts}"
        return None if self.lose_answer else f"tag {self.puts}"

    def _reach(self) -> None:
        if not self.reachable:
            raise WriteFailed("cut off")


class Time:
    """A clock that is moved by hand, and by those who sleep; while they sleep, something may happen."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.meanwhile = lambda: None

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.meanwhile()


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def time(monkeypatch):
    monkeypatch.setattr(Leases, "_keep", lambda self: None)  # renewed by hand
    return Time()


@pytest.fixture
def process(store, time):
    """Makes what a process has: its leases, of 60 seconds."""
    return lambda: Leases(store, 60, time.clock, time.sleep)


def test_one_process_holds_it_and_the_next_gets_it_when_it_is_released(store, process):
    one, two = process(), process()
    with one.hold("a", "output a") as first, two.hold("a", "output a", wait=False) as second:
        assert (first, second) == (True, False)
    assert store.objects == {}
    with two.hold("a", "output a", wait=False) as again:
        assert again


def test_a_process_that_waits_says_for_whom_and_goes_on_at_once(store, process, time, monkeypatch):
    monkeypatch.setattr(leases.socket, "gethostname", lambda: "node7")
    one, two, said = process(), process(), []
    with one.hold("a", "output a"):
        held = store.objects["a"]

        def release() -> None:
            if time.now_s > 100:  # as long as it is renewed, nobody takes it
                store.objects.pop("a", None)
            else:
                one.renew()

        time.meanwhile = release
        with two.hold("a", "the head", said.append):
            assert time.now_s < 110
            assert store.objects["a"] != held
    assert [line.split(" on ")[1] for line in said] == ["node7, which is making the head"]


def test_a_dead_owner_loses_it_after_its_own_time_and_not_before(store, process, time):
    dead = Leases(store, 300, time.clock, time.sleep)
    dead._take("a", "output a", None, wait=True)
    time.now_s = 5000  # the clock of the one that waits says nothing about when the lease was put
    with process().hold("a", "output a"):
        assert 5300 <= time.now_s < 5310


def test_all_that_a_dead_owner_held_costs_one_wait(store, process, time):
    """A killed command can leave the leases of dozens of videos behind."""
    dead, two = process(), process()
    names = [f"v{number}" for number in range(12)]
    holding = [dead.hold(name, "features") for name in names]
    for lease in holding:
        lease.__enter__()

    def free(name: str) -> bool:
        with two.hold(name, "features", wait=False) as held:
            return held

    assert not any(free(name) for name in names)
    with two.hold("v0", "features"):
        assert 60 < time.now_s < 70
    assert all(free(name) for name in names)


def test_of_two_that_take_over_from_a_dead_owner_one_gets_it(store, process, time):
    process()._take("a", "output a", None, wait=True)
    one, two = process(), process()
    with one.hold("a", "output a"), two.hold("a", "output a", wait=False) as held:
        assert not held


def test_an_owner_that_was_paused_publishes_nothing_and_leaves_the_new_owner_alone(store, process, time):
    one, two = process(), process()
    with one.hold("a", "output a"), two.hold("a", "output a"):  # the second waits for 60 s, the first does nothing
        own = store.objects["a"]
        one.renew()
        assert store.objects["a"] == own
        two.check("a")
        with pytest.raises(OutputError, match="fake://store/a: this process could not renew its lease for 60 s"):
            one.check("a")


def test_an_owner_that_is_overtaken_does_not_remove_the_new_owners_lease(store, process, time):
    one = process()
    with one.hold("a", "output a"):
        new = process()._take("a", "output a", None, wait=True)
    assert new is not None
    assert store.objects["a"][1] == new.tag


def test_an_owner_cut_off_from_the_store_loses_it_and_one_that_comes_back_in_time_does_not(store, process, time):
    one = process()
    with one.hold("a", "output a"):
        store.reachable = False
        time.now_s = 50
        one.renew()
        one.check("a")
        store.reachable = True
        one.renew()
        time.now_s = 100
        one.check("a")
        store.reachable = False
        time.now_s = 110
        one.renew()
        with pytest.raises(OutputError, match="could not renew"):
            one.check("a")
        store.reachable = True


def test_many_leases_are_renewed_at_the_same_time(store, process, time, monkeypatch):
    """A slow store would else end those that come last."""
    one, both = process(), threading.Barrier(2, timeout=300)
    replace = store.replace
    monkeypatch.setattr(store, "replace", lambda *arguments: both.wait() and None or replace(*arguments))
    with one.hold("a", "output a"), one.hold("b", "output b"):
        time.now_s = 50
        one.renew()
        time.now_s = 100
        one.check("a")
        one.check("b")


def test_puts_whose_answers_are_lost_are_known_as_ones_own(store, process, time):
    """The retry of a put that had arrived is refused: what lies there tells whose it is."""
    store.lose_answer = True
    one = process()
    with one.hold("a", "output a"):
        time.now_s = 50
        one.renew()
        time.now_s = 100
        one.check("a")
        assert json.loads(store.objects["a"][0])["beat"] == 1
    assert store.objects == {}


def test_a_lease_that_cannot_be_read_ends_too(store, process, time):
    store.objects["a"] = b"not json", "tag"
    with process().hold("a", "output a") as held:
        assert held


def test_a_store_without_puts_under_a_condition_is_warned_of_once(store, process, caplog):
    store.knows_conditions = False
    leases._warn_of_no_locks.cache_clear()
    with caplog.at_level(logging.WARNING):
        for name in "ab":
            with process().hold(name, name) as held:
                assert held
    (record,) = caplog.records
    assert record.getMessage().startswith("warning: fake://store: this store has no puts under a condition")


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_duration_that_is_no_number_of_seconds(monkeypatch, text):
    monkeypatch.setenv("GIG_LEASE_S", text)
    with pytest.raises(InvalidSetting, match=f"GIG_LEASE_S: expected a positive number of seconds, got '{text}'"):
        lease_s()
