"""What the file of an ablation may contain."""

from __future__ import annotations

import pytest
from places import ROOT

from pipeline.ablation.ablate import run_ablation
from pipeline.config.ablation import _run_name, load_ablation
from pipeline.errors import ConfigError, WeightsError
from pipeline.stages.common.recipes import Recipes


class TestFile:
    @pytest.mark.parametrize("path", sorted((ROOT / "configs" / "ablations").glob("*.yaml")), ids=lambda p: p.stem)
    def test_every_shipped_ablation_is_valid(self, path, monkeypatch):
        monkeypatch.chdir(ROOT)
        assert load_ablation(path).settings

    def test_the_list_is_crossed_with_the_grid(self, write):
        plan = load_ablation(
            write(list={"a": {}, "b": {"head": {"lambda1": 0.0}}}, grid={"head.k": [4, 8], "head.p": [1]}, seeds=[0, 5])
        )
        assert [setting.name for setting in plan.settings] == ["a, k=4", "a, k=8", "b, k=4", "b, k=8"]
        (experiment,) = plan.experiments
        runs = [experiment.run(run) for run in plan.settings[2].runs]
        assert [(run.head.lambda1, run.head.k, run.head.p, run.training.seed) for run in runs] == [
            (0.0, 4, 1, 0),
            (0.0, 4, 1, 5),
        ]

    def test_a_setting_can_train_as_was_published_for_every_seed(self, write):
        settings = {"rtfm": {"head": {"name": "rtfm"}, "training": "paper"}}
        plan = load_ablation(write(list=settings, grid={"training.epochs": [3], "head.p": [2]}, seeds=[4, 5]))
        (experiment,) = plan.experiments
        found = [experiment.run(run).training for run in plan.settings[0].runs]
        assert [(t.optimizer, t.steps, t.epochs, t.seed) for t in found] == [
            ("adam", 15_000, 3, 4),
            ("adam", 15_000, 3, 5),
        ]

    def test_other_sampling_is_another_experiment_with_features_of_its_own(self, write):
        plan = load_ablation(write(grid={"train_sampling.segments": [3, 4], "head.p": [1, 2]}))
        assert len(plan.experiments) == 2
        names = {Recipes(setting.experiment).namespace("train") for setting in plan.settings}
        assert len(names) == 2
        assert len({Recipes(setting.experiment).namespace("test") for setting in plan.settings}) == 1

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            ({"sedes": [1]}, "sedes: unknown key; did you mean 'seeds'?"),
            ({"grid": {"head.kk": [1]}}, "head.kk: unknown key; did you mean 'k'?"),
            ({"grid": {"hed.k": [1]}}, "grid.hed.k: no section 'hed'; did you mean 'head'?"),
            ({"grid": {"dataset.seed": [1]}}, "no section 'dataset'"),
            ({"grid": {"backbone.sed": [1]}}, "backbone.sed: unknown key; did you mean 'seed'?"),
            ({"grid": {"preprocess.crop": [224, 320]}}, "crop (320) is larger than short_side (256)"),
            ({"grid": {"head": [1]}}, "grid.head: expected <section>.<field>"),
            ({"grid": {"head.k": []}}, "grid.head.k: expected <section>.<field> and at least one value"),
            ({"grid": {"training.seed": [1, 2]}}, "seeds are no settings"),
            ({"list": {"a": {"training": {"seed": 1}}}}, "list.a: seeds are no settings"),
            ({"grid": {"head.k": [8, 50]}}, "1 of 2 settings are not valid"),
            ({"list": {"a": {"head": {"name": "rtfn"}}}}, "no head 'rtfn'; did you mean 'rtfm'?"),
            ({"list": {"a": {"head": {"name": "mil_ranking", "p": 1}}}}, "head.p: unknown key"),
            ({"seeds": []}, "seeds"),
        ],
    )
    def test_bad_files_are_named_before_anything_runs(self, write, data, expected):
        with pytest.raises(ConfigError) as error:
            load_ablation(write(**data))
        assert expected in str(error.value)

    def test_settings_can_change_backbone_and_pictures(self, write):
        small = {"preprocess": {"short_side": 112, "crop": 96}, "head": {"k": 4}}
        random = {"backbone": {"weights": "random"}}
        same = {"preprocess": {"crop": 224}, "head": {"p": 1}}  # what the base has by default
        plan = load_ablation(write(list={"base": {}, "small": small, "random": random, "same": same}, seeds=[0, 1]))
        assert len(plan.experiments) == 3
        by_name = {setting.name: setting for setting in plan.settings}
        assert by_name["same"].experiment is by_name["base"].experiment
        assert len({Recipes(e).namespace(split) for e in plan.experiments for split in ("train", "test")}) == 6
        assert plan.varied == ("backbone.weights", "preprocess.short_side", "preprocess.crop")
        assert [tuple(plan.made_with(by_name[name]).values()) for name in ("base", "small", "random")] == [
            ("bundled", 256, 224),
            ("bundled", 112, 96),
            ("random", 256, 224),
        ]

    def test_the_name_of_a_run_is_made_of_what_its_head_depends_on_besides_features(self):
        head = {"head": {"k": 4}, "training": {"seed": 1}}
        made = {"backbone": {"weights": "random"}, "preprocess": {"crop": 96}, "train_sampling": {"views": 1}}
        assert _run_name(head) == _run_name(head | made) == "ablation-614b138a"

    def test_how_imported_features_were_made_cannot_be_changed(self, nano, write_config):
        base = write_config(nano | {"features": {"train": "clips", "test": "windows"}})
        path = write_config({"name": "a", "base": str(base), "grid": {"backbone.seed": [0, 1]}}, "ablation.yaml")
        with pytest.raises(ConfigError, match="backbone: decides nothing where features.train, features.test names"):
            load_ablation(path)

    def test_missing_weights_of_any_setting_are_known_before_features_are_made(self, write, tmp_path):
        settings = {"base": {}, "other": {"backbone": {"weights": str(tmp_path / "not-there.pth")}}}
        with pytest.raises(WeightsError, match="not-there"):
            run_ablation(load_ablation(write(list=settings)), 1)
        assert not (tmp_path / "cache").exists()

    def test_what_is_wrong_with_the_base_is_said_once(self, nano, write_config, tmp_path):
        base = write_config({key: value for key, value in nano.items() if key != "backbone"})
        path = write_config({"name": "parts", "base": str(base), "grid": {"head.p": [1, 2]}}, "ablation.yaml")
        with pytest.raises(ConfigError) as error:
            load_ablation(path)
        assert str(error.value) == f"{path}: no setting is valid; in {base}: backbone: is missing"
