"""Rendering of scripts to video files.

Drawing with numpy holds the interpreter's lock most of the time, so it is done in several processes. A renderer is a
fresh interpreter that imports numpy, PyAV and `pipeline.data`, like a decoder (`pipeline.data.decoding.pool`): it is
not forked, does not import the caller's main module, and ends with the process that started it.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

from pipeline.data.decoding.following import end_with
from pipeline.data.synthetic.script import Script
from pipeline.errors import OutputError

__all__ = ["Rendering", "render", "render_all"]

FRAMES_PER_RENDERER = 2000
"""With fewer frames, starting a process takes longer than it saves."""


@dataclass(frozen=True)
class Rendering:
    """A video to render.

    Attributes:
        script: what it shows.
        path: the file.
        size: height of the picture, pixels.
        fps: frames per second.
        width: of the picture, pixels; None for a square.
    """

    script: Script
    path: Path
    size: int
    fps: int
    width: int | None = None


def render(job: Rendering) -> None:
    """Write one H.264 file (yuv420p, one encoder thread, so the bytes repeat). It appears whole or not at all."""
    reformatter = VideoReformatter()  # one for all frames: their own reformat() sets up the conversion every time
    partial = job.path.with_name(f"{job.path.name}.partial")
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=job.fps)
        stream.width, stream.height = job.width or job.size, job.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        for image in job.script.pictures():
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(reformatter.reformat(frame, stream.width, stream.height, "yuv420p")))
        container.mux(stream.encode(None))
    os.replace(partial, job.path)


def render_all(jobs: Sequence[Rendering], progress: Callable[[int], None], processes: int | None = None) -> None:
    """Render every job. The files do not depend on the number of processes.

    Args:
        jobs: the videos.
        progress: called with the number of files done.
        processes: how many; None for one per core, at most 8, or for little work none but this one.

    Raises:
        OSError: a file cannot be written.
        OutputError: a renderer died.
    """
    if processes is None:
        frames = sum(job.script.n_frames for job in jobs)
        processes = min(8, len(os.sched_getaffinity(0)), frames // FRAMES_PER_RENDERER)
    if processes < 2:
        for done, job in enumerate(jobs, start=1):
            render(job)
            progress(done)
        return
    renderers = [_Renderer() for _ in range(processes)]
    idle: queue.SimpleQueue[_Renderer] = queue.SimpleQueue()
    for renderer in renderers:
        idle.put(renderer)

    def work(job: Rendering) -> None:
        renderer = idle.get()
        try:
            renderer.render(job)
        finally:
            idle.put(renderer)

    pool = ThreadPoolExecutor(processes)  # each thread waits for a renderer
    try:
        for done, _ in enumerate(pool.map(work, jobs), start=1):
            progress(done)
    finally:
        for renderer in renderers:
            renderer.kill()  # also wakes the thread that waits for it
        pool.shutdown(cancel_futures=True)


class _Renderer:
    """One process and the pipe to it."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.data.synthetic.rendering", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the process that made it, with which it ends
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        )
        theirs.close()

    def render(self, job: Rendering) -> None:
        """Render one video. Raises OSError, or OutputError if the process has died."""
        try:
            self._connection.send(job)
            refused = self._connection.recv()
        except (EOFError, OSError) as error:
            raise OutputError(f"{job.path}: the renderer's process died (exit code {self._process.wait()})") from error
        if refused:
            raise OSError(*refused)

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()


def _serve(descriptor: int) -> None:
    """Render what comes through the pipe; answer None, or an OSError's number, message and file."""
    end_with(descriptor)
    connection = Connection(descriptor)
    while True:
        job: Rendering = connection.recv()
        try:
            render(job)
            connection.send(None)
        except OSError as error:
            connection.send((error.errno, error.strerror, error.filename or str(job.path)))


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
