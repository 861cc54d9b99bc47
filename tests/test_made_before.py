"""What a version before this one made is found and used: nothing is extracted or trained again.

`before/made` holds what the version before the packages were rearranged made of `before/before.yaml`, without the
videos; the scores are of the version that keeps the relation maps of generated data sets. Where a stage's number in
`VERSIONS` is raised on purpose, its folder here is another one by intent: then make the folder again with the version
that raised it.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import yaml
from places import ROOT

from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.scoring.score import score_split
from pipeline.stages.scoring.tables import read_scores
from pipeline.workflow import ExtractFeatures, ScoreVideos, TrainHead, ensure, usable_manifest

BEFORE = ROOT / "tests" / "before"


@pytest.fixture
def recipes(tmp_path) -> Recipes:
    shutil.copytree(BEFORE / "made", tmp_path / "made")
    data = yaml.safe_load((BEFORE / "before.yaml").read_text(encoding="utf-8"))
    data["paths"] = {"output": str(tmp_path / "made"), "cache": str(tmp_path / "made" / "cache")}
    return Recipes(parse_experiment(data))


@contextmanager
def nothing_is_made(step):
    pytest.fail(f"{step.title} is made again")
    yield


def test_every_step_is_found(recipes):
    steps = [ExtractFeatures(recipes, "train"), TrainHead(recipes, "gig"), ScoreVideos(recipes, "gig")]
    for step in steps:
        assert ensure(step, nothing_is_made).is_dir()


def test_the_cache_is_whole(recipes):
    store = FeatureStore.open(recipes.experiment.paths.cache)
    for split, videos in (("train", 2), ("test", 1)):
        namespace = recipes.namespace(split)
        assert len(store.video_ids(namespace)) == videos
        assert list(store.verify(namespace)) == []


def test_the_head_gives_the_scores_that_it_gave(recipes, tmp_path):
    experiment, manifest = recipes.experiment, usable_manifest(recipes)
    score_split(experiment, "gig", manifest, recipes.namespace("test"), recipes.head_folder("gig"), tmp_path / "again")
    (before, frames), (after, again) = (
        read_scores(folder, manifest.classes) for folder in (recipes.scores_folder("gig"), tmp_path / "again")
    )
    assert frames == again
    for video_id, scores in before.items():
        np.testing.assert_allclose(after[video_id], scores, rtol=0, atol=1e-5)  # another processor may round otherwise
