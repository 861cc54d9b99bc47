"""Reduced features on disk, for runs that share a reduction: the maps are read once, not once per run.

`train.safetensors` holds the bags of the training videos that are used with the channel statistics,
`<key>.safetensors` the vectors of a test video's windows. Both are float32, so that heads and scores are the same as
those made from the maps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cache import FeatureStore
from cache.names import escape
from pipeline.config import Experiment
from pipeline.data.manifest import Manifest
from pipeline.errors import PipelineError
from pipeline.hashing import file_sha256
from pipeline.models.reduction import Standardizer
from pipeline.progress import Progress, Say, silent
from pipeline.stages.common.outputs import keep_if_made_from, whole_file
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.on_cluster import reduction_of
from pipeline.stages.training.reduce import reduce_bags
from pipeline.stages.training.training_set import held_out_videos, training_standardizer, used_videos
from pipeline.stages.training.windows import ReducedWindows, reduce_windows

__all__ = ["read_training", "read_windows", "write_test", "write_training"]

FILE = "train.safetensors"


def write_training(
    experiment: Experiment,
    run_name: str,
    manifest: Manifest,
    namespace: str,
    folder: Path,
    progress: Progress | None = None,
    say: Say = silent,
) -> None:
    """Reduce the training videos as a run needs them, and write them to `folder`.

    Not for a run whose head takes maps: it has no reduction to share.
    """
    run, store = experiment.run(run_name), FeatureStore.open(experiment.paths.cache)
    entries = used_videos(run, manifest.split("train"))
    reduction, held_out = reduction_of(experiment, store, namespace, say), held_out_videos(run, manifest.split("train"))
    standardizer = training_standardizer(run, store, namespace, entries, held_out, progress, reduction)
    ids = [entry.video_id for entry in entries]
    bags = reduce_bags(store, namespace, ids, run.head, standardizer, progress, reduction)
    assert isinstance(bags, Bags), "a head that takes maps has no reduction to share"
    tensors = {"cues": bags.cues, "patterns": bags.patterns}
    if standardizer:
        tensors |= {"mean": standardizer.mean, "std": standardizer.std}
    with whole_file(folder / FILE) as partial:
        save_file(tensors, partial, metadata={"video_ids": json.dumps(bags.video_ids)})


def read_training(folder: Path, offset: float) -> tuple[Bags, Standardizer | None]:
    """The bags, and the channel statistics if there are any.

    The file is mapped, so processes that read it share its memory.
    """
    path = folder / FILE
    with safe_open(path, framework="pt") as stream:
        video_ids = tuple(json.loads(stream.metadata()["video_ids"]))
    tensors = load_file(path)
    standardizer = Standardizer(tensors["mean"], tensors["std"], offset) if "mean" in tensors else None
    return Bags(video_ids, tensors["cues"], tensors["patterns"]), standardizer


def write_test(
    experiment: Experiment,
    run_name: str,
    manifest: Manifest,
    namespace: str,
    training: Path,
    folder: Path,
    progress: Progress | None = None,
) -> None:
    """Reduce the test videos as a run needs them, and write one file per video to `folder`.

    Files that an interrupted run left are kept if they were made with the same training videos' statistics. `training`
    is the folder of the same reduction's training videos.
    """
    run, store = experiment.run(run_name), FeatureStore.open(experiment.paths.cache)
    _, standardizer = read_training(training, run.head.standardize_offset)
    videos = manifest.split("test")
    keep_if_made_from(folder, file_sha256(training / FILE))
    for number, entry in enumerate(videos):
        path = folder / f"{escape(entry.video_id)}.safetensors"
        if progress:
            progress(number, len(videos), f"reducing {entry.video_id}")
        if path.exists():
            continue
        pieces = list(reduce_windows(store, namespace, entry.video_id, run.head, standardizer))
        tensors = {
            "cue": pieces[0].cue.contiguous(),
            "vectors": torch.cat([piece.vectors for piece in pieces], dim=1).contiguous(),
            "positions": torch.cat([piece.positions for piece in pieces], dim=1).contiguous(),
            "relations": torch.cat([piece.relations for piece in pieces], dim=1).contiguous(),
        }
        with whole_file(path) as partial:
            save_file(tensors, partial)


def read_windows(folder: Path, video_id: str) -> Iterator[ReducedWindows]:
    """All windows of a test video at once, from its file. Raises PipelineError where there is none."""
    path = folder / f"{escape(video_id)}.safetensors"
    if not path.is_file():
        raise PipelineError(f"{video_id}: no reduced features in {folder}")
    tensors = load_file(path)
    yield ReducedWindows(*(tensors[name] for name in ReducedWindows._fields))
