"""The end of the thread in which zarr reads and writes.

zarr ends it when the process ends, but waits 0.2 s at most; on a busy machine that is too short, and the process prints
"RuntimeError: Cannot close a running event loop" although all is well. Here it is waited for before zarr does so.
"""

from __future__ import annotations

import atexit
import threading
from asyncio import AbstractEventLoop

from zarr.core import sync

__all__ = ["end_loop", "end_loop_in_time"]

MOST_S = 30.0


def end_loop(loop: AbstractEventLoop | None, thread: threading.Thread | None, most_s: float = MOST_S) -> None:
    """Stop an event loop that runs in a thread, and wait for the thread, but no longer than so many seconds."""
    if loop is None or thread is None or loop.is_closed() or not thread.is_alive():
        return
    loop.call_soon_threadsafe(loop.stop)
    thread.join(most_s)


def end_loop_in_time() -> None:
    """Let this process wait for zarr's thread when it ends."""
    # Registered after zarr's own, which was when zarr was imported, so that it is called first.
    atexit.register(lambda: end_loop(sync.loop[0], sync.iothread[0]))
