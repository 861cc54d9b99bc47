"""An ablation of the nano experiment."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def write(nano, write_config, tmp_path):
    """Write an ablation of the nano experiment; returns its path."""
    nano["dataset"] |= {"train_normal": 4, "train_per_class": 2}
    base = write_config(nano)

    def put(**data: object) -> Path:
        return write_config({"name": "parts", "base": str(base)} | data, "ablation.yaml")

    return put
