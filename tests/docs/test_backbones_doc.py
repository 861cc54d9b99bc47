"""The backbone of docs/backbones.md does what every backbone must, and the page's numbers are those of the program."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest
import yaml
from places import ROOT

from pipeline.config import parse_experiment
from pipeline.config.features import Backbone
from pipeline.errors import ConfigError, DetectorError
from pipeline.models.backbones import backbone_facts, load_backbone
from pipeline.models.backbones.testing import BackboneTests
from pipeline.stages.detector.packing import check_packable

PAGE = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def on_the_path(tmp_path_factory):
    """The module of the page, where Python finds it, and one that is no backbone."""
    folder = tmp_path_factory.mktemp("mine")
    (block,) = blocks("python")
    assert len([line for line in block.splitlines() if line.strip()]) <= 40
    (folder / "my_backbone.py").write_text(block, encoding="utf-8")
    (folder / "no_backbone.py").write_text("load = None\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


class TestOfThePage(BackboneTests):
    @pytest.fixture(scope="class")
    def settings(self, on_the_path):
        return Backbone(name="python:my_backbone", weights="random", seed=4)


def test_modules_that_are_not_there_or_no_backbones_are_said(on_the_path):
    for name, words in (("no_backbone", "expected a module with facts"), ("nowhere", "No module named 'nowhere'")):
        with pytest.raises(ConfigError, match=words):
            load_backbone(Backbone(name=f"python:{name}", weights="random"))


def test_no_detector_names_a_module(on_the_path, nano, tmp_path):
    nano["backbone"] = {"name": "python:my_backbone", "weights": "random"}
    with pytest.raises(DetectorError, match="with the backbone python:my_backbone cannot be packed"):
        check_packable(parse_experiment(nano), tmp_path / "detector.safetensors", True)


def test_the_configurations_of_the_page_are_valid(nano):
    sections = [yaml.safe_load(block) for block in blocks("yaml")]
    assert len(sections) > 4
    for section in sections:
        parse_experiment(nano | section)


@pytest.mark.slow  # six networks are built, though without memory
@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_the_sizes_of_the_table():
    rows = re.findall(r"^\| `(\S+)` \| (\d+) x (\d+) \| (\d+) x (\d+) x (\d+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 7
    for name, *numbers, megabytes in rows:
        facts = backbone_facts(Backbone(name=name, weights="random"))
        height, width, rows_, columns, channels = map(int, numbers)
        assert (facts.size, facts.map_size(height, width)) == ((height, width), (rows_, columns))
        assert facts.channels == channels
        assert f"{rows_ * columns * channels * 2 / 1e6:.2f}" == megabytes
