"""Rendering of scripts to video files, in processes of their own: drawing with numpy holds the interpreter's lock most
of the time.

A renderer is a fresh interpreter that imports numpy, PyAV and `pipeline.data`, as a decoder is
(`pipeline.data.decoding.pool`): it is not forked, does not import the caller's main module, and ends with the process
that started it.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

from pipeline.data.decoding.following import end_with
from pipeline.data.synthetic.script import Script
from pipeline.errors import OutputError

__all__ = ["Job", "render", "render_all"]

FRAMES_PER_RENDERER = 2000
"""A process of its own does not pay for fewer."""

Job = tuple[Script, Path, int, int]
"""What to render: script, file, side of the picture in pixels, frames a second."""


def render(script: Script, path: Path, size: int, fps: int) -> None:
    """Write one H.264 file (yuv420p, one encoder thread, so the bytes repeat). It appears whole or not at all."""
    reformatter = VideoReformatter()  # one a video: a frame's own reformat() sets the conversion up again every time
    partial = path.with_name(f"{path.name}.partial")
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        for image in script.pictures():
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(reformatter.reformat(frame, size, size, "yuv420p")))
        container.mux(stream.encode(None))
    os.replace(partial, path)


def render_all(jobs: Sequence[Job], progress: Callable[[int], None], processes: int | None = None) -> None:
    """Render every job; which process renders what makes no difference to the files.

    Args:
        jobs: scripts and files.
        progress: called with the number of files done.
        processes: how many; None for as many as there are cores, at most 8, and none for little work.

    Raises:
        OSError: a file cannot be written.
        OutputError: a renderer died.
    """
    if processes is None:
        frames = sum(job[0].frames for job in jobs)
        processes = min(8, len(os.sched_getaffinity(0)), frames // FRAMES_PER_RENDERER)
    if processes < 2:
        for done, job in enumerate(jobs, start=1):
            render(*job)
            progress(done)
        return
    renderers = [_Renderer() for _ in range(processes)]
    idle: queue.SimpleQueue[_Renderer] = queue.SimpleQueue()
    for renderer in renderers:
        idle.put(renderer)

    def work(job: Job) -> None:
        renderer = idle.get()
        try:
            renderer.render(job)
        finally:
            idle.put(renderer)

    pool = ThreadPoolExecutor(processes)  # a thread waits for each renderer
    try:
        for done, _ in enumerate(pool.map(work, jobs), start=1):
            progress(done)
    finally:
        for renderer in renderers:
            renderer.kill()  # a thread that waits for one is told so
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

    def render(self, job: Job) -> None:
        try:
            self._connection.send(job)
            refused = self._connection.recv()
        except (EOFError, OSError) as error:
            raise OutputError(f"{job[1]}: the renderer's process died (exit code {self._process.wait()})") from error
        if refused:
            raise OSError(*refused)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _serve(descriptor: int) -> None:
    """Render what comes through the pipe; answer None, or the system's error (errno, message, file)."""
    end_with(descriptor)
    connection = Connection(descriptor)
    while True:
        job = connection.recv()
        try:
            render(*job)
            connection.send(None)
        except OSError as error:
            connection.send((error.errno, error.strerror, error.filename or str(job[1])))


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
