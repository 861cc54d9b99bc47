"""Extraction by the workers of a dask cluster. They write to the shared cache; only facts come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from pipeline.cluster import Finished, Task, WorkerKilled, run_tasks
from pipeline.config import Experiment
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.errors import DecodeError, DecoderKilled
from pipeline.progress import Say
from pipeline.remote import AnyPath
from pipeline.stages.common.cluster import REACHED, agreed, cluster_of, portable, reach_of
from pipeline.stages.extraction.loop import Watch
from pipeline.stages.extraction.on_worker import Extracted, Order
from pipeline.stages.extraction.outcomes import Outcome

__all__ = ["cluster_extraction", "longest_first", "some_videos"]

LOOKED_AT = 3


def longest_first(videos: Sequence[VideoEntry]) -> list[VideoEntry]:
    """The videos so that none that takes long is begun when all others are done."""
    return sorted(videos, key=lambda video: -video.packets)


def some_videos(manifest: Manifest, videos: Sequence[VideoEntry]) -> tuple[tuple[str, int], ...]:
    """Path and bytes of a few of the videos, spread over them, that a worker must reach as this machine does."""
    chosen = videos[:: max(1, len(videos) // LOOKED_AT)][:LOOKED_AT]
    paths = [manifest.video_path(video.video_id).absolute() for video in chosen]
    return tuple((str(path), path.stat().st_size if path.is_file() else 0) for path in paths if path.exists())


@contextmanager
def cluster_extraction(
    experiment: Experiment,
    manifest: Manifest,
    split: str,
    videos: Sequence[VideoEntry],
    namespace: str,
    decoder: str,
    say: Say,
    watch: Watch,
) -> Iterator[Callable[[Iterable[tuple[str, AnyPath]]], Iterator[Outcome]]]:
    """During the block a function that extracts (id, path) of videos and yields their outcomes, as `Extractor.extract`.

    Args:
        experiment, manifest, split, namespace, decoder: see `extract_split`.
        videos: those to extract; workers that do not reach some of them get no work.
        say: told what the user should know.
        watch: told a video's id and the number of its frames decoded so far.

    Raises:
        ConfigError: dask.distributed is not installed.
        ClusterError: there is no scheduler, or no worker that can do the work.
    """
    sent = portable(experiment)
    with (
        reach_of(sent, namespace, some_videos(manifest, videos)) as reach,
        cluster_of(experiment, say) as connection,
    ):
        order = Order(sent.model_dump(mode="json"), split, namespace, decoder, reach)
        expected = agreed(sent) | {"cache": REACHED, "videos": REACHED}

        def heard(message: Mapping[str, Any]) -> None:
            for video_id, frames in message["frames"].items():
                watch(video_id, frames)

        def killed(result: Extracted) -> bool:
            outcome = result.outcome
            if not isinstance(outcome.error, DecoderKilled):
                return False
            say(f"{outcome.video_id} is tried again, alone on a worker: {outcome.error}")
            return True

        # The tag: of two commands at once, with caches of their own, each extracts its own files, whatever their names.
        tag = uuid4().hex[:8]

        def extract(claimed: Iterable[tuple[str, AnyPath]]) -> Iterator[Outcome]:
            tasks = (Task(f"gig-{tag}/{namespace}/{name}", (name, str(path.absolute()))) for name, path in claimed)
            for finished in run_tasks(connection, order, expected, tasks, heard, killed, say):
                yield _outcome(finished, say)

        yield extract


def _outcome(finished: Finished, say: Say) -> Outcome:
    video_id, path = finished.task.argument
    if isinstance(finished.error, WorkerKilled):
        return Outcome(video_id, 0, DecodeError(f"{path}: extracting it {finished.error}"))
    if finished.error is not None:
        finished.error.add_note(f"{video_id}, on worker {finished.worker} of the cluster")
        raise finished.error
    extracted: Extracted = finished.result
    for message in extracted.said:
        say(message)
    return extracted.outcome
