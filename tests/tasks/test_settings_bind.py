"""Settings that take long or need a machine of their own to rerun for, and those of the machine, bind."""

from __future__ import annotations

import pytest
import torch
import yaml

from pipeline.config import Run, parse_experiment
from pipeline.errors import ConfigError
from pipeline.stages.common.device import pick_device
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.sources import experiment_workers
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.train import fit_head
from tasks import ExtractFeatures


def test_the_backbone_is_part_of_the_features(nano):
    before = Recipes(parse_experiment(nano | {"backbone": {"name": "tpn_tiny", "weights": "random"}}))
    for change in ({"name": "tpn_slowonly_r50"}, {"precision": "bfloat16"}):
        after = Recipes(parse_experiment(nano | {"backbone": {"name": "tpn_tiny", "weights": "random"} | change}))
        for split in ("train", "test"):
            assert before.namespace(split) != after.namespace(split)
            assert before.features_digest(split) != after.features_digest(split)


def test_machine_settings_bind(nano, tmp_path):
    nano["machine"] = {
        "device": "cpu",
        "threads": 3,
        "batch_clips": 3,
        "decode_workers": 5,
        "decode_timeout_s": 7.0,
        "shards": 4,
    }
    experiment = parse_experiment(nano)
    threads = torch.get_num_threads()
    try:
        extractor = Extractor(experiment)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert extractor.engine.batch_clips == 3
    workers = experiment_workers(experiment)
    assert (workers.count, workers.timeout_s) == (5, 7.0)
    config = tmp_path / "machine.yaml"
    config.write_text(yaml.safe_dump(nano))
    assert [task.shard for task in ExtractFeatures(config=str(config), split="test").requires()] == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="'cuda:99' is not there"):
        pick_device("cuda:99")


def test_checkpoints_are_written_as_often_as_asked(tmp_path, monkeypatch):
    bags = Bags(("a", "b"), torch.rand(2, 1, 8), torch.rand(2, 1, 3, 8))
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    saved = []
    monkeypatch.setattr("pipeline.stages.training.train._checkpoint", lambda *state: saved.append(len(state[-1])))
    fit_head(bags, labels, Run.model_validate({"training": {"epochs": 9}}), 1, tmp_path, checkpoint_epochs=4)
    assert saved == [4, 8]
