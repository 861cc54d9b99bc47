"""Which process extracts which video, so that commands that run at the same time share the videos of a namespace."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from cache.names import escape
from pipeline.progress import Say
from pipeline.stages.common.outputs import locked, try_lock

__all__ = ["Claims"]


class Claims:
    """The videos of a namespace that this process holds. Use it in a `with` block, at whose end all are released.

    The locks lie in the output folder, which has some even where the cache is an object store; if the output is stored
    at a URL, all machines share them.

    Args:
        output: `paths.folder` of the experiment.
        namespace: where the features go.
    """

    def __init__(self, output: Path, namespace: str) -> None:
        self._folder = output / ".extraction" / namespace
        self._held: dict[str, ExitStack] = {}

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *error: object) -> None:
        for video_id in list(self._held):
            self.release(video_id)

    def take(self, video_id: str) -> bool:
        """Claim a video. Returns False when another process holds it."""
        stack = ExitStack()
        if not stack.enter_context(try_lock(self._path(video_id))):
            stack.close()
            return False
        self._held[video_id] = stack
        return True

    def release(self, video_id: str) -> None:
        """Let go of a video."""
        self._held.pop(video_id).close()

    def wait(self, video_id: str, say: Say) -> None:
        """Wait until no process holds a video, and say for whom.

        This process must hold none meanwhile, so that no two wait for each other.
        """
        if self._held:
            raise AssertionError(f"waiting while {sorted(self._held)} are held")
        with locked(self._path(video_id), say, f"the features of {video_id}"):
            pass

    def _path(self, video_id: str) -> Path:
        return self._folder / escape(video_id)
