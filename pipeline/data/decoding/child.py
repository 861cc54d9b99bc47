"""What runs in a decoding process: it decodes one video after another. Imports no torch.

python -m pipeline.data.decoding.child SOCKET MEMORY     (numbers of inherited file descriptors)
"""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from types import ModuleType

import numpy as np

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import content_sha256
from pipeline.data.decoding.following import end_with
from pipeline.data.decoding.messages import (
    Alive,
    Begun,
    Ended,
    Failed,
    FramesSent,
    HeaderRead,
    Job,
    Message,
    Settings,
    Source,
)
from pipeline.data.decoding.opening import limit_pixels
from pipeline.data.decoding.process import SharedMemory
from pipeline.errors import PipelineError, StorageError
from pipeline.remote import AnyPath, RemotePath, when_waiting

ATTEMPTS = 3
SENT_AT_ONCE = 16
PATIENCE_S = 0.1


def main(descriptor: int, memory: int) -> None:
    """Serve jobs until the socket closes.

    Args:
        descriptor: of the socket.
        memory: descriptor of the memory shared with the reader.
    """
    end_with(descriptor)
    connection = Connection(descriptor)
    settings: Settings = connection.recv()
    limit_pixels(settings.max_pixels)
    decoder = importlib.import_module(settings.decoder)
    sender = _Sender(connection, SharedMemory.of(memory, settings.fit))
    when_waiting(lambda: sender.send(Alive()))
    while True:
        job = sender.next_job()
        try:
            _decode(job, decoder, sender, settings)
        except StorageError as error:
            sender.send(Failed(str(error), None, storage=True))
        except (PipelineError, OSError, ValueError, MemoryError) as error:
            ours = isinstance(error, PipelineError)
            origin = error.__cause__ if ours else error
            library = f"{type(origin).__name__}: {origin}" if origin else None
            sender.send(Failed(str(error) if ours else f"{job.path}: {library}", library))


class _Sender:
    """Puts pictures into the ring, waiting for a free place, and reports several frames in one message."""

    def __init__(self, connection: Connection, shared: SharedMemory) -> None:
        self._connection, self._counter, self._ring = connection, shared.counter, shared.ring
        self._used = self._slot = 0
        self._times: list[float] = []
        self._pictured: list[int] = []
        self._since = 0.0

    def next_job(self) -> Job:
        """Wait for a job. Raises EOFError when the socket closes."""
        while True:
            message = self._connection.recv()
            if isinstance(message, Job):
                self._used = 0  # the reader has read, or given up, all pictures of the job before
                return message

    def send(self, message: Message) -> None:
        """Send the frames that wait, then a message."""
        self._send_frames()
        self._connection.send(message)

    def begin(self, planned: int) -> None:
        """Report that the frames follow, from the first on."""
        self.send(Begun(planned))
        self._counter[0] = 0

    def frame(self, time_s: float, image: np.ndarray | None) -> None:
        """Add a frame, and its picture if it has one; send some frames if there are enough."""
        self._counter[0] += 1
        if image is not None:
            if self._used == len(self._ring):
                self._send_frames()  # else the reader would not know of pictures whose places it can free
            while self._used == len(self._ring) or self._connection.poll():
                self._used -= self._connection.recv()
            self._ring[self._slot + len(self._pictured)] = image
            self._pictured.append(len(self._times))
            self._used += 1
        if not self._times:
            self._since = time.monotonic()
        self._times.append(time_s)
        at_the_ring_s_end = self._slot + len(self._pictured) == len(self._ring)
        if at_the_ring_s_end or len(self._times) == SENT_AT_ONCE or time.monotonic() - self._since > PATIENCE_S:
            self._send_frames()

    def _send_frames(self) -> None:
        if self._times:
            self._connection.send(FramesSent(self._times, self._pictured, self._slot))
            self._slot = (self._slot + len(self._pictured)) % len(self._ring)
            self._times, self._pictured = [], []


def _decode(job: Job, decoder: ModuleType, sender: _Sender, settings: Settings) -> None:
    header = decoder.read_header(job.path, alive=lambda: sender.send(Alive()))
    sender.send(HeaderRead(header))
    if job.header_only:
        sender.send(Ended(header.packets, Damage()))
        return
    planned = max(1, header.packets)
    for _ in range(ATTEMPTS):
        wanted = None if job.select is None else frozenset(job.select(planned))
        sender.begin(planned)
        count, damage = 0, Damage()
        for frame in decoder.iter_frames(job.path, settings.fit, wanted=wanted, damage=damage):
            sender.frame(frame.time_s, frame.image)
            count += 1
        if wanted is None or count == planned:
            sender.send(Ended(count, damage, _source(job.path)))
            return
        planned = count
    raise PipelineError(f"{job.path}: decoding it {ATTEMPTS} times gave different numbers of frames")


def _source(path: AnyPath) -> Source | None:
    """What was read of a storage; a small file is still in memory, and is not fetched again."""
    return Source(path.version(), content_sha256(path)) if isinstance(path, RemotePath) else None


if __name__ == "__main__":
    with suppress(EOFError, ConnectionError):  # nobody reads any longer
        main(int(sys.argv[1]), int(sys.argv[2]))
