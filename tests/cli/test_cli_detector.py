"""`gig detector` and `gig score --detector`, from a configuration to scores without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline.cli.main import main
from pipeline.config import load_experiment
from pipeline.errors import DecodeError
from pipeline.stages.common.recipes import Recipes


def gig(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_options_of_an_experiment_do_not_go_with_a_detector(tmp_path):
    (tmp_path / "d.safetensors").write_bytes(b"")
    (tmp_path / "a.mp4").touch()
    result = gig("score", "--detector", tmp_path / "d.safetensors", "--run", "gig", tmp_path / "a.mp4")
    assert (result.exit_code, "--run is of an experiment" in result.stderr) == (1, True)
    result = gig("score", "--machine", "device=cpu", tmp_path / "a.mp4")
    assert "--weights and --machine go with --detector" in result.stderr
    assert gig("score", "--detector", tmp_path / "d.safetensors").exit_code == 2
    missing = gig("score", "--detector", tmp_path / "d.safetensors", tmp_path / "none.mp4")
    assert (missing.exit_code, "does not exist" in missing.stderr) == (2, True)
    for command in ("show", "card", "check"):
        result = gig("detector", command, tmp_path / "d.safetensors")
        assert (result.exit_code, "not a detector file" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [("device", "expected KEY=VALUE"), ("cores=4", "--machine cores: "), ("threads=x", "--machine threads: ")],
)
def test_a_setting_of_the_machine_that_is_none_is_refused(tmp_path, setting, message):
    (tmp_path / "d.safetensors").write_bytes(b"")
    result = gig("detector", "check", "--machine", setting, tmp_path / "d.safetensors")
    assert (result.exit_code, message in result.stderr) == (1, True)


def test_a_name_that_is_none_is_refused_before_anything_is_trained(nano, write_config, tmp_path):
    result = gig("detector", "pack", "--config", write_config(nano), "--out", tmp_path / "d.pth")
    assert (result.exit_code, "ends in .safetensors" in result.stderr) == (1, True)
    assert not (tmp_path / "var").exists()


def test_an_export_asks_for_its_form_and_says_what_it_made(tmp_path, monkeypatch):
    from pipeline.stages.detector import export
    from pipeline.stages.detector.detector import Detector

    class Loaded(Detector):
        def __init__(self) -> None: ...

        def notes(self) -> list[str]:
            return ["it is old"]

    def make(_: Detector, folder: Path, *__: object) -> float:
        folder.mkdir()
        (folder / "frames.onnx").write_bytes(bytes(2**20))
        return 3e-7

    file, out = tmp_path / "d.safetensors", tmp_path / "out"
    file.write_bytes(b"")
    result = gig("detector", "export", file, "--out", out)
    assert (result.exit_code, "Missing option '--onnx'" in result.stderr) == (2, True)
    monkeypatch.setattr(Detector, "load", lambda *_, **__: Loaded())
    monkeypatch.setattr(export, "export_onnx", make)
    result = gig("detector", "export", "--onnx", file, "--out", out)
    assert (result.exit_code, result.stdout.strip()) == (0, str(out))
    assert "warning: it is old" in result.stderr
    assert "1.0 MiB; scores of the generated clip differ by 3e-07 at most" in result.stderr


def scored(folder: Path) -> list:
    return [pq.read_table(path) for path in sorted((folder / "frames").glob("*.parquet"))]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [(), ("--finetuned",)], ids=["frozen", "finetuned"])
def test_a_packed_run_scores_as_the_run_when_all_else_is_gone(nano, write_config, tmp_path, monkeypatch, stage):
    nano["finetune"] = {"enabled": bool(stage), "epochs": 1, "batch_bags": 2, "unfreeze": "all"}
    nano["machine"]["max_quarantined"] = 1
    config, file = write_config(nano), tmp_path / "night.safetensors"
    recipes = Recipes(load_experiment(config))
    recipes.quarantine.add("test_Normal_000", "videos/test_Normal_000.mp4", "test", DecodeError("damaged"))
    packed = gig("detector", "pack", "--config", config, *stage, "--out", file)
    assert packed.exit_code == 0, packed.output
    assert packed.stdout.splitlines() == [str(file)]
    (videos,) = (tmp_path / "var" / "nano").glob("manifest-*/videos")
    assert gig("score", "--config", config, *stage, "--out", tmp_path / "before", videos).exit_code == 0
    shutil.copytree(videos, tmp_path / "inbox")
    (tmp_path / "inbox" / "notes.txt").touch()
    for gone in ("var", "cache"):
        shutil.rmtree(tmp_path / gone)
    config.unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    options = ("--machine", "device=cpu", "--out", "scores")
    result = gig("score", "--detector", file, *options, tmp_path / "inbox")
    assert result.exit_code == 0, result.output
    assert "9 scored, 0 kept from before, 0 could not be scored" in result.stderr
    assert "passed over, since they are hidden or no videos: " in result.stderr
    assert "# STAND-IN MODEL" in result.stderr
    before, after = scored(tmp_path / "before"), scored(Path("scores"))
    assert len(before) == 9
    assert all(one.equals(other) for one, other in zip(before, after, strict=True))
    (tmp_path / "inbox" / "bad.mp4").write_text("no video")
    result = gig("score", "--detector", file, *options, tmp_path / "inbox")
    assert result.exit_code == 1
    assert "0 scored, 9 kept from before, 1 could not be scored" in result.stderr

    shown = json.loads(gig("detector", "show", "--json", file).stdout)
    assert shown["stage"] == ("finetuned" if stage else "frozen")
    assert shown["trained_on"]["videos"] == {"Accident": 1, "Explosion": 1, "Fighting": 1, "Normal": 2}
    assert (shown["trained_on"]["training_videos"], shown["trained_on"]["left_out"]) == (5, 0)
    assert shown["metrics"]["figures"]["frame_auc"]["low"] is not None
    assert str(tmp_path) not in json.dumps(shown)
    assert gig("detector", "show", file).stdout.startswith("night: gig head of run gig, ")
    assert gig("detector", "card", file).stdout.startswith("# night\n")
    assert gig("detector", "check", file).stdout.startswith("ok: ")
