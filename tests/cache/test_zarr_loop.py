"""zarr's thread is waited for at the end of a process."""

from __future__ import annotations

import asyncio
import threading
import time

from cache.zarr_loop import end_loop


def test_a_loop_that_ends_slowly_can_be_closed():
    loop, begun = asyncio.new_event_loop(), threading.Event()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def busy() -> None:  # longer than the 0.2 s that zarr waits
        begun.set()
        time.sleep(0.5)

    loop.call_soon_threadsafe(busy)
    begun.wait()
    end_loop(loop, thread)
    loop.close()  # raises RuntimeError while it runs
    end_loop(loop, thread)  # what has ended is left alone
    end_loop(None, None)
