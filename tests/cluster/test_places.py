"""Places on a worker, without a cluster: none is left behind by a command that has ended."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.cluster import places
from pipeline.cluster.places import PlaceGone, _Places

HERE, OURS, OTHER = "tcp://worker", "ours", "other"


class Counted:
    """A place that says whether it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self.ended = threading.Event()

    def facts(self) -> dict[str, str]:
        return {"version": "1"}

    def do(self, argument: object) -> object:
        return argument

    def close(self) -> None:
        self.closed = True
        self.ended.set()


def test_a_place_whose_command_ends_while_it_is_opened_is_closed():
    opened, begun, may_end, place = _Places(), threading.Event(), threading.Event(), Counted()

    def slowly() -> Counted:
        begun.set()
        assert may_end.wait(300)
        return place

    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(opened.open, HERE, OURS, slowly)
        assert begun.wait(300)
        opened.close(HERE, OURS)
        may_end.set()
        with pytest.raises(PlaceGone, match="the command has ended while its place was opened"):
            opening.result()
    assert place.closed
    with pytest.raises(PlaceGone), opened.use(HERE, OURS):
        pass
    assert opened.open(HERE, OURS, Counted) == {"version": "1"}
    with opened.use(HERE, OURS) as there:
        assert there.do(3) == 3


def test_a_place_that_cannot_be_opened_can_be_opened_later():
    opened = _Places()

    def failing() -> Counted:
        raise ValueError("no weights")

    with pytest.raises(ValueError, match="no weights"):
        opened.open(HERE, OURS, failing)
    opened.close(HERE, OURS)
    assert opened.open(HERE, OURS, Counted) == {"version": "1"}


def test_a_place_of_a_killed_command_is_closed_when_another_one_comes(monkeypatch):
    opened, left, busy = _Places(), Counted(), Counted()
    opened.open(HERE, OURS, lambda: left)
    opened.open(HERE, OTHER, lambda: busy)
    monkeypatch.setattr(places, "IDLE_S", -1.0)
    with opened.use(HERE, OTHER):
        opened.open(HERE, "new", Counted)
    assert (left.closed, busy.closed) == (True, False)


def test_a_place_of_a_killed_command_is_closed_in_time_although_no_other_one_comes(monkeypatch):
    """It may hold a GPU."""
    monkeypatch.setattr(places, "IDLE_S", 0.01)
    monkeypatch.setattr(places, "ABANDONED_S", -1.0)
    opened, left = _Places(), Counted()
    opened.open(HERE, OURS, lambda: left)
    assert left.ended.wait(300)
    monkeypatch.setattr(places, "IDLE_S", 3600.0)
    with pytest.raises(PlaceGone), opened.use(HERE, OURS):
        pass
