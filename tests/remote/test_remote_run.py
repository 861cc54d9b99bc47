"""A whole run whose videos and cache lie in a bucket gives what the same run gives on a disk."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import boto3
import luigi
import pytest
from mock_datasets import write_images

from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.stages.common.recipes import Recipes
from tasks import EvaluateAll

VIDEOS = {"n1": "train,Normal", "f1": "train,Fighting", "f2": "train,Fighting", "n2": "train,Normal"}
VIDEOS |= {"t1": "test,Fighting", "t2": "test,Normal"}


@pytest.fixture
def data(nano, tmp_path, make_video) -> dict:
    """An experiment on a CSV data set of six small videos, one of them a folder of images, on a disk."""
    root = tmp_path / "data"
    for number, video_id in enumerate(VIDEOS):
        if video_id != "t2":
            make_video(f"data/v/{video_id}.mp4", frames=24 + number)
    write_images(root / "v/t2", frames=24)
    rows = [f"{name},v/{name}{'' if name == 't2' else '.mp4'},{facts}" for name, facts in VIDEOS.items()]
    (root / "videos.csv").write_text("video_id,path,split,label\n" + "\n".join(rows) + "\n")
    (root / "annotations.csv").write_text("video_id,label,start_frame,end_frame\nt1,Fighting,5,15\n")
    nano["dataset"] = {
        "adapter": "csv",
        "name": "mine",
        "root": str(root),
        "annotations": "annotations.csv",
        "classes": ["Fighting"],
    }
    return nano | {"runs": {"gig": {}}, "training": {"epochs": 2}}


def upload(root: Path, bucket: str) -> None:
    client = boto3.client("s3")
    for file in sorted(root.rglob("*")):
        if file.is_file():
            client.upload_file(str(file), bucket.removeprefix("s3://"), file.relative_to(root.parent).as_posix())


def scores(experiment) -> dict[str, bytes]:
    folder = Recipes(experiment).scores_folder("gig")
    return {file.name: file.read_bytes() for file in sorted(folder.rglob("*.parquet"))}


@pytest.mark.slow
def test_a_run_in_a_bucket_gives_the_scores_of_a_run_on_a_disk(data, write_config, s3_bucket, tmp_path):
    elsewhere = copy.deepcopy(data)
    upload(tmp_path / "data", s3_bucket)
    elsewhere["dataset"]["root"] = f"{s3_bucket}/data"
    elsewhere["paths"] = {"output": str(tmp_path / "remote"), "cache": f"{s3_bucket}/cache"}
    found = []
    for name, settings in (("local.yaml", data), ("remote.yaml", elsewhere)):
        task = EvaluateAll(config=str(write_config(settings, name)))
        assert luigi.build([task], local_scheduler=True, log_level="ERROR")
        found.append(scores(parse_experiment(settings)))
    assert found[0]
    assert found[0] == found[1]
    store = FeatureStore.open(f"{s3_bucket}/cache")
    local = FeatureStore.open(data["paths"]["cache"])
    namespace = Recipes(parse_experiment(elsewhere)).namespace("test")
    for video_id in ("t1", "t2"):
        there, here = (one.record(namespace, video_id).provenance["source"] for one in (store, local))
        assert there["sha256"] == here["sha256"]
        assert there["version"]
        assert "mtime_ns" not in there

    shutil.rmtree(tmp_path / "data")  # a run that was finished is finished, wherever its videos are copied from
    assert EvaluateAll(config=str(write_config(elsewhere, "remote.yaml"))).complete()
