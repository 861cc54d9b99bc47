"""Processes that do not outlive the one that made them, and leave Ctrl-C to it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["deaf_to_interrupts", "end_with", "end_with_parent"]

PR_SET_PDEATHSIG = 1


def end_with(descriptor: int) -> None:
    """End this process, even one inside a library that hangs, when the other end of a pipe or socket is gone."""
    threading.Thread(target=_watch, args=(descriptor,), daemon=True).start()


def end_with_parent() -> None:
    """Have the system kill this process, forked by `multiprocessing`, when its parent ends, however that ends.

    So it releases its locks. Does nothing in a process that `multiprocessing` has not made.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:
        os._exit(1)  # it ended before


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started within this context ignore Ctrl-C.

    The terminal sends it to all of them, but only the process that made the others should act on it and end them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _watch(descriptor: int) -> None:
    watcher = select.poll()
    watcher.register(descriptor, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
    watcher.poll()
    os._exit(1)
