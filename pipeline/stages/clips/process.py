"""Jobs on videos in a process of their own, so that a video that crashes or hangs its decoder costs that video."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from pipeline.errors import DecodeError, OutputError, StorageError
from pipeline.progress import Say
from pipeline.remote import AnyPath

__all__ = ["TIMEOUT_S", "in_process", "in_processes"]

TIMEOUT_S = 120.0


def in_process(
    work: str, path: AnyPath, job: object, watch: Callable[[int], None], say: Say, timeout_s: float = TIMEOUT_S
) -> Any:
    """Do a job elsewhere; returns what it gives.

    Args:
        work: the function that does it, as "module:name"; called with the job and a function that it tells how far it
            is.
        path: of the video, for errors.
        job: what is sent to it.
        watch: called with the number of frames so far.
        say: told what the job has to say.
        timeout_s: seconds without a sign of life after which it counts as hung.

    Raises:
        DecodeError: the video cannot be read, or the process died or hung over it.
        OutputError: what the job makes cannot be written.
        StorageError: the storage in which the video lies fails.
    """
    ((_, outcome),) = in_processes(work, [(path, job)], 1, lambda _, frames: watch(frames), say, timeout_s)
    if isinstance(outcome, DecodeError):
        raise outcome
    return outcome


def in_processes(
    work: str,
    jobs: Sequence[tuple[AnyPath, object]],
    count: int,
    watch: Callable[[int, int], None],
    say: Say,
    timeout_s: float = TIMEOUT_S,
) -> Generator[tuple[int, Any], None, None]:
    """Do jobs elsewhere, `count` of them at once. The processes end when this is closed, or an exception passes.

    Args:
        work, say, timeout_s: as in `in_process`.
        jobs: the path of each job's video, and what is sent.
        count: processes, each with one job.
        watch: called with the number of a job, from 0, and that of its frames so far.

    Yields:
        The number of a job, and what it gave or the DecodeError that it ended with, in the order in which they end.

    Raises:
        OutputError: what a job makes cannot be written, as on a full disk.
        StorageError: the storage in which a video lies fails.
    """
    waiting = deque(enumerate(jobs))
    children: dict[Connection, _Child] = {}
    try:
        while waiting or children:
            while waiting and len(children) < count:
                number, (path, job) = waiting.popleft()
                child = _Child(work, number, path, timeout_s)
                children[child.connection] = child
                child.send(job)
            soonest = min(child.due for child in children.values())
            for connection in wait(list(children), max(0.0, soonest - time.monotonic())):
                child = children[cast(Connection, connection)]
                child.receive(watch, say)
            for child in [child for child in children.values() if child.ended()]:
                del children[child.connection]
                child.kill()
                yield child.number, child.outcome
    finally:
        for child in children.values():
            child.kill()


class _Child:
    """A process with its job.

    Attributes:
        number: of the job.
        connection: what it says comes here.
        due: when it counts as hung, by the monotonic clock.
        outcome: what the job gave, or the error that it ended with, once `ended` says so.
    """

    def __init__(self, work: str, number: int, path: AnyPath, timeout_s: float) -> None:
        self.number, self._path, self._timeout_s = number, path, timeout_s
        self.outcome: Any = None
        self._over = False
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.stages.clips.child", str(theirs.fileno()), work],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the process that made it, with which it ends
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            )
        self.connection = Connection(ours.detach())
        self.due = time.monotonic() + timeout_s

    def send(self, job: object) -> None:
        """Give it its job."""
        try:
            self.connection.send(job)
        except OSError:
            self._died()

    def receive(self, watch: Callable[[int, int], None], say: Say) -> None:
        """Take one message, which has come."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            self._died()
            return
        self.due = time.monotonic() + self._timeout_s
        if kind == "progress":
            watch(self.number, value)
        elif kind == "alive":
            return
        elif kind == "note":
            say(value)
        elif kind == "unwritten":  # no fault of the video: the others would fail too
            raise OutputError(value)
        elif kind == "storage":  # nor this
            raise StorageError(value)
        else:
            self._end(DecodeError(value) if kind == "error" else value)

    def ended(self) -> bool:
        """Whether its job is over, or it is hung."""
        if not self._over and time.monotonic() >= self.due and not self.connection.poll():
            silent = f"{self._path}: the process that decodes it gave no sign of life for {self._timeout_s:g} s"
            self._end(DecodeError(silent))
        return self._over

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self.connection.close()

    def _died(self) -> None:
        code = self._process.wait()
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._end(DecodeError(f"{self._path}: the process that decodes it died ({cause})"))

    def _end(self, outcome: Any) -> None:
        self.outcome, self._over = outcome, True
