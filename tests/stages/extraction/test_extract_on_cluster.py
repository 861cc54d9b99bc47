"""Extraction on a dask cluster: the features of one process, and no video is lost or blamed for another's death."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from clusters import cluster, on_dask
from small_dataset import extract

from cache import FeatureStore
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.extraction import on_cluster

pytest.importorskip("distributed")


def features(store: FeatureStore, namespace: str) -> dict[str, list[np.ndarray]]:
    """Everything stored of each video."""
    found = {}
    for video_id in sorted(store.video_ids(namespace)):
        reader = store.reader(namespace, video_id)
        views = [reader.features(view) for view in range(reader.shape[0])]
        found[video_id] = [*views, reader.cue(), reader.frames(), reader.times()]
    return found


def check_equal(experiment, manifest, **machine) -> list[str]:
    """Extract both splits here and on a cluster, and compare; returns what was said."""
    store, told = FeatureStore.open(experiment.paths.cache), []
    for split in ("train", "test"):
        videos = manifest.split(split)
        extract(experiment, manifest, split, videos, f"here-{split}")
        report = extract(on_dask(experiment, **machine), manifest, split, videos, f"there-{split}", say=told.append)
        assert report.extracted == tuple(video.video_id for video in videos)
        here, there = features(store, f"here-{split}"), features(store, f"there-{split}")
        assert here.keys() == there.keys()
        for video_id, arrays in here.items():
            for one, other in zip(arrays, there[video_id], strict=True):
                np.testing.assert_array_equal(one, other)
        assert not [name for name in store.objects.names(f"there-{split}") if name.startswith("reach")]
    return told


def test_features_equal_those_of_the_local_engine(experiment, manifest):
    with cluster(workers=1) as local:
        told = check_equal(experiment, manifest, scheduler=local.scheduler_address, extract_processes=2)
        assert told[0].startswith("warning: machine.extract_processes counts with machine.engine: local only")
        assert told[1] == f"working on the dask cluster {local.scheduler_address}"


def test_commands_at_once_have_tasks_of_their_own(experiment, manifest, tmp_path, monkeypatch):
    given = []
    for name in ("reach_of", "cluster_of"):
        monkeypatch.setattr(on_cluster, name, lambda *rest: nullcontext())
    monkeypatch.setattr(on_cluster, "run_tasks", lambda found, order, expected, tasks, *more: given.extend(tasks) or [])
    for folder in ("one", "two"):
        rest = "train", manifest.split("train"), "namespace", "decoder", print, print
        with on_cluster.cluster_extraction(experiment, manifest, *rest) as extracted:
            assert list(extracted([("f1", tmp_path / folder / "f1.mp4")])) == []
    assert len({task.argument for task in given}) == len({task.key for task in given}) == 2


@pytest.mark.slow
def test_features_equal_those_of_one_process(experiment, manifest):
    one = experiment.machine.model_copy(update={"threads": torch.get_num_threads()})
    told = check_equal(experiment.model_copy(update={"machine": one}), manifest, cluster_workers=2)
    assert told[0].startswith("working on the dask cluster tcp://127.0.0.1:")


@pytest.mark.slow
def test_a_video_that_kills_its_workers_and_a_broken_one_go_to_quarantine(experiment, manifest):
    videos, told = manifest.split("train"), []
    (manifest.root / "n1.mp4").write_bytes(b"no video")
    here = extract(experiment, manifest, "train", [v for v in videos if v.video_id == "n1"], "here")
    quarantine = Quarantine(experiment.paths.output / "quarantine")
    (expected,) = quarantine.records()
    quarantine.clear()
    there = extract(on_dask(experiment), manifest, "train", videos, "there", decoder="killing_decoder", say=told.append)
    assert here.quarantined == ("n1",)
    assert there.extracted == ("f1",)  # the neighbour
    assert there.quarantined == ("n1", "r1")
    broken, killer = quarantine.records()
    assert (broken.reason, broken.frame, broken.library) == (expected.reason, expected.frame, expected.library)
    assert killer.reason.endswith("r1.mp4: extracting it killed two workers that had nothing else to do")
    assert any("died; " in message for message in told)
