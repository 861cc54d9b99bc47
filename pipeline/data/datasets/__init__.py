"""Adapters, one small module per data set, that read its own files; and what the stages call for any data set.

An adapter has `read_videos(dataset, problems)` and `read_intervals(dataset, videos, problems, notes)`, which list what
the files hold, `annotation_files(dataset)`, a `VERSION`, and `PUBLISHED`: whether its annotations are published files,
which the user cannot correct.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType

from pipeline.config import CitySceneDataset, CsvDataset, ShanghaiTechDataset, UcfCrimeDataset, XdViolenceDataset
from pipeline.data.datasets import cityscene, csv, shanghaitech, ucf_crime, xd_violence
from pipeline.data.datasets.assembly import assemble
from pipeline.data.datasets.listed import NORMAL, source_files
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.frame_counts import read_frame_counts
from pipeline.data.headers import files_facts
from pipeline.data.manifest import SPLITS, Manifest, Origin
from pipeline.data.partition import Division
from pipeline.data.problems import Problems

__all__ = ["Dataset", "annotation_hashes", "build", "listing", "training_labels"]

Dataset = CsvDataset | UcfCrimeDataset | XdViolenceDataset | ShanghaiTechDataset | CitySceneDataset
ADAPTERS: dict[str, ModuleType] = {
    "csv": csv,
    "ucf_crime": ucf_crime,
    "xd_violence": xd_violence,
    "shanghaitech": shanghaitech,
    "cityscene": cityscene,
}


def build(
    dataset: Dataset,
    *,
    test_only: bool = False,
    workers: DecodeWorkers | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    divisions: Collection[Division] = (),
) -> Manifest:
    """Read and check a data set's files and the headers of all its videos.

    Args:
        dataset: the section of the configuration.
        test_only: leave the training videos out, for score tables, which hold none.
        workers: what reads the headers.
        journal: where headers are kept, see `pipeline.data.headers.read_headers`.
        progress: called as progress(done, total).
        divisions: of the training videos, which these must allow.

    Raises:
        ManifestError: with every problem found, by file and row.
    """
    adapter = ADAPTERS[dataset.adapter]
    problems = Problems()
    notes: list[str] = []
    if not dataset.frame_counts and not dataset.root.is_dir():
        looked = f" (looked from {Path.cwd()})" if isinstance(dataset.root, Path) else ", or nothing lies in it"
        problems.add("dataset.root", f"no such folder: {dataset.root}{looked}")
        problems.raise_any()
    videos = adapter.read_videos(dataset, problems)
    intervals = adapter.read_intervals(dataset, videos, problems, notes)
    counts = read_frame_counts(dataset.root / dataset.frame_counts, problems) if dataset.frame_counts else None
    if test_only:
        videos = [video for video in videos if video.split == "test"]
    if not videos:
        problems.raise_any()  # without a list, all else would be surplus
    files = source_files(dataset.root, adapter.annotation_files(dataset))
    origin = Origin(dataset.adapter, adapter.VERSION, files, clip_past_end=adapter.PUBLISHED)
    return assemble(
        dataset.root,
        dataset.classes,
        videos,
        intervals,
        problems,
        notes,
        origin,
        counts=counts,
        splits=("test",) if test_only else SPLITS,
        normal_label=dataset.normal_label if isinstance(dataset, CsvDataset) else NORMAL,
        workers=workers,
        journal=journal,
        progress=progress,
        divisions=divisions,
    )


def listing(dataset: Dataset) -> list[tuple[str, str, str, int, int | str]]:
    """A cheap identity of the videos, for digests: only the lists are read.

    Returns:
        (video_id, split, path, bytes, mtime_ns) of every video in the order of the list. A folder of images has the sum
        of its files' sizes and the newest time; what is not on disk has -1 and -1. Below a root of a storage the last
        is a version such as an ETag. Where a table of frame counts stands for the videos, the last two are the number
        of frames and -1. A list that cannot be read is empty: `build` reports why.
    """
    videos = ADAPTERS[dataset.adapter].read_videos(dataset, Problems())
    if dataset.frame_counts:
        counts = read_frame_counts(dataset.root / dataset.frame_counts, Problems())
        n_frames = {
            v.video_id: counts[v.video_id].n_frames if v.video_id in counts else v.stated_frames or -1 for v in videos
        }
        return [(v.video_id, v.split, v.path, n_frames[v.video_id], -1) for v in videos]
    facts = files_facts([dataset.root / v.path for v in videos])
    return [(v.video_id, v.split, v.path, *fact) for v, fact in zip(videos, facts, strict=True)]


def training_labels(dataset: Dataset) -> list[tuple[str, tuple[str, ...], str | None]]:
    """(video_id, labels, source) of every training video: that is all training knows of the annotations."""
    videos = ADAPTERS[dataset.adapter].read_videos(dataset, Problems())
    return [(v.video_id, v.labels, v.source) for v in videos if v.split == "train"]


def annotation_hashes(dataset: Dataset) -> tuple[int, list[tuple[str, str]]]:
    """The adapter's version and (path, SHA-256) of every annotation file that exists."""
    adapter = ADAPTERS[dataset.adapter]
    files = source_files(dataset.root, adapter.annotation_files(dataset))
    return adapter.VERSION, [(file.path, file.sha256) for file in files]
