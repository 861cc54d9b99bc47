"""One video as it is being decoded in another process: what its reader sees, and the process with its ring of pictures."""

from __future__ import annotations

import math
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.data.damage import Damage
from pipeline.data.decode import Frame, VideoHeader
from pipeline.errors import DecodeError

__all__ = ["Job", "Receiver", "Select", "VideoStream", "Worker"]

SLOTS = 64
FREED_AT_ONCE = 16

Select = Callable[[int], Sequence[int]]


@dataclass(frozen=True)
class Job:
    """A video to decode.

    Attributes:
        path: file or folder of images.
        select: given the number of frames, which of them are wanted as pictures; None wants all. Asked with the planned
            number first, and, where the decoder yields another, again with that. A picklable function of a module.
        header_only: read the header and decode no more than it needs.
    """

    path: Path
    select: Select | None = None
    header_only: bool = False


class Receiver(Protocol):
    """Takes a video's frames as they come."""

    def begin(self) -> None:
        """The frames follow, from the first on; said again where the decoder yielded another number of them than was planned."""

    def frame(self, frame: Frame) -> None:
        """The next frame. Its picture is overwritten once this returns, so what is kept of it is copied."""


class VideoStream:
    """One video as it is being decoded elsewhere; read it once: with `frames` or `collect`, which wait, or with `advance`.

    Attributes:
        job: what is decoded, and how.
        worker: who does it.
        finished: whether the worker has told the end, or an error.
        closed: whether there is nothing more to be read: finished, failed, or given up by its reader.
        damage: what was passed over; known at the end.
    """

    def __init__(self, job: Job, worker: Worker, timeout_s: float) -> None:
        self.job, self.worker, self.finished, self.closed, self.damage = job, worker, False, False, Damage()
        self._timeout_s = timeout_s
        self._header: VideoHeader | None = None
        self._decoded = 0
        self._silent_since: float | None = None

    def header(self) -> VideoHeader:
        """The video's header. Raises DecodeError."""
        if self._header is None:
            self._header = self._receive("header")[0]
        return self._header

    def finish(self) -> None:
        """Wait for the end of a job that sends nothing more."""
        self._receive("end")

    def close(self) -> None:
        """Read no more of it."""
        self.closed = True

    def frames(self) -> Iterator[Frame]:
        """All frames in order. Raises DecodeError, after the frames before it."""
        self.header()
        self._receive("begin")
        while True:
            kind, values = self._next()
            if kind == "end":
                return
            time_s, slot = values
            yield Frame(self.worker.take(slot), time_s)

    def collect(self, report: Callable[[int], None] | None = None) -> tuple[list[float], dict[int, np.ndarray]]:
        """Decode to the end: presentation times of all frames, seconds, and the selected pictures by frame number.

        `report` is told the number of frames so far, after every frame. Raises DecodeError.
        """
        self.header()
        times: list[float] = []
        pictures: dict[int, np.ndarray] = {}
        while True:
            kind, values = self._next()
            if kind == "end":
                return times, pictures
            if kind == "begin":  # once more, if the decoder yielded another number of frames than was planned
                times, pictures = [], {}
                continue
            time_s, slot = values
            if slot >= 0:
                pictures[len(times)] = self.worker.take(slot)
            times.append(time_s)
            if report:
                report(len(times))

    def advance(self, receiver: Receiver, most: int) -> None:
        """Hand over what has come, `most` frames at most. Waits only where nothing has come yet. Raises DecodeError."""
        for _ in range(most):
            kind, values = self._message()
            if kind == "header":
                self._header = values[0]
            elif kind == "begin":
                receiver.begin()
            elif kind == "frame":
                time_s, slot = values
                receiver.frame(Frame(self.worker.picture(slot) if slot >= 0 else None, time_s))
                self.worker.free(slot)
            if self.closed or not self.worker.has_sent():
                return

    def due(self, has_sent: bool) -> bool:
        """Whether `advance` would not wait: the worker has sent something, or has been silent for longer than it may."""
        if has_sent:
            self._silent_since = None
            return True
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        return self.patience_s() <= 0

    def patience_s(self) -> float:
        """Seconds for which the worker may be silent yet."""
        silent_s = 0.0 if self._silent_since is None else time.monotonic() - self._silent_since
        return max(0.0, self._timeout_s - silent_s)

    def _receive(self, expected: str) -> tuple:
        kind, values = self._next()
        if kind != expected:
            raise DecodeError(f"{self.job.path}: the decoder sent {kind!r} where {expected!r} was due")
        return values

    def _next(self) -> tuple[str, tuple]:
        while True:
            kind, values = self._message()
            if kind != "alive":
                return kind, values

    def _message(self) -> tuple[str, tuple]:
        try:
            kind, *values = self.worker.receive(self.job.path, self._decoded, self.patience_s(), self._timeout_s)
        except DecodeError:
            self.closed = True
            raise
        self._silent_since = None
        if kind == "begin":
            self._decoded = 0
        elif kind == "frame":
            self._decoded += 1
        elif kind == "end":
            self.finished, self.closed, self.damage = True, True, values[1]
        elif kind == "error":
            self.finished, self.closed = True, True
            raise DecodeError(values[0], frame=self._decoded, library=values[1])
        return kind, tuple(values)


