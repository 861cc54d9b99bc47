"""One decoding process as its reader sees it: the process, its ring of pictures and its socket."""

from __future__ import annotations

import math
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Self

import numpy as np

from pipeline.data.decoding.geometry import Fit
from pipeline.data.decoding.messages import Job, Message, Settings
from pipeline.errors import DecodeError, DecoderKilled
from pipeline.remote import AnyPath

__all__ = ["SLOTS", "SharedMemory", "Worker"]

SLOTS = 64
COUNTER_BYTES = 64
KILLED = (-signal.SIGKILL, -signal.SIGTERM)


@dataclass(frozen=True)
class SharedMemory:
    """The memory that a process and its reader have in common.

    Attributes:
        counter: (1,) int64, the number of frames decoded so far.
        ring: (SLOTS, height, width, 3) uint8, places for pictures.
    """

    counter: np.ndarray
    ring: np.ndarray

    @classmethod
    def of(cls, descriptor: int, fit: Fit) -> Self:
        """Map the memory of a file descriptor, which must be of `size` bytes."""
        content = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        pictures = np.frombuffer(content, np.uint8, SLOTS * fit.height * fit.width * 3, offset=COUNTER_BYTES)
        return cls(np.frombuffer(content, np.int64, 1), pictures.reshape(SLOTS, fit.height, fit.width, 3))

    @staticmethod
    def size(fit: Fit) -> int:
        """Bytes of the counter and a ring of pictures."""
        return COUNTER_BYTES + SLOTS * fit.height * fit.width * 3


class Worker:
    """A process that decodes one video after another.

    Attributes:
        process: the process.
        connection: the reader's end of the socket.
    """

    def __init__(self, settings: Settings) -> None:
        memory = os.memfd_create("gig-frames")
        ours, theirs = socket.socketpair()
        try:
            os.ftruncate(memory, SharedMemory.size(settings.fit))
            self._shared = SharedMemory.of(memory, settings.fit)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.data.decoding.child", str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the process that made it, with which it ends
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            )
        finally:
            os.close(memory)
            theirs.close()
        self.connection = Connection(ours.detach())
        self.connection.send(settings)
        self._poll = select.poll()  # kept: the connection's own poll makes one for every question
        self._poll.register(self.connection.fileno(), select.POLLIN)

    @property
    def decoded(self) -> int:
        """The number of the video's frames that have been decoded, sent or not."""
        return int(self._shared.counter[0])

    def send(self, job: Job) -> None:
        """Start a job; the one before has ended."""
        self._shared.counter[0] = 0
        with suppress(OSError):  # the process has died; `receive` reports it with the video's name
            self.connection.send(job)

    def has_sent(self) -> bool:
        """Whether `receive` would return, or raise, at once."""
        return self.connection.closed or bool(self._poll.poll(0))

    def receive(self, path: AnyPath, wait_s: float, timeout_s: float) -> Message:
        """The next message.

        Args:
            path: the video, for errors.
            wait_s: how long to wait for the message, seconds.
            timeout_s: how long the process may be silent in all, for the error.

        Raises:
            DecoderKilled: something outside has killed the process.
            DecodeError: it has died otherwise, or says nothing for too long.
        """
        error = DecodeError
        try:
            if self.connection.closed or self._poll.poll(math.ceil(1000 * wait_s)):
                message: Message = self.connection.recv()
                return message
            what = f"the decoder gave no sign of life for {timeout_s:g} s"
        except (EOFError, OSError):
            code = self.process.wait()
            what = f"the decoder's process died ({_cause(code)})"
            error = DecoderKilled if code in KILLED else DecodeError
        raise error(f"{path}: {what}, at frame {self.decoded}", frame=self.decoded)

    def pictures(self, slot: int, count: int) -> np.ndarray:
        """Pictures at neighbouring places of the ring (count, H, W, 3) uint8, valid until the places are freed."""
        return self._shared.ring[slot : slot + count]

    def free(self, pictures: int) -> None:
        """Tell the process that so many pictures have been read."""
        if pictures:
            with suppress(OSError):
                self.connection.send(pictures)

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name + (", perhaps for want of memory" if -code == signal.SIGKILL else "")
