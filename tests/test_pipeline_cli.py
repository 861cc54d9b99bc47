"""The command line: what it prints, what it leaves behind, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.config import load_experiment
from pipeline.errors import DecodeError
from pipeline.models.weights import BUNDLED
from pipeline.stages.recipes import Recipes

ROOT = Path(__file__).parent.parent


def gig(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_config_show_prints_a_configuration_that_means_the_same(nano, write_config, tmp_path):
    path = write_config(nano)
    result = gig("config", "show", "--config", path)
    assert result.exit_code == 0
    shown = write_config(yaml.safe_load(result.stdout), "shown.yaml")
    assert load_experiment(shown) == load_experiment(path)


def test_config_check_says_where_results_go(nano, write_config, tmp_path):
    result = gig("config", "check", "--config", write_config(nano))
    assert result.exit_code == 0
    assert str(tmp_path / "var" / "nano") in result.stdout


def test_config_check_warns_of_another_methods_optimiser(nano, write_config):
    nano["runs"] = {"bn": {"head": {"name": "bn_wvad"}}}
    result = gig("config", "check", "--config", write_config(nano))
    assert result.exit_code == 0
    assert "warning: runs.bn: bn_wvad trains with adagrad" in result.stderr
    assert result.stdout.startswith("ok: ")


def test_config_check_fails_with_the_nearest_key(nano, write_config):
    nano["training"]["epoch"] = 3
    result = gig("config", "check", "--config", write_config(nano))
    assert result.exit_code == 1
    assert "training.epoch: unknown key; did you mean 'epochs'?" in result.stderr


def test_config_fields_explains_every_key_of_a_full_configuration():
    result = gig("config", "fields")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "head(gig).k [8]" in lines
    assert lines[lines.index("head(gig).k [8]") + 1].strip()


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "configs").glob("*.yaml")))
def test_every_shipped_configuration_is_valid(name):
    assert gig("config", "check", "--config", ROOT / "configs" / name).exit_code == 0


def test_weights_check_accepts_the_right_file_only():
    file = BUNDLED["tpn_tiny"]
    assert gig("weights", "check", file, "--backbone", "tpn_tiny").exit_code == 0
    result = gig("weights", "check", file, "--backbone", "tpn_slowonly_r50")
    assert result.exit_code == 1
    assert "conv1.conv.weight: expected (64, 3, 1, 7, 7), got (4, 3, 1, 7, 7)" in result.stderr


def test_report_before_a_run_says_what_to_do(nano, write_config):
    result = gig("report", "--config", write_config(nano))
    assert result.exit_code == 1
    assert "luigi --module tasks EvaluateAll" in result.stderr


def test_an_unknown_run_is_refused_with_those_there_are(nano, write_config):
    result = gig("train", "--config", write_config(nano), "--run", "gigg")
    assert result.exit_code == 1
    assert "gig, untrained" in result.stderr


def test_evaluate_does_what_is_missing_and_the_second_time_nothing(nano, write_config):
    path = write_config(nano)
    assert gig("evaluate", "--config", path).exit_code == 0
    recipes = Recipes(load_experiment(path))
    metrics = json.loads((recipes.evaluation_folder("gig") / "metrics.json").read_text())
    assert metrics["videos"] == 4
    before = {file: file.stat().st_mtime_ns for file in recipes.folder.rglob("*")}
    again = gig("evaluate", "--config", path)
    assert again.exit_code == 0
    assert str(recipes.evaluation_folder("gig")) in again.stdout
    assert {file: file.stat().st_mtime_ns for file in recipes.folder.rglob("*")} == before
    assert gig("train", "--config", path).stdout.strip() == str(recipes.head_folder("gig"))


def test_score_of_a_file_that_is_no_video_names_it(nano, write_config, tmp_path):
    path = write_config(nano)
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    assert gig("train", "--config", path).exit_code == 0
    result = gig("score", "--config", path, "--out", tmp_path / "scores", text)
    assert result.exit_code == 1
    assert str(text) in result.stderr
    assert not list((tmp_path / "scores").rglob("*.parquet"))


def test_help_of_every_command_explains_every_option():
    def commands(command, path):
        yield path, command
        for name, child in getattr(command, "commands", {}).items():
            yield from commands(child, [*path, name])

    for path, command in commands(main, []):
        result = gig(*path, "--help")
        assert result.exit_code == 0
        assert command.help, path
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help, (path, parameter.name)


@pytest.fixture
def quarantined(nano, write_config):
    """A configuration with two videos in quarantine."""
    path = write_config(nano)
    quarantine = Recipes(load_experiment(path)).quarantine
    quarantine.add("cam/1 #2", "v/1.mp4", "train", DecodeError("v/1.mp4: broken", frame=7, library="InvalidDataError: bad"))
    quarantine.add("b", "v/b.mp4", "test", DecodeError("v/b.mp4: the file is empty"))
    return path


def test_quarantine_ls_names_the_videos_with_their_reasons(quarantined, nano, write_config, tmp_path):
    listed = gig("quarantine", "ls", "--config", quarantined)
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[::2]] == ["b", "cam/1"]
    assert "v/1.mp4: broken" in listed.stdout
    first, second = (json.loads(line) for line in gig("quarantine", "ls", "--json", "--config", quarantined).stdout.splitlines())
    assert (second["video_id"], second["frame"], second["library"]) == ("cam/1 #2", 7, "InvalidDataError: bad")
    assert (first["split"], first["frame"], first["library"]) == ("test", None, None)
    nano["experiment"] = "another"
    assert "no video is in quarantine" in gig("quarantine", "ls", "--config", write_config(nano, "other.yaml")).stdout


def test_quarantine_clear_takes_some_or_all(quarantined):
    wrong = gig("quarantine", "clear", "--config", quarantined, "c")
    assert wrong.exit_code == 1
    assert "c: not in quarantine; there are: b, cam/1 #2" in wrong.stderr
    assert "cam/1 #2" in gig("quarantine", "clear", "--config", quarantined, "cam/1 #2").stdout
    assert json.loads(gig("quarantine", "ls", "--json", "--config", quarantined).stdout)["video_id"] == "b"
    assert gig("quarantine", "clear", "--config", quarantined).stdout.startswith("1 cleared")
    assert "no video is in quarantine" in gig("quarantine", "clear", "--config", quarantined).stdout


def test_a_damaged_quarantine_record_is_named(quarantined):
    (path,) = Recipes(load_experiment(quarantined)).quarantine.folder.glob("b.json")
    path.write_text("{")
    result = gig("quarantine", "ls", "--config", quarantined)
    assert result.exit_code == 1
    assert str(path) in result.stderr


def test_score_looks_for_its_videos_before_any_work(nano, write_config, tmp_path):
    result = gig("score", "--config", write_config(nano), tmp_path / "nowhere.mp4")
    assert result.exit_code == 2
    assert "nowhere.mp4" in result.stderr
    assert not (tmp_path / "var").exists()
