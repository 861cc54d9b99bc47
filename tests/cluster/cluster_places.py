"""Places for tests of clusters, importable by workers that are processes."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from dataclasses import dataclass

from pipeline.cluster import Surroundings

begun, together = itertools.count(1), threading.Event()


@dataclass
class Doubling:
    """Doubles numbers; has stories to tell."""

    around: Surroundings
    version: str = "1"

    def facts(self) -> dict[str, str]:
        return {"version": self.version, "worker": self.around.worker}

    def do(self, argument: object) -> object:
        match argument:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case ("sleep", seconds):
                time.sleep(seconds)
                return "slept"
            case ("meet", several):  # of threads of one process
                if next(begun) == several:
                    together.set()
                assert together.wait(300)
                return None
            case "raise":
                raise ValueError("no number")
            case "tell":
                self.around.tell({"told": self.around.worker})
                return None
        return 2 * argument

    def close(self) -> None:
        pass
