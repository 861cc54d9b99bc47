"""A temporary cache is gone after its use, also that of a process that was killed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal

import pytest

from pipeline.stages.extraction.scratch import scratch_store


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where temporary folders go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def killed_within() -> None:
    """A process that is killed while it uses a temporary cache."""
    child = os.fork()
    if not child:
        with scratch_store(lambda message: None):
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_it_is_removed_when_the_block_ends_with_an_error(temporary):
    def fail() -> None:
        with scratch_store(pytest.fail) as store:
            assert store.namespaces() == []
            assert len(list(temporary.iterdir())) == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(temporary.iterdir()) == []


def test_that_of_a_killed_process_is_removed_by_the_next_and_told(temporary):
    killed_within()
    (left,) = temporary.iterdir()
    (left / "cache" / "part").mkdir(parents=True)
    said: list[str] = []
    with scratch_store(said.append):
        assert not left.exists()
    assert said == [f"{left} is removed: features that a killed process has left"]
    assert list(temporary.iterdir()) == []


def test_that_of_a_process_at_work_stays(temporary):
    with scratch_store(pytest.fail):
        (first,) = temporary.iterdir()
        with scratch_store(pytest.fail):
            assert first.exists()
        assert list(temporary.iterdir()) == [first]


def test_without_locks_it_works_and_removes_nothing(temporary, monkeypatch):
    killed_within()
    (left,) = temporary.iterdir()

    def refuse(descriptor, options):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with scratch_store(pytest.fail):
        assert left.exists()
        assert not [path for path in temporary.glob("*/lock") if path.parent != left]
    assert list(temporary.iterdir()) == [left]
