"""The main job, end to end on the nano experiment, as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import luigi as luigi_api
import pyarrow.parquet as pq
import pytest
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import LuigiConfigParser
from places import ROOT

import tasks
from pipeline.ablation.ablate import ablation_folder
from pipeline.config import load_experiment
from pipeline.config.ablation import load_ablation
from pipeline.data.events import read_events
from pipeline.errors import ConfigError, DecodeError
from pipeline.stages.common.outputs import make_folder
from pipeline.stages.common.recipes import Recipes
from tasks.base import _choose_scheduler


def luigi(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "luigi", "--module", "tasks", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The nano experiment, run once for this module: (config path, recipes, first process)."""
    import copy

    import yaml
    from conftest import NANO

    folder = tmp_path_factory.mktemp("nano")
    data = copy.deepcopy(NANO)
    data["paths"] = {"output": str(folder / "var"), "cache": str(folder / "cache")}
    path = folder / "nano.yaml"
    path.write_text(yaml.safe_dump(data))
    process = luigi("EvaluateAll", "--config", str(path))
    return path, Recipes(load_experiment(path)), process


def test_the_command_ends_well_and_prints_the_summary(finished):
    _, recipes, process = finished
    assert process.returncode == 0, process.stderr
    assert str(recipes.summary_folder) in process.stdout
    assert "untrained" in process.stdout


def test_summary_has_a_line_for_every_run(finished):
    _, recipes, _ = finished
    summary = json.loads((recipes.summary_folder / "summary.json").read_text())
    assert summary["experiment"] == "nano"
    assert [row["run"] for row in summary["runs"]] == ["gig", "untrained"]
    for row in summary["runs"]:
        assert {"run", "head", "backbone", "stage", "auc", "ap", "mf1", "videos", "frames", "hit_rate"} <= set(row)
        assert 0 <= row["auc"] <= 1
        assert row["videos"] == 4
    with (recipes.summary_folder / "summary.csv").open() as stream:
        assert [row["run"] for row in csv.DictReader(stream)] == ["gig", "untrained"]


def test_score_tables_have_a_row_for_every_frame_and_no_labels(finished):
    _, recipes, _ = finished
    folder = recipes.scores_folder("gig")
    index = json.loads((folder / "index.json").read_text())
    assert len(index["videos"]) == 4
    for facts in index["videos"].values():
        table = pq.read_table(folder / "frames" / facts["file"])
        assert table.column_names == ["frame", "time_s", "score", *index["classes"]]
        assert table["frame"].to_pylist() == list(range(facts["decoded_frames"]))
        assert 40 <= table.num_rows <= 48


def test_events_follow_from_the_scores_and_without_validation_videos_from_the_configured_thresholds(finished):
    path, recipes, _ = finished
    assert luigi_api.build([tasks.Events(config=str(path))], local_scheduler=True)
    document = json.loads((recipes.operating_point_folder("gig") / "operating_point.json").read_text())
    assert document["thresholds"] == dict.fromkeys(["anomaly", *recipes.experiment.dataset.classes], 0.5)
    assert document["notes"] == [
        "the thresholds are those of the configuration: the head was trained without validation videos "
        "(selection.validation_share is 0)"
    ]
    facts = json.loads((recipes.events_folder("gig") / "facts.json").read_text())
    assert facts["notes"] == document["notes"]
    assert facts["videos"] == 4
    assert len(read_events(recipes.events_folder("gig") / "events.parquet")) == sum(facts["events"].values())


def test_trained_head_has_weights_curves_and_its_config(finished):
    _, recipes, _ = finished
    folder = recipes.head_folder("gig")
    assert (folder / "head.safetensors").is_file()
    assert (folder / "config.yaml").is_file()
    assert list((folder / "tensorboard").iterdir())
    with (folder / "losses.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["total"]) < float(rows[0]["total"])


def test_a_second_run_does_nothing(finished):
    path, recipes, _ = finished
    before = {file: file.stat().st_mtime_ns for file in recipes.folder.rglob("*")}
    process = luigi("EvaluateAll", "--config", str(path))
    assert process.returncode == 0
    assert "Did not run any tasks" in process.stderr + process.stdout
    assert {file: file.stat().st_mtime_ns for file in recipes.folder.rglob("*")} == before


def test_a_failed_task_makes_the_command_fail(nano, write_config, tmp_path, make_video):
    make_video("data/a.mp4")
    (tmp_path / "data" / "videos.csv").write_text("video_id,path,split,label\na,a.mp4,train,Dancing\n")
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path / "data"), "classes": ["Fighting"]}
    process = luigi("EvaluateAll", "--config", str(write_config(nano)))
    assert process.returncode != 0
    assert "Dancing" in process.stdout + process.stderr


