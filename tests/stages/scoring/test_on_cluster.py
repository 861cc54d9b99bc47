"""Training and scoring with a cluster give the files that they give without one."""

from __future__ import annotations

import pytest
from clusters import cluster, on_dask

from pipeline.stages.scoring.score import score_split
from pipeline.stages.training.train import train_head

pytest.importorskip("distributed")


def test_heads_and_scores_equal_those_of_the_local_engine(cached, tmp_path):
    experiment, manifest = cached
    told = []
    with cluster() as local:
        there = on_dask(experiment, scheduler=local.scheduler_address)
        for name, settings in (("here", experiment), ("there", there)):
            head, scores = tmp_path / f"head-{name}", tmp_path / f"scores-{name}"
            train_head(settings, "gig", manifest, "train", head, say=told.append)
            score_split(settings, "gig", manifest, "test", head, scores, say=told.append)
    assert len(told) == 3  # the cluster is named for statistics, bags and scores
    names = ["head-{}/head.safetensors", "head-{}/losses.csv", "scores-{}/index.json"]
    names += [f"scores-{{}}/{kind}/{video}.parquet" for kind in ("frames", "windows") for video in ("t1", "t2")]
    for name in names:
        assert (tmp_path / name.format("here")).read_bytes() == (tmp_path / name.format("there")).read_bytes(), name
