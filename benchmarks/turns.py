"""Times several ways to do one thing so that whatever slows the machine down slows all of them.

`alternate` runs one after the other. `Turns` gives each a process of its own; one runs for a short slice while the
others are paused. On a machine whose speed varies, ratios of such times are much steadier. It is not for a GPU, which
cannot be paused.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["Lap", "Turns", "Way", "alternate", "serve"]

Lap = tuple[float, int, int]
"""Seconds, what the way returned, and the peak memory of its process in MiB."""

PATIENCE_S = 20

Way = Callable[[Path], int]
"""Works on a video and returns how many windows there were."""


def alternate(ways: dict[str, Way], video: Path) -> dict[str, Lap]:
    """Run the ways one after the other in this process. A way returns when all its work is done."""
    laps = {}
    for name, way in ways.items():
        start = time.monotonic()
        made = way(video)
        laps[name] = (time.monotonic() - start, made, _peak())
    return laps


def serve(way: Way) -> None:
    """What a process of `Turns` does: run `way` on every video that is named on standard input."""
    print("ready", flush=True)
    for line in sys.stdin:
        print("done", way(Path(line.rstrip("\n"))), _peak(), flush=True)


class Turns:
    """Processes that run in alternating slices of time. Use it in a `with` block.

    Args:
        commands: name -> command that calls `serve`.
        turn_s: length of a slice, seconds.
    """

    def __init__(self, commands: dict[str, Sequence[str]], turn_s: float) -> None:
        self._turn_s = turn_s
        self._processes = {
            name: subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
            for name, command in commands.items()
        }

    def __enter__(self) -> Turns:
        for process in self._processes.values():
            _answer(process, "ready")
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes.values():
            os.killpg(process.pid, signal.SIGCONT)
            process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:  # it is still working
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def __call__(self, video: Path) -> dict[str, Lap]:
        """Run all ways on one video; the seconds are those for which each ran."""
        seconds, laps = dict.fromkeys(self._processes, 0.0), {}
        for process in self._processes.values():
            os.killpg(process.pid, signal.SIGSTOP)
            process.stdin.write(f"{video.absolute()}\n")
            process.stdin.flush()
        while waiting := {name: process for name, process in self._processes.items() if name not in laps}:
            for name, process in waiting.items():
                start = time.monotonic()
                os.killpg(process.pid, signal.SIGCONT)  # its decoders too
                done = select.select([process.stdout], [], [], self._turn_s)[0]
                seconds[name] += time.monotonic() - start
                if done:
                    made, peak = _answer(process, "done")
                    laps[name] = (seconds[name], int(made), int(peak))
                else:
                    os.killpg(process.pid, signal.SIGSTOP)
        return {name: laps[name] for name in self._processes}


def _answer(process: subprocess.Popen, word: str) -> list[str]:
    for line in process.stdout:
        first, *values = line.split()
        if first == word:
            return values
    raise RuntimeError(f"a benchmark's process ended early with exit code {process.wait()}")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
