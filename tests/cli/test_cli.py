"""The command line: what it prints, what it leaves behind, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from conftest import NANO
from places import ROOT

from pipeline.cli.main import main
from pipeline.config import load_experiment, parse_experiment
from pipeline.data.decoding.geometry import centre_crop
from pipeline.errors import ConfigError, DecodeError
from pipeline.models.weights import BUNDLED
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.common.stand_in import stand_in_reasons


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
    assert "data set" not in result.stdout
    nano["expected"] = {"test": {"videos": 5}}
    result = gig("config", "check", "--config", write_config(nano))
    assert "data set: generated; the step Manifest compares its counts" in result.stdout


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
    assert gig("config", "check", "--no-data", "--config", ROOT / "configs" / name).exit_code == 0


@pytest.fixture
def own_videos(nano, tmp_path, make_video) -> dict:
    """An experiment on four videos in tmp_path/data."""
    rows = ("n,train,Normal", "f,train,Fight", "t,test,Fight", "u,test,Normal")
    for row in rows:
        make_video(f"data/{row[0]}.mp4", frames=8)
    lines = [f"{row[0]},{row[0]}.mp4,{row[2:]}" for row in rows]
    (tmp_path / "data/videos.csv").write_text("\n".join(["video_id,path,split,label", *lines]) + "\n")
    (tmp_path / "data/annotations.csv").write_text("video_id,label,start_frame,end_frame\nt,Fight,2,5\n")
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path / "data"), "classes": ["Fight"]}
    nano["dataset"]["annotations"] = "annotations.csv"
    return nano


def test_config_check_looks_at_data_set_annotations_and_weights(own_videos, write_config, tmp_path):
    result = gig("config", "check", "--config", write_config(own_videos))
    assert result.exit_code == 0
    assert "data set: 2 train and 2 test videos, 1 interval(s)" in result.stdout
    assert "weights: bundled, sha256 " in result.stdout
    assert "backbone: tpn_tiny sees 224 x 224 pixels, and gives maps of 7 x 7 x 2048" in result.stdout
    assert [path.name for path in (tmp_path / "var").rglob("*.*")] == [
        "headers.jsonl"
    ]  # what the manifest need not read again


def test_config_check_lists_what_is_wrong_with_all_of_them(own_videos, write_config, tmp_path):
    (tmp_path / "data/n.mp4").unlink()
    (tmp_path / "data/annotations.csv").write_text("video_id,label,start_frame,end_frame\nt,Fight,2,50\n")
    own_videos["backbone"]["weights"] = "nowhere.pth"
    own_videos["selection"] = {"validation_share": 0.2}
    path = write_config(own_videos)
    result = gig("config", "check", "--config", path)
    assert result.exit_code == 1
    for text in (
        "videos.csv, row 2: n: ",
        "annotations.csv, row 2: t: the interval [2, 50) ends past the video's 8 frames",
        "selection: no anomalous video would be left for validation",
        "nowhere.pth: no such weight file",
    ):
        assert text in result.stderr
    assert gig("config", "check", "--no-data", "--config", path).exit_code == 0


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
    for command in (["train"], ["evaluate"], ["explain", "v"]):
        result = gig(*command, "--config", write_config(nano), "--run", "gigg")
        assert result.exit_code == 1
        assert "gig, untrained" in result.stderr
    assert not Path(nano["paths"]["output"]).exists()  # known before any work


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    """The configuration of a nano experiment that `gig evaluate` has made."""
    folder = tmp_path_factory.mktemp("evaluated")
    path = folder / "nano.yaml"
    path.write_text(yaml.safe_dump(NANO | {"paths": {"output": str(folder / "var"), "cache": str(folder / "cache")}}))
    assert gig("evaluate", "--config", path).exit_code == 0
    return path


def test_evaluate_does_what_is_missing_and_the_second_time_nothing(evaluated):
    path = evaluated
    recipes = Recipes(load_experiment(path))
    metrics = json.loads((recipes.evaluation_folder("gig") / "metrics.json").read_text())
    assert metrics["videos"] == 4
    before = {file: file.stat().st_mtime_ns for file in recipes.folder.rglob("*")}
    again = gig("evaluate", "--config", path)
    assert again.exit_code == 0
    assert str(recipes.evaluation_folder("gig")) in again.stdout
    assert {file: file.stat().st_mtime_ns for file in recipes.folder.rglob("*")} == before
    assert gig("train", "--config", path).stdout.strip() == str(recipes.head_folder("gig"))


def test_score_of_a_file_that_is_no_video_names_it(evaluated, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    result = gig("score", "--config", evaluated, "--out", tmp_path / "scores", text)
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
    quarantine.add(
        "cam/1 #2", "v/1.mp4", "train", DecodeError("v/1.mp4: broken", frame=7, library="InvalidDataError: bad")
    )
    quarantine.add("b", "v/b.mp4", "test", DecodeError("v/b.mp4: the file is empty"))
    return path


def test_quarantine_ls_names_the_videos_with_their_reasons(quarantined, nano, write_config, tmp_path):
    listed = gig("quarantine", "ls", "--config", quarantined)
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[::2]] == ["b", "cam/1"]
    assert "v/1.mp4: broken" in listed.stdout
    first, second = (
        json.loads(line) for line in gig("quarantine", "ls", "--json", "--config", quarantined).stdout.splitlines()
    )
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


COMMANDS = [
    ["quarantine", "ls"],
    ["quarantine", "clear"],
    ["config", "show"],
    ["report"],
    ["evaluate"],
    ["score", "README.md"],
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_a_configuration_names_the_one_it_works_with(command, monkeypatch, nano, write_config):
    monkeypatch.chdir(ROOT)
    for work in ("pipeline.cli.score.ensure", "pipeline.cli.main._evaluate_run"):
        monkeypatch.setattr(work, lambda *arguments: click.get_current_context().exit(0))
    assert "no --config given: working with configs/fixture.yaml" in gig(*command).stderr
    assert "no --config given" not in gig(*command, "--config", write_config(nano)).stderr


def test_an_ablation_without_a_configuration_names_the_one_it_works_with(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "no --config given: working with configs/ablations/fixture.yaml" in gig("ablate", "--check").stderr


@pytest.mark.parametrize("place", ["s3:/bucket/results", "gs:/b", "s3://", "file:/tmp/x"])
def test_an_incomplete_url_of_results_is_refused_wherever_a_configuration_is_read(
    nano, write_config, tmp_path, monkeypatch, place
):
    monkeypatch.chdir(tmp_path)
    nano["paths"]["output"] = place
    path = write_config(nano)
    for command in (["config", "check"], ["train"], ["quarantine", "ls"]):
        result = gig(*command, "--config", path)
        expected = f"paths.output: expected a folder, or a URL such as {place.split(':')[0]}://bucket/prefix, got"
        assert (result.exit_code, f"{expected} {place!r}" in result.stderr) == (1, True)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_cache_url_that_lost_a_slash_is_refused(nano, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"paths.cache: .*a URL such as s3://bucket/prefix, got 's3:/bucket'"):
        parse_experiment(nano | {"paths": {"cache": "s3:/bucket"}})
    assert parse_experiment(nano | {"paths": {"cache": "s3://bucket/a"}}).paths.cache == "s3://bucket/a"
    assert "--cache: expected a folder, or a URL" in gig("cache", "ls", "--cache", "s3:/bucket").stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [["score", "README.md"], ["explain", "x"], ["evaluate", "--scores", "x"], ["export-submission", "--scores", "x"]],
)
def test_an_output_option_on_a_scheme_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").touch()
    result = gig(*command, "--out", "s3://bucket/x")
    assert (result.exit_code, "'--out': expected a path of this machine" in result.stderr) == (2, True)
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]


def test_a_stand_in_model_is_known(nano, tmp_path):
    def reasons(**changes: object) -> list[str]:
        recipes = Recipes(parse_experiment(nano | changes))
        return stand_in_reasons(recipes.finetuned if "finetune" in changes else recipes)

    own = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
    paper = {"name": "tpn_slowonly_r50", "weights": "kinetics.pth"}
    assert len(reasons()) == len(reasons(finetune={"enabled": True})) == 2
    assert "stand-in" in reasons(dataset=own)[0]
    small = {"name": "tpn_small", "weights": "small.safetensors"}
    assert "tpn_small is a small stand-in" in reasons(dataset=own, backbone=small)[0]
    assert "random" in reasons(dataset=own, backbone=paper | {"weights": "random"})[0]
    assert "generated scenes" in reasons(backbone=paper)[0]
    assert reasons(dataset=own, backbone=paper) == []
    assert reasons(dataset=own, features={"train": "i3d-train", "test": "i3d-test"}) == []
    assert len(reasons(dataset=own, features={"test": "i3d-test"})) == 1


def test_readme_and_docs_say_what_the_centre_crop_sees():
    geometry = centre_crop(224, 256).geometry(1920, 1080)
    width, height = 224 / geometry.width, 224 / geometry.height
    readme, text = (
        " ".join((ROOT / name).read_text(encoding="utf-8").split()) for name in ("README.md", "docs/own-videos.md")
    )
    for page in (readme, text):
        assert f"the middle {width:.0%} of the width and {height:.1%} of the height".replace("%", " %") in page
    old = centre_crop(224, 256).geometry(640, 480)
    assert f"of one of 4:3 {224 / old.width:.0%}".replace("%", " %") in text
    assert f"`crop: 256` with `short_side: 256` sees {256 / geometry.width:.0%} of the width".replace("%", " %") in text
