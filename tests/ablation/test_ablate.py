"""Ablations: the table, and runs against the single commands."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from places import ROOT

from cache import FeatureStore
from pipeline.ablation.ablate import _processes, ablation_folder, run_ablation
from pipeline.ablation.features import LeftOut, left_out
from pipeline.ablation.jobs import train_and_score
from pipeline.ablation.judging import METRICS
from pipeline.ablation.table import write_table
from pipeline.cli.main import main
from pipeline.config.ablation import load_ablation
from pipeline.data.decoding.following import deaf_to_interrupts
from pipeline.errors import DecodeError
from pipeline.metrics import LocalisationMetrics
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.scoring.score import score_split
from pipeline.stages.training import joint
from pipeline.stages.training.joint import fit_jointly
from pipeline.workflow import SILENT, Manifest, ensure, usable_manifest


def test_the_table_marks_the_best_on_validation_whatever_the_test_says(write_ablation, tmp_path):
    plan = load_ablation(write_ablation(list={"a": {}, "b": {"head": {"k": 4}}}))
    paths = []
    for name, validation, test in (("a", 0.9, 0.6), ("b", 0.7, 0.95)):
        value = {"mean": test, "std": 0.1, "values": [test], "low": test - 0.1, "high": test + 0.04, "reason": None}
        row = {"setting": name, "seeds": 2, "validation_auc": {"mean": validation, "std": None}}
        path = tmp_path / f"{name}.json"
        alone = value | {
            "low": None,
            "high": None,
            "reason": "the interval is not defined: the figure rests on one video",
        }
        path.write_text(json.dumps(row | {"test": {"auc": value, "ap": None, "mf1": alone}}))
        paths.append(path)
    write_table(plan, paths, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["chosen_on_validation"] == "a"
    assert (
        "| **a** | 2 | 0.900 | 0.600 ± 0.100 | 0.500 to 0.640 | - | - | 0.600 ± 0.100 | not defined |"
        in (tmp_path / "results.md").read_text()
    )
    with (tmp_path / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    columns = list(rows[0])
    assert columns.index("validation_auc_mean") < columns.index("test_auc_mean")
    assert [row["chosen"] for row in rows] == ["True", "False"]
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_shows_how_features_were_made_what_they_cost_and_differences(write_ablation, tmp_path):
    plan = load_ablation(
        write_ablation(list={"a": {}, "b": {"preprocess": {"short_side": 112, "crop": 96}, "head": {"k": 4}}})
    )
    paths = []
    for setting, side, size in zip(plan.settings, (7, 3), (1.25e9, None), strict=True):
        value = {"mean": 0.6, "std": None, "values": [0.6], "low": 0.5, "high": 0.7, "reason": None}
        less = {"mean": -0.1, "low": -0.2, "high": 0.05, "reason": None}
        row = {"setting": setting.name, "seeds": 1, "features": plan.made_with(setting), "bytes_per_hour": size}
        row |= {"map_shape": [side, side, 256], "validation_auc": None, "test": dict.fromkeys(METRICS, value)}
        row["minus_first"] = dict.fromkeys(METRICS, less) if side == 3 else None
        seen = dict.fromkeys(("hit_rate_chance", "hit_rate"), value) | {"relation_energy_ratio": value}
        row["localisation"] = seen if side == 7 else dict.fromkeys(seen)
        paths.append(tmp_path / f"{setting.name}.json")
        paths[-1].write_text(json.dumps(row))
    write_table(plan, paths, tmp_path, LeftOut(("v1",), {"a": 0, "b": 2}))
    text = (tmp_path / "results.md").read_text()
    start = (
        "| setting | seeds | preprocess.short_side | preprocess.crop | map | GB per hour | validation AUC | test AUC |"
    )
    assert text.startswith(start)
    assert "| a | 1 | 256 | 224 | 7 x 7 x 256 | 1.25 | - | 0.600 |" in text
    assert "| b | 1 | 112 | 96 | 3 x 3 x 256 | - | - | 0.600 |" in text
    assert "| hit rate | 95 % interval | energy : chance | 95 % interval | AUC minus the first |" in text
    assert "| 0.600 | 0.500 to 0.700 | 0.600 | 0.500 to 0.700 | - | - |\n" in text
    assert "| - | - | - | - | -0.100 | -0.200 to 0.050 |" in text
    assert "Hit rates by chance: 0.600; energy: 1." in text
    assert "1 left out, v1." in text
    assert "in quarantine are of a 0, b 2." in text
    with (tmp_path / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    names = ("preprocess.crop", "map_shape", "bytes_per_hour", "test_auc_minus_first_low")
    assert [[row[name] for name in names] for row in rows] == [
        ["224", "7 x 7 x 256", "1250000000.0", ""],
        ["96", "3 x 3 x 256", "", "-0.2"],
    ]


def test_videos_that_some_settings_cannot_read_are_named(write_ablation):
    plan = load_ablation(write_ablation(grid={"decoding.on_damage": ["keep", "quarantine"]}))
    assert left_out(plan) == LeftOut((), {})
    strict = Recipes(plan.settings[1].experiment).quarantine
    strict.add("t1", "t1.mp4", "test", DecodeError("damaged"))
    strict.add("a1", "a1.mp4", "train", DecodeError("damaged"))
    names = [setting.name for setting in plan.settings]
    assert left_out(plan) == LeftOut(("t1",), {names[0]: 0, names[1]: 1})
    Recipes(plan.settings[0].experiment).quarantine.add("t1", "t1.mp4", "test", DecodeError("gone"))
    assert left_out(plan).test == ()  # all settings lack it, so nothing has to be left out of any


def test_what_no_setting_can_read_is_named_after_the_table(write_ablation, write_config, nano, monkeypatch, tmp_path):
    (tmp_path / "results.md").write_text("the table")
    monkeypatch.setattr("pipeline.ablation.ablate.run_ablation", lambda *arguments: tmp_path)
    path = write_ablation(list={"gig": {}, "small": {"preprocess": {"short_side": 112, "crop": 96}, "head": {"k": 4}}})
    plan = load_ablation(path)
    Recipes(plan.experiments[0]).quarantine.add("t1", "t1.mp4", "test", DecodeError("the file is empty"))
    result = CliRunner().invoke(main, ["ablate", "--config", str(path)])
    assert result.exit_code == 1
    assert "the table" in result.stdout
    assert result.stderr.count("t1 (test): the file is empty") == 1
    nano["machine"]["max_quarantined"] = 1
    write_config(nano)
    accepted = CliRunner().invoke(main, ["ablate", "--config", str(write_ablation(list={"gig": {}}))])
    assert accepted.exit_code == 0
    assert "without 1 unreadable video(s): t1" in accepted.stderr


@pytest.mark.slow
class TestRun:
    parts = {
        "list": {"gig": {}, "mean": {"head": {"reduction": "mean"}}, "ranking": {"head": {"name": "mil_ranking"}}},
        "grid": {"head.standardize": [True], "selection.validation_share": [0.4]},
        "seeds": [0, 1],
    }

    def test_a_run_equals_the_single_commands_and_resumes(self, write_ablation, tmp_path, monkeypatch):
        path = write_ablation(**self.parts)
        plan = load_ablation(path)
        result = CliRunner().invoke(main, ["ablate", "--config", str(path), "--workers", "1"])
        assert result.exit_code == 0, result.output
        folder = ablation_folder(plan)
        assert result.stdout.splitlines()[-1] == f"results: {folder}"
        table = json.loads((folder / "results.json").read_text())
        assert [row["setting"] for row in table["settings"]] == ["gig", "mean", "ranking"]
        auc = table["settings"][0]["test"]["auc"]
        assert auc["mean"] == pytest.approx(np.mean(auc["values"]))
        assert auc["low"] <= auc["mean"] <= auc["high"]

        # the same run by the ordinary way, without reduced features on disk
        experiment = plan.settings[0].experiment
        run = plan.settings[0].runs[0]
        single = write_single(experiment, run, tmp_path)
        assert CliRunner().invoke(main, ["evaluate", "--config", str(single), "--run", run]).exit_code == 0
        own = tmp_path / "single" / "nano"
        (metrics,) = own.glob("evaluation-*/metrics.json")
        assert json.loads(metrics.read_text())["auc"] == pytest.approx(auc["values"][0])

        before = {
            file: file.stat().st_mtime_ns
            for file in folder.parent.rglob("*")
            if file.is_file() and ".locks" not in str(file)
        }
        command = [
            sys.executable,
            "-m",
            "luigi",
            "--module",
            "tasks",
            "Ablate",
            "--config",
            str(path),
            "--processes",
            "1",
        ]
        subprocess.run([*command, "--local-scheduler"], cwd=ROOT, check=True)
        assert run_ablation(plan, 1) == folder
        assert before == {file: file.stat().st_mtime_ns for file in before}

        # metrics that an interrupted run made from other score tables
        unfinished = folder.with_name(f"{folder.name}.partial")
        folder.rename(unfinished)
        (unfinished / ".made-from").write_text("other tables")
        (unfinished / "figures" / "0.json").write_text(json.dumps(table["settings"][0] | {"setting": "stale"}))
        run_ablation(plan, 1)
        assert json.loads((folder / "results.json").read_text()) == table

        # two commands at once on heads and tables that are not there
        for gone in [*own_heads(plan), *folder.parent.glob("scores-*")]:
            shutil.rmtree(gone)
        runs, trained = list(plan.settings[0].runs), []

        def counted(*arguments: object) -> object:
            trained.append(arguments)
            return fit_jointly(*arguments)

        monkeypatch.setattr(joint, "fit_jointly", counted)
        with ThreadPoolExecutor(2) as both:
            list(both.map(lambda names: train_and_score(experiment, names), [runs, runs[::-1]]))
        assert len(trained) == 1
        assert all(Recipes(experiment).scores_folder(run).is_dir() for run in runs)


@pytest.mark.slow
def test_other_sampling_is_extracted_and_kept_apart(nano, write_ablation, tmp_path):
    settings = {"base": {}, "segments": {"train_sampling": {"segments": 3}}, "views": {"train_sampling": {"views": 2}}}
    path = write_ablation(list=settings | {"stride": {"test_sampling": {"stride_frames": 4}}})
    result = CliRunner().invoke(main, ["ablate", "--config", str(path), "--workers", "1"])
    assert result.exit_code == 0, result.output
    store = FeatureStore.open(tmp_path / "cache")
    shapes = {store.reader(namespace, min(store.video_ids(namespace))).shape[:2] for namespace in store.namespaces()}
    assert {(1, 4), (1, 3), (2, 4)} < shapes  # views and segments; test windows besides
    assert len(store.namespaces()) == 5
    (table,) = (tmp_path / "var" / "nano").glob("ablation-*/results.json")
    rows = json.loads(table.read_text())["settings"]
    assert {row["setting"] for row in rows} == {"base", "segments", "views", "stride"}
    assert all(0 <= row["test"]["auc"]["mean"] <= 1 for row in rows)


@pytest.mark.slow
def test_each_backbone_and_picture_is_extracted_once_and_judged_on_the_same_videos(nano, write_config, tmp_path):
    small = {"preprocess": {"short_side": 112, "crop": 96}, "head": {"k": 4}}
    settings = {
        "base": {},
        "mean": {"head": {"reduction": "mean"}},
        "random": {"backbone": {"weights": "random"}},
        "small": small,
        "strict": {"decoding": {"on_damage": "quarantine"}},
    }
    data = {"name": "pictures", "base": str(write_config(nano)), "list": settings}
    path = write_config(data, "ablation.yaml")
    plan = load_ablation(path)
    strict = Recipes(plan.settings[-1].experiment)
    folder = ensure(Manifest(strict), lambda step: nullcontext(SILENT))
    manifest = load_manifest(strict.experiment, folder, truth=True)
    lost = max(interval.video_id for interval in manifest.intervals)
    strict.quarantine.add(lost, "lost.mp4", "test", DecodeError("damaged"))
    result = CliRunner().invoke(main, ["ablate", "--config", str(path), "--workers", "1"])
    assert result.exit_code == 1  # only after the table
    assert f"{lost} (test): damaged" in result.stderr
    store = FeatureStore.open(tmp_path / "cache")
    assert len(store.namespaces()) == 8  # two splits of bundled, random, small, strict
    (table,) = (tmp_path / "var" / "nano").glob("ablation-*/results.json")
    document = json.loads(table.read_text())
    assert document["left_out"] == {"test": [lost], "training": {}}
    assert f"1 left out, {lost}." in result.stdout
    rows = {row["setting"]: row for row in document["settings"]}
    assert [row["map_shape"] for row in rows.values()] == [[7, 7, 2048]] * 3 + [[3, 3, 2048], [7, 7, 2048]]
    assert 3 * rows["small"]["bytes_per_hour"] < rows["base"]["bytes_per_hour"]
    assert rows["random"]["features"]["backbone.weights"] == "random"
    assert rows["base"]["minus_first"] is None
    assert rows["mean"]["localisation"] == dict.fromkeys(LocalisationMetrics.METRICS)  # it chooses no cells
    assert 0 < rows["base"]["localisation"]["relation_energy"]["mean"] < 1
    assert rows["random"]["minus_first"]["hit_rate_chance"]["mean"] == 0
    for row in rows.values():
        if row["minus_first"]:
            expected = row["test"]["auc"]["mean"] - rows["base"]["test"]["auc"]["mean"]
            assert row["minus_first"]["auc"]["mean"] == pytest.approx(expected)
    # the same features without that video are scored alike, and judged on the same videos
    assert rows["strict"]["test"] == rows["base"]["test"]


@pytest.mark.slow
def test_causal_scores_are_made_from_the_maps(write_ablation, tmp_path):
    """Windows on disk are reduced with the cue of the whole video."""
    plan = load_ablation(write_ablation(list={"video": {}, "running": {"scoring": {"cue": "running"}}}))
    run_ablation(plan, 1)
    recipes = Recipes(plan.settings[0].experiment)
    for setting in plan.settings:
        (run,), folder = setting.runs, tmp_path / setting.name
        score_split(
            setting.experiment,
            run,
            usable_manifest(recipes),
            recipes.namespace("test"),
            recipes.head_folder(run),
            folder,
        )
        for video in (folder / "frames").iterdir():
            tables = [pq.read_table(video), pq.read_table(recipes.scores_folder(run) / "frames" / video.name)]
            np.testing.assert_allclose(*(table["score"].to_numpy() for table in tables), rtol=0, atol=1e-6)


def write_single(experiment, run: str, tmp_path: Path) -> Path:
    data = experiment.model_dump(mode="json")
    data["runs"] = {run: experiment.runs[run]}
    data["paths"]["output"] = str(tmp_path / "single")
    path = tmp_path / "single.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def own_heads(plan) -> list[Path]:
    return [Recipes(setting.experiment).head_folder(run) for setting in plan.settings[:1] for run in setting.runs]


@pytest.mark.slow
def test_ctrl_c_ends_jobs_that_would_take_long():
    others = multiprocessing.active_children()

    def interrupted() -> None:
        with _processes(1) as pool:
            with deaf_to_interrupts():
                job = pool.submit(time.sleep, 900)
            while not job.running():
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [process for process in multiprocessing.active_children() if process not in others] == []


@pytest.mark.slow
def test_workers_end_with_the_process_that_made_them(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        "import multiprocessing, os, signal, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from pipeline.ablation.ablate import _start\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), _start, (1,))\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 600)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300
    )
    status = Path(f"/proc/{int(process.stdout)}/stat")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and status.exists() and status.read_text().split(")")[1].split()[0] != "Z":
        time.sleep(0.05)
    assert time.monotonic() < deadline
