"""Extraction on a dask cluster: the features of one process, and no video is lost or blamed for another's death."""

from __future__ import annotations

import numpy as np
import pytest
from small_dataset import extract

from cache import FeatureStore
from pipeline.config import Experiment

pytest.importorskip("distributed")


def on_cluster(experiment: Experiment, **machine: object) -> Experiment:
    """The experiment with a cluster on this machine."""
    changed = experiment.machine.model_copy(update={"engine": "dask", "decode_workers": 2} | machine)
    return experiment.model_copy(update={"machine": changed})


def features(store: FeatureStore, namespace: str) -> dict[str, list[np.ndarray]]:
    """Everything stored of each video."""
    found = {}
    for video_id in sorted(store.video_ids(namespace)):
        reader = store.reader(namespace, video_id)
        views = [reader.features(view) for view in range(reader.shape[0])]
        found[video_id] = [*views, reader.cue(), reader.frames(), reader.times()]
    return found


@pytest.mark.slow
def test_features_equal_those_of_one_process(experiment, manifest):
    store, told = FeatureStore.open(experiment.paths.cache), []
    for split in ("train", "test"):
        videos = manifest.split(split)
        extract(experiment, manifest, split, videos, f"here-{split}")
        report = extract(
            on_cluster(experiment, cluster_workers=2), manifest, split, videos, f"there-{split}", say=told.append
        )
        assert report.extracted == tuple(video.video_id for video in videos)
        here, there = features(store, f"here-{split}"), features(store, f"there-{split}")
        assert here.keys() == there.keys()
        for video_id, arrays in here.items():
            for one, other in zip(arrays, there[video_id], strict=True):
                np.testing.assert_array_equal(one, other)
    assert any("working on the dask cluster tcp://" in message for message in told)