# `ScoreNew` has no configuration; test_tasks_nightly.py gives it on the command line.
@pytest.mark.parametrize("name", sorted(set(tasks.__all__) - {"ExperimentTask", "ScoreNew"}))
def test_every_task_can_be_given_on_the_command_line(name):
    required = {"Evaluate": ["--run-name", "gig"], "ExtractFeatures": ["--split", "train"], "FineTune": []}
    required |= {
        "ExtractShard": ["--split", "train", "--shard", "0", "--shards", "1"],
        "TrainHead": ["--run-name", "gig"],
    }
    required["ScoreVideos"] = ["--run-name", "gig"]
    options = ["--config", "configs/some.yaml", *required.get(name, [])]
    with CmdlineParser.global_instance(["--module", "tasks", name, *options, "--workers", "2"]) as parser:
        assert parser.get_task_obj().config == "configs/some.yaml"


def test_missing_config_is_an_error_that_names_it():
    process = luigi("EvaluateAll", "--config", "configs/nowhere.yaml")
    assert process.returncode != 0
    assert "configs/nowhere.yaml" in process.stdout + process.stderr


def test_gig_report_prints_the_summary(finished):
    from click.testing import CliRunner

    from pipeline.cli.main import main

    path, recipes, _ = finished
    result = CliRunner().invoke(main, ["report", "--config", str(path)])
    assert result.exit_code == 0
    assert str(recipes.summary_folder) in result.output


def test_the_page_is_made_with_the_summary(finished):
    _, recipes, process = finished
    folder = recipes.report_folder
    assert f"page: {folder / 'index.html'}" in process.stdout
    assert len(list((folder / "videos").iterdir())) == 4
    assert list((folder / "pictures").iterdir())


def test_a_page_that_fails_loses_no_figure_and_is_tried_again(finished, monkeypatch):
    import shutil

    import luigi

    from pipeline.errors import PipelineError
    from pipeline.stages.report import report

    path, recipes, _ = finished
    shutil.rmtree(recipes.report_folder)

    def fail(*arguments: object) -> None:
        raise PipelineError("no page today")

    with monkeypatch.context() as patched:
        patched.setattr(report, "write_report", fail)
        assert not luigi.build([tasks.EvaluateAll(config=str(path))], local_scheduler=True, log_level="ERROR")
    assert (recipes.summary_folder / "summary.json").is_file()
    assert not recipes.report_folder.exists()
    assert luigi.build([tasks.EvaluateAll(config=str(path))], local_scheduler=True, log_level="ERROR")
    assert (recipes.report_folder / "index.html").is_file()


