"""Processes that do not outlive the one that made them, and leave Ctrl-C to it.

A terminal sends Ctrl-C to every process of a command. The first one ends the work and says so; the others would each print a
traceback, so they ignore it and end when the first one does.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
from multiprocessing.connection import wait

__all__ = ["end_with", "end_with_parent"]


def end_with(descriptor: int) -> None:
    """End this process, even one inside a library that hangs, when the other end of a pipe or socket is gone.

    Call it in the main thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(descriptor,), daemon=True).start()


def end_with_parent() -> None:
    """The same for a process of `multiprocessing`, whatever ends its parent; does nothing in a process that is no such child."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive, args=(parent.sentinel,), daemon=True).start()


def _watch(descriptor: int) -> None:
    watcher = select.poll()
    watcher.register(descriptor, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
    watcher.poll()
    os._exit(1)


def _outlive(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
