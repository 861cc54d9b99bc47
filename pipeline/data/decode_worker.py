"""The other end of `pipeline.data.workers`: a process that decodes one video after another. Imports no torch.

python -m pipeline.data.decode_worker SOCKET MEMORY     (numbers of inherited file descriptors)
"""

from __future__ import annotations

import importlib
import mmap
import sys
from multiprocessing.connection import Connection
from types import ModuleType

import numpy as np

from pipeline.data.damage import Damage
from pipeline.data.following import end_with
from pipeline.data.streams import FREED_AT_ONCE, Job
from pipeline.errors import PipelineError

ATTEMPTS = 3


def main(descriptor: int, memory: int) -> None:
    """Serve jobs until the socket closes."""
    end_with(descriptor)
    connection = Connection(descriptor)
    decoder, short_side, crop, slots = connection.recv()
    size = crop * crop * 3
    ring = np.frombuffer(mmap.mmap(memory, slots * size), np.uint8).reshape(slots, crop, crop, 3)
    module = importlib.import_module(decoder)
    sender = _Sender(connection, ring)
    while True:
        job = sender.next_job()
        try:
            _decode(job, module, sender, {"short_side": short_side, "crop": crop})
        except (PipelineError, OSError, ValueError, MemoryError) as error:
            ours = isinstance(error, PipelineError)
            origin = error.__cause__ if ours else error
            library = f"{type(origin).__name__}: {origin}" if origin else None
            connection.send(("error", str(error) if ours else f"{job.path}: {library}", library))


class _Sender:
    """Puts pictures into the ring, waiting for a free place."""

    def __init__(self, connection: Connection, ring: np.ndarray) -> None:
        self._connection, self._ring = connection, ring
        self._used = self._slot = 0

    def next_job(self) -> Job:
        while True:
            message = self._connection.recv()
            if isinstance(message, Job):
                self._used = 0  # the reader has finished with, or given up, all pictures before
                return message

    def send(self, *message: object) -> None:
        self._connection.send(message)

    def frame(self, time_s: float, image: np.ndarray | None) -> None:
        slot = -1
        if image is not None:
            while self._used == len(self._ring) or self._connection.poll():
                self._connection.recv()
                self._used -= FREED_AT_ONCE
            slot = self._slot = (self._slot + 1) % len(self._ring)
            self._ring[slot] = image
            self._used += 1
        self._connection.send(("frame", time_s, slot))


def _decode(job: Job, decoder: ModuleType, sender: _Sender, options: dict[str, int]) -> None:
    header = decoder.read_header(job.path, alive=lambda: sender.send("alive"))
    sender.send("header", header)
    if job.header_only:
        sender.send("end", header.packets, Damage())
        return
    planned = max(1, header.packets)
    for _ in range(ATTEMPTS):
        wanted = None if job.select is None else frozenset(job.select(planned))
        sender.send("begin", planned)
        count, damage = 0, Damage()
        for frame in decoder.iter_frames(job.path, wanted=wanted, damage=damage, **options):
            sender.frame(frame.time_s, frame.image)
            count += 1
        if wanted is None or count == planned:
            sender.send("end", count, damage)
            return
        planned = count
    raise PipelineError(f"{job.path}: decoding it {ATTEMPTS} times gave different numbers of frames")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
