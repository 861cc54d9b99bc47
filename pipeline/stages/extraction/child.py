"""One of the processes of an extraction, started by `extract_in_processes`: `python -m` this, with a socket."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

from cache.errors import CacheError
from pipeline.errors import PipelineError
from pipeline.stages.extraction.extract import extract_job
from pipeline.stages.extraction.processes import Done, Failed, Fate, Job, Said, Settled, Watched

SECONDS_BETWEEN = 0.2


class Teller:
    """Tells the process that started this one how far it is, as `Listener` in `extract` describes.

    Args:
        connection: to that process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stopped = self._waiting = False
        self._frames: dict[str, int] = {}
        self._since = 0.0
        self._turn = threading.Lock()
        threading.Thread(target=self._obey, daemon=True).start()

    @property
    def stopped(self) -> bool:
        """Whether no other videos shall be begun."""
        return self._stopped

    def note(self, message: str) -> None:
        """Nothing: what goes on is told by the process that has the whole."""

    def watch(self, video_id: str, frames: int) -> None:
        """So many frames of a video are decoded; this is a state, so it is told now and then."""
        self._frames[video_id] = frames
        if time.monotonic() - self._since > SECONDS_BETWEEN:
            self._since = time.monotonic()
            for name, count in self._frames.items():
                self.send(Watched(name, count))
            self._frames = {}

    def settled(self, video_id: str, fate: Fate) -> None:
        """A video is done."""
        self._frames.pop(video_id, None)
        self.send(Settled(video_id, fate))

    def say(self, message: str) -> None:
        """Pass on a message."""
        self.send(Said(message))

    def wait(self, video_id: str, wait: Callable[[str, Callable[[str], None]], None]) -> None:
        """Wait for the process that has a video, unless this one shall stop."""
        self._waiting = True
        if not self._stopped:
            wait(video_id, lambda message: self.send(Said(message, waiting=True)))
        self._waiting = False

    def send(self, message: Watched | Settled | Said | Failed | Done) -> None:
        """Send a message, from whichever thread."""
        with self._turn:
            self._connection.send(message)

    def _obey(self) -> None:
        """Stop when told so, and at once when the process that started this one is gone."""
        try:
            self._connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        self._stopped = True
        if self._waiting:
            os._exit(0)
        try:
            self._connection.recv()
        finally:
            os._exit(1)


def main(descriptor: int) -> None:
    """Do the job that comes through the socket."""
    connection = Connection(descriptor)
    job: Job = connection.recv()
    teller = Teller(connection)
    try:
        extract_job(job, teller)
    except (PipelineError, CacheError) as error:
        teller.send(Failed(str(error)))
    except Exception:
        teller.send(Failed(traceback.format_exc()))
    else:
        teller.send(Done())


if __name__ == "__main__":
    with suppress(EOFError, ConnectionError):  # nobody listens any longer
        main(int(sys.argv[1]))
