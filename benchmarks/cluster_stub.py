"""What the simulated workers of benchmarks/cluster.py do: they sleep."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass

import dask

from pipeline.cluster import Surroundings

__all__ = ["Sleeping", "serve_workers"]


@dataclass
class Sleeping:
    """A place whose backbone takes its time and no processor."""

    around: Surroundings

    def facts(self) -> dict[str, str]:
        """Nothing to compare."""
        return {}

    def do(self, seconds: float) -> dict[str, float]:
        """As large an answer as that of an extraction."""
        time.sleep(seconds)
        return {"frames": 30 * seconds}

    def close(self) -> None:
        """Nothing is held."""


def serve_workers(scheduler: str, count: int, slots: int) -> None:
    """Run workers in this process. A number on standard input cuts the connection of that one, as a kill does."""
    # Each worker samples its threads every 10 ms, which is too much for all of them in one process.
    with dask.config.set({"distributed.worker.profile.enabled": False}):
        asyncio.run(_serve(scheduler, count, slots))


async def _serve(scheduler: str, count: int, slots: int) -> None:
    from distributed import Worker

    workers = await asyncio.gather(
        *(
            Worker(scheduler, nthreads=slots, resources={"video": slots}, name=str(n), dashboard=False, memory_limit=0)
            for n in range(count)
        )
    )
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        workers[int(line)].batched_stream.comm.abort()
    for worker in workers:
        await worker.close(timeout=1, executor_wait=False)