class Worker:
    """One process, its ring of pictures and its socket."""

    def __init__(self, decoder: str, short_side: int, crop: int) -> None:
        self._shape = (crop, crop, 3)
        self._slot_bytes = crop * crop * 3
        memory = os.memfd_create("gig-frames")
        ours, theirs = socket.socketpair()
        try:
            os.ftruncate(memory, SLOTS * self._slot_bytes)
            self._ring = mmap.mmap(memory, SLOTS * self._slot_bytes)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.data.decode_worker", str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            )
        finally:
            os.close(memory)
            theirs.close()
        self.connection = Connection(ours.detach())
        self.connection.send((decoder, short_side, crop, SLOTS))
        self._read = 0
        self._poll = select.poll()  # kept: the connection's own poll makes one for every question
        self._poll.register(self.connection.fileno(), select.POLLIN)

    def send(self, job: Job) -> None:
        self._read = 0
        with suppress(OSError):  # it has died; `receive` says so with the video's name
            self.connection.send(job)

    def has_sent(self) -> bool:
        """Whether `receive` would return, or raise, at once."""
        return self.connection.closed or bool(self._poll.poll(0))

    def receive(self, path: Path, decoded: int, wait_s: float, timeout_s: float) -> tuple:
        """The next message. Raises DecodeError when the process has died or says nothing for too long."""
        try:
            if self.connection.closed or self._poll.poll(math.ceil(1000 * wait_s)):
                return self.connection.recv()
            what = f"the decoder gave no sign of life for {timeout_s:g} s"
        except (EOFError, OSError):
            what = f"the decoder's process died ({_cause(self.process.wait())})"
        raise DecodeError(f"{path}: {what}, at frame {decoded}", frame=decoded)

    def picture(self, slot: int) -> np.ndarray:
        """The picture at a place of the ring (S, S, 3) uint8, until the place is free."""
        return np.frombuffer(self._ring, np.uint8, self._slot_bytes, slot * self._slot_bytes).reshape(self._shape)

    def free(self, slot: int) -> None:
        """A picture has been read; -1 for a frame that came without one. The process is told of several at once."""
        self._read += slot >= 0
        if self._read == FREED_AT_ONCE:
            self._read = 0
            with suppress(OSError):
                self.connection.send("free")

    def take(self, slot: int) -> np.ndarray:
        """A copy of a picture; its place in the ring is free again."""
        picture = self.picture(slot).copy()
        self.free(slot)
        return picture

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name + (", perhaps for want of memory" if -code == signal.SIGKILL else "")
