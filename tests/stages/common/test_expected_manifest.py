"""The first step says in one line how the data set differs from what the configuration expects."""

from __future__ import annotations

import pytest

from pipeline.cli.shared import check_files
from pipeline.config import parse_experiment
from pipeline.stages.common.manifest import check_data_set
from pipeline.stages.common.recipes import Recipes


@pytest.fixture
def experiment(nano, mock):
    def make(videos: int):
        dataset = mock("cityscene", classes=["Fighting", "Robbery"]).model_dump(mode="json")
        expected = {"test": {"videos": videos}, "counts_source": "its authors"}
        machine = {"device": "cpu", "decode_workers": 1}
        return parse_experiment(nano | {"dataset": dataset, "expected": expected, "machine": machine})

    return make


def test_what_differs_is_one_warning(experiment, tmp_path):
    said: list[str] = []
    manifest = check_data_set(experiment(99), tmp_path / "var", say=said.append)
    count = len(manifest.split("test"))
    assert said == [
        f"warning: the data set is not as expected (its authors): test: {count} videos, expected 99",
    ]
    said.clear()
    check_data_set(experiment(count), tmp_path / "var", say=said.append)
    assert said == []
    found = check_files(Recipes(experiment(count)))
    assert "the counts of the data set are as expected (its authors)" in found