def test_gig_report_writes_the_page_and_what_takes_longer(finished):
    from click.testing import CliRunner

    from pipeline.cli.main import main

    path, recipes, _ = finished
    folder = recipes.report_folder
    result = CliRunner().invoke(main, ["report", "--config", str(path), "--html"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"page: {folder / 'index.html'}"
    assert not (folder / "maps").exists()
    result = CliRunner().invoke(main, ["report", "--config", str(path), "--html", "--all-pictures", "--relations"])
    assert result.exit_code == 0, result.output
    assert {path.name.rpartition("-")[0] for path in (folder / "pictures").iterdir()} == {
        path.stem for path in (folder / "videos").iterdir()
    }
    maps = list((folder / "maps").glob("*/window-1.png"))
    assert maps
    page = folder / "videos" / f"{maps[0].parent.name}.html"
    assert f"../maps/{maps[0].parent.name.replace('=', '%3D')}/window-1.png" in page.read_text()


def test_what_goes_with_the_page_is_refused_without_it(finished):
    from click.testing import CliRunner

    from pipeline.cli.main import main

    result = CliRunner().invoke(main, ["report", "--config", str(finished[0]), "--proxies"])
    assert result.exit_code == 1
    assert "go with --html" in result.output


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_gig_score_takes_any_video(finished, make_video, tmp_path, frames):
    from click.testing import CliRunner

    from pipeline.cli.main import main

    path, _, _ = finished
    video = make_video("some #1 video.mp4", frames=frames)
    out = tmp_path / "scores"
    result = CliRunner().invoke(main, ["score", "--config", str(path), "--out", str(out), "--csv", str(video)])
    assert result.exit_code == 0, result.output
    table = Path(result.stdout.strip().splitlines()[-1])
    assert len(table.read_text().splitlines()) == 1 + frames
    assert len(list((out / "frames").iterdir())) == 2


def test_no_task_asks_for_a_resource_for_who_uses_which_gpu_is_settled_on_each_machine(nano, write_config):
    nano["machine"]["device"] = "cuda:1"
    task = tasks.ExtractShard(config=str(write_config(nano)), split="train", shard=0, shards=1)
    assert task.process_resources() == {}


@pytest.mark.parametrize(
    ("arguments", "file", "local"),
    [
        ([], {}, True),
        (["--workers", "2"], {}, True),
        (["--scheduler-host", "gpu-1"], {}, False),
        (["--scheduler-url=http://gpu-1:8082"], {}, False),
        ([], {"default-scheduler-host": "gpu-1"}, False),
        ([], {"default_scheduler_url": "http://gpu-1:8082"}, False),
        ([], {"local_scheduler": "false"}, False),
    ],
)
def test_the_scheduler_is_inside_the_command_unless_one_is_named(monkeypatch, arguments, file, local):
    settings = LuigiConfigParser()
    for option, value in file.items():
        settings.set("core", option, value)
    monkeypatch.setattr(luigi_api.configuration, "get_config", lambda: settings)
    _choose_scheduler(arguments)
    assert settings.getboolean("core", "local_scheduler", False) == local


def test_an_ablation_requires_the_features_of_every_backbone_and_picture(nano, write_config):
    settings = {"a": {}, "b": {"backbone": {"weights": "random"}}, "c": {"head": {"p": 1}}}
    data = {"name": "a", "base": str(write_config(nano)), "list": settings}
    path = str(write_config(data, "ablation.yaml"))
    required = tasks.Ablate(config=path).requires()
    assert {type(task) for task in required} == {tasks.ExtractFeatures}
    weights = [(task.experiment.backbone.weights, task.split) for task in required]
    assert weights == [("bundled", "train"), ("bundled", "test"), ("random", "train"), ("random", "test")]
    assert all(Path(need.output().path).parent.parent.name == "nano" for task in required for need in task.requires())
    with pytest.raises(ConfigError, match="has 2 way"):
        _ = tasks.ExtractFeatures(config=f"{path}#2", split="test").experiment


@pytest.mark.parametrize("most", [0, 1])
def test_an_ablation_is_complete_only_if_all_quarantines_are_accepted(nano, write_config, most):
    nano["machine"]["max_quarantined"] = most
    settings = {"a": {}, "strict": {"decoding": {"on_damage": "quarantine"}}}
    path = write_config({"name": "a", "base": str(write_config(nano)), "list": settings}, "ablation.yaml")
    plan = load_ablation(path)
    task = tasks.Ablate(config=str(path))
    assert not task.complete()  # there is no table
    Recipes(plan.experiments[1]).quarantine.add("t1", "t1.mp4", "test", DecodeError("damaged"))
    folder = ablation_folder(plan)
    make_folder(folder, lambda partial: (partial / "results.md").write_text("the table"))
    assert task.output().exists()
    assert task.complete() == (most == 1)


def test_only_progress_is_limited_to_one_line_a_second(nano, write_config, caplog):
    task = tasks.Manifest(config=str(write_config(nano)))
    task.set_status_message = task.set_progress_percentage = lambda value: (
        None
    )  # luigi gives a task these while it runs
    with caplog.at_level("INFO", logger="luigi-interface"):
        for number in range(50):
            task.report(number, 1000, "reading headers")
            task.say(f"v{number} goes to quarantine")
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "quarantine" in line] == [f"Manifest: v{n} goes to quarantine" for n in range(50)]
    assert sum("reading headers" in line for line in lines) < 50
