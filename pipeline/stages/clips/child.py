"""The other end of `pipeline.stages.clips.process`. Imports no torch.

python -m pipeline.stages.clips.child SOCKET MODULE:FUNCTION     (SOCKET: number of an inherited file descriptor)
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

import av

from pipeline.data.decoding.following import end_with
from pipeline.data.decoding.opening import limit_pixels
from pipeline.errors import OutputError, PipelineError, StorageError
from pipeline.remote import when_waiting


def main(descriptor: int, work: str) -> None:
    """Do the one job that is sent."""
    end_with(descriptor)
    connection = Connection(descriptor)
    job = connection.recv()
    limit_pixels(job.max_pixels)
    module, name = work.split(":")

    def tell(kind: str, value: object) -> None:
        connection.send((kind, value))

    when_waiting(lambda: tell("alive", None))
    try:
        result = getattr(importlib.import_module(module), name)(job, tell)
    except StorageError as error:
        tell("storage", str(error))
    except OutputError as error:
        tell("unwritten", str(error))
    except PipelineError as error:
        tell("error", str(error))
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        tell("error", f"{job.path}: {type(error).__name__}: {error}")
    else:
        tell("end", result)


if __name__ == "__main__":
    with suppress(EOFError, ConnectionError):  # nobody reads any longer
        main(int(sys.argv[1]), sys.argv[2])
