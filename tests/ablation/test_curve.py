"""The curve of an ablation: AUC against the number of labelled training videos."""

from __future__ import annotations

import json

import pytest

from pipeline.ablation.ablate import run_ablation
from pipeline.ablation.curve import Point, curves, draw_curves
from pipeline.ablation.judging import METRICS
from pipeline.config.ablation import load_ablation
from pipeline.errors import ManifestError
from pipeline.stages.common.recipes import Recipes


def row(setting: str, mean: float, **more: object) -> dict:
    value = {"mean": mean, "std": None, "values": [mean], "low": mean - 0.1, "high": mean + 0.1, "reason": None}
    return {"setting": setting, "test": dict.fromkeys(METRICS, value)} | more


def test_settings_that_differ_in_the_number_alone_are_a_line(write_ablation):
    settings = {"gig": {}, "mean": {"head": {"reduction": "mean"}}}
    plan = load_ablation(write_ablation(list=settings, grid={"selection.train_videos": [6, 3]}))
    names = [setting.name for setting in plan.settings]
    assert names == ["gig, train_videos=6", "gig, train_videos=3", "mean, train_videos=6", "mean, train_videos=3"]
    found = curves(plan, [row(name, mean) for name, mean in zip(names, (0.8, 0.7, 0.6, 0.5), strict=True)])
    assert {name: [(p.videos, p.mean) for p in points] for name, points in found.items()} == {
        "gig": [(3, 0.7), (6, 0.8)],
        "mean": [(3, 0.5), (6, 0.6)],
    }
    assert found["gig"][0] == Point(3, 0.7, pytest.approx(0.6), pytest.approx(0.8), False)


def test_whole_videos_are_judged_where_only_they_are_known(write_ablation):
    plan = load_ablation(write_ablation(grid={"selection.train_videos": [3, 6]}))
    value = {"mean": 0.9, "low": None, "high": None}
    rows = [row(setting.name, 0.6, whole_videos={"video_auc": value}) for setting in plan.settings]
    assert curves(plan, rows)["base"] == [Point(3, 0.9, None, None, True), Point(6, 0.9, None, None, True)]


def test_without_numbers_of_videos_there_is_no_curve(write_ablation):
    plan = load_ablation(write_ablation(list={"a": {}, "b": {"selection": {"train_videos": 3}}}))
    assert curves(plan, [row("a", 0.6), row("b", 0.7)]) == {}


def test_points_without_intervals_are_drawn_too(tmp_path):
    draw_curves({"gig": [Point(3, 0.7, None, None, False), Point(6, 0.8, 0.7, 0.9, False)]}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_more_videos_than_there_are_is_told_before_anything_is_extracted(write_ablation):
    plan = load_ablation(write_ablation(grid={"selection.train_videos": [4, 99]}))
    with pytest.raises(ManifestError, match=r"selection.train_videos: expected at most \d+.*got 99"):
        run_ablation(plan, 1)


@pytest.mark.slow
def test_each_seed_trains_on_its_own_videos(write_ablation):
    data = {"list": {"untrained": {"head": {"name": "pattern_norm"}}}, "seeds": [0, 1]}
    plan = load_ablation(write_ablation(**data, grid={"selection.train_videos": [3, 6]}))
    folder = run_ablation(plan, 1)
    assert (folder / "curve.png").is_file()
    rows = json.loads((folder / "results.json").read_text())["settings"]
    assert [line["setting"] for line in rows] == ["untrained, train_videos=3", "untrained, train_videos=6"]
    recipes = Recipes(plan.experiments[0])
    folders = [recipes.reduced_folder(run, "train") for setting in plan.settings for run in setting.runs]
    assert len(set(folders)) == 4
