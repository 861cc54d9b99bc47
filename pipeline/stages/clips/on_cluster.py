"""Clips cut by the workers of a dask cluster. They return the files, since the folder of the clips is the command's."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache import FeatureStore
from pipeline.config import Experiment
from pipeline.errors import DecodeError
from pipeline.progress import Say, silent
from pipeline.remote import RemotePath
from pipeline.stages.clips.cut import Cut, CutJob
from pipeline.stages.clips.process import in_process
from pipeline.stages.common.cluster import Work, each_video

__all__ = ["cut_on_cluster"]


@dataclass(frozen=True)
class _Made:
    """The clips of one video.

    Attributes:
        cuts: as `cut` returns them, of the worker's own files; or the error that it ended with.
        files: clip and thumbnail of each window; None for one that was not written.
        said: what the user should know.
    """

    cuts: tuple[Cut, ...] | DecodeError
    files: tuple[tuple[bytes | None, bytes | None], ...]
    said: tuple[str, ...]


def cut_on_cluster(
    experiment: Experiment, jobs: Sequence[tuple[str, CutJob]], say: Say
) -> Generator[tuple[int, Any], None, None]:
    """As `in_processes` of the jobs, (video id, job), on the workers of the experiment's cluster."""
    numbers = {video_id: number for number, (video_id, _) in enumerate(jobs)}
    videos = tuple((video_id, _absolute(job)) for video_id, job in sorted(jobs, key=lambda item: -len(item[1].windows)))
    for video_id, made in each_video(experiment, "clips", _cutting, videos, say, cached=False):
        for message in made.said:
            say(message)
        job = jobs[numbers[video_id]][1]
        for window, contents in zip(job.windows, made.files, strict=True):
            for path, content in zip((window.clip, window.thumbnail), contents, strict=True):
                if content is not None:
                    path.write_bytes(content)
        outcome = made.cuts
        if not isinstance(outcome, DecodeError):
            outcome = tuple(replace(one, clip=window.clip) for one, window in zip(outcome, job.windows, strict=True))
        yield numbers[video_id], outcome


def _cutting(experiment: Experiment, store: FeatureStore) -> Work:
    """What cuts the clips of a video on a worker."""
    return _cut


def _cut(job: CutJob) -> _Made:
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gig-clips-") as name:
        windows = tuple(
            replace(window, clip=Path(name) / window.clip.name, thumbnail=Path(name) / window.thumbnail.name)
            for window in job.windows
        )
        here = replace(job, windows=windows)
        try:
            cuts = in_process("pipeline.stages.clips.cut:cut", job.path, here, silent, said.append)
        except DecodeError as error:
            return _Made(error, ((None, None),) * len(windows), tuple(said))
        return _Made(cuts, tuple((_content(w.clip), _content(w.thumbnail)) for w in windows), tuple(said))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _absolute(job: CutJob) -> CutJob:
    return job if isinstance(job.path, RemotePath) else replace(job, path=job.path.absolute())
