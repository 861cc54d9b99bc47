"""What a worker of a cluster makes of the settings that it is sent."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from pipeline.config import parse_experiment
from pipeline.config.mirrors import mirror_folder
from pipeline.stages.common.cluster import agreed, portable, unpacked
from pipeline.stages.common.outputs import make_folder


def test_fine_tuned_weights_that_are_stored_at_a_url_come_to_the_worker(nano, tmp_path):
    url = f"memory://tuned-{tmp_path.name}"

    def tuned(scratch: str) -> Path:
        return mirror_folder(tmp_path / scratch, url) / "nano" / "finetune-gig-1" / "backbone.safetensors"

    make_folder(tuned("elsewhere").parent, lambda folder: (folder / "backbone.safetensors").write_bytes(b"weights"))
    nano["backbone"]["weights"] = str(tuned("here"))
    sent = portable(parse_experiment(nano))
    assert not tuned("here").exists()
    assert unpacked(sent.model_dump(mode="json")) == sent
    assert tuned("here").read_bytes() == b"weights"


def test_other_weights_are_left_where_they_are(nano):
    sent = portable(parse_experiment(nano))
    assert unpacked(sent.model_dump(mode="json")) == sent


def test_workers_are_compared_by_their_version_of_timm_where_it_makes_the_features(nano, monkeypatch):
    image = parse_experiment(nano | {"backbone": {"name": "timm:test_vit", "weights": "random"}})
    assert agreed(image)["timm"] == importlib.metadata.version("timm")
    assert "timm" not in agreed(parse_experiment(nano))
    version = importlib.metadata.version

    def without_timm(package: str) -> str:
        if package == "timm":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", without_timm)
    assert agreed(image)["timm"] == "not installed"
