"""Jobs on videos in a process of their own, so that a video that crashes or hangs its decoder costs that video."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.errors import DecodeError
from pipeline.progress import Say

__all__ = ["TIMEOUT_S", "in_process"]

TIMEOUT_S = 120.0


def in_process(
    work: str, path: Path, job: object, watch: Callable[[int], None], say: Say, timeout_s: float = TIMEOUT_S
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
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.stages.clips.child", str(theirs.fileno()), work],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the process that made it, with which it ends
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        )
    with Connection(ours.detach()) as connection:
        try:
            connection.send(job)
            while True:
                if not connection.poll(timeout_s):
                    raise DecodeError(f"{path}: the process that decodes it gave no sign of life for {timeout_s:g} s")
                kind, value = connection.recv()
                if kind == "progress":
                    watch(value)
                elif kind == "note":
                    say(value)
                elif kind == "error":
                    raise DecodeError(value)
                else:
                    return value
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            code = process.wait()
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise DecodeError(f"{path}: the process that decodes it died ({cause})") from error
        finally:
            process.kill()
            process.wait()
