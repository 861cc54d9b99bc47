"""The code of a backbone of one's own is part of what its features are known by."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from pipeline.config import parse_experiment
from pipeline.config.features import Backbone
from pipeline.errors import ConfigError
from pipeline.models import source_code
from pipeline.models.source_code import code_sha256
from pipeline.stages.common.cluster import agreed
from pipeline.stages.common.feature_recipe import FeatureRecipe, differences
from pipeline.stages.common.recipes import Recipes


@pytest.fixture
def on_the_path(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def code(model: str) -> str | None:
    """As a new process would see it."""
    source_code._code_sha256.cache_clear()
    importlib.invalidate_caches()
    return code_sha256(Backbone(name=f"python:{model}", weights="random"))


def test_a_changed_file_is_other_code(on_the_path):
    (on_the_path / "mine_a.py").write_text("x = 1\n")
    (on_the_path / "package_a" / "inner").mkdir(parents=True)
    inner = on_the_path / "package_a" / "inner" / "deep.py"
    for file in (on_the_path / "package_a" / "__init__.py", inner, inner.with_name("__init__.py")):
        file.write_text("y = 1\n")
    before = code("mine_a"), code("package_a")
    assert before == (code("mine_a"), code("package_a"))
    (on_the_path / "mine_a.py").write_text("x = 2\n")
    inner.write_text("y = 2\n")
    assert not {*before} & {code("mine_a"), code("package_a")}
    assert code_sha256(Backbone(name="tpn_tiny", weights="bundled")) is None


def test_a_module_that_is_not_there_is_said():
    with pytest.raises(ConfigError, match="python:nowhere_at_all cannot be used here: No module named"):
        code("nowhere_at_all")


def test_a_changed_module_has_other_features_and_workers_that_lack_the_change_are_told(on_the_path, nano):
    nano["backbone"] = {"name": "python:mine_b", "weights": "random"}
    experiment = parse_experiment(nano)

    def made(source: str) -> tuple[str, dict[str, str]]:
        (on_the_path / "mine_b.py").write_text(source)
        code("mine_b")
        return Recipes(experiment).namespace("train"), agreed(experiment)

    (one, facts), (other, changed) = made("x = 1\n"), made("x = 2\n")
    assert one != other
    assert {name for name in facts if facts[name] != changed[name]} == {"code of the backbone"}


def test_a_head_does_not_score_features_of_other_code(nano):
    experiment = parse_experiment(nano)
    trained = FeatureRecipe("python:mine", "random-0", "float32", None, None, "float16", (7, 7, 32), code_sha256="1a")
    assert FeatureRecipe.from_json(trained.to_json()) == trained
    assert "code_sha256" not in replace(trained, code_sha256=None).to_json()
    (line,) = differences(trained, replace(trained, code_sha256="2b"), experiment)
    assert line == "code of the backbone (SHA-256): the head 1a, here 2b"
