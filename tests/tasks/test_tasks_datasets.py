"""Every shipped configuration of a published data set runs on a mock with official names, folders and files."""

from __future__ import annotations

import json
from pathlib import Path

import luigi
import pytest
import yaml
from mock_datasets import FRAMES, MOCKS
from places import ROOT

from pipeline.config import load_experiment
from pipeline.stages.common.recipes import Recipes
from tasks import EvaluateAll

SMALL = {
    "backbone": {"name": "tpn_tiny", "weights": "bundled"},
    "training": {"epochs": 2},
    "machine": {"device": "cpu", "decode_workers": 1},
}
TEST_VIDEOS = {"ucf_crime": (3, 2), "xd_violence": (3, 2), "shanghaitech": (2, 1), "cityscene": (2, 1)}


def shipped(name: str, root: Path) -> dict:
    """The configuration as shipped, on a mock and with the small backbone."""
    data = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    assert data["dataset"]["adapter"] == name
    dataset = data["dataset"] | MOCKS[name](root)
    paths = {"output": str(root.parent / "var"), "cache": str(root.parent / "cache")}
    train_sampling = data.get("train_sampling", {}) | {"segments": 4, "views": 1}
    test_sampling = data.get("test_sampling", {}) | {"stride_frames": 6}
    return (
        data
        | SMALL
        | {"dataset": dataset, "paths": paths, "train_sampling": train_sampling, "test_sampling": test_sampling}
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MOCKS)
def test_a_shipped_configuration_runs_on_a_mock(name, tmp_path, write_config):
    config = write_config(shipped(name, tmp_path / "data"))
    assert luigi.build([EvaluateAll(config=str(config))], local_scheduler=True, log_level="ERROR")
    recipes = Recipes(load_experiment(config))
    metrics = json.loads((recipes.evaluation_folder("gig") / "metrics.json").read_text())
    videos, anomalous = TEST_VIDEOS[name]
    assert (metrics["videos"], metrics["anomalous_videos"], metrics["frames"]) == (videos, anomalous, videos * FRAMES)
    assert 0 <= metrics["auc"] <= 1
    assert metrics["figures"]["frame_auc"]["low"] is not None
    assert metrics["truth"]["adapter"] == name
    assert all(len(file["sha256"]) == 64 for file in metrics["truth"]["files"])
    assert any("[20, 25)" in line for line in metrics["warnings"]) == (name == "ucf_crime")
    (row,) = json.loads((recipes.summary_folder / "summary.json").read_text())["runs"]
    assert row["auc"] == metrics["auc"]


def test_every_adapter_has_a_shipped_configuration():
    adapters = {load_experiment(path).dataset.adapter for path in (ROOT / "configs").glob("*.yaml")}
    assert set(MOCKS) <= adapters
