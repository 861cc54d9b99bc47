"""Bad input through the command: a clear error, a non-zero exit, and nothing half-written."""

from __future__ import annotations

import ctypes
import io
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from luigi.retcodes import run_with_retcodes
from places import ROOT

from pipeline.config import Evaluation
from pipeline.stages.evaluation.evaluate import evaluate_tables

VIDEOS = ("n1,train,Normal", "n2,train,Normal", "f1,train,Fighting", "t1,test,Fighting", "t2,test,Normal")


@pytest.fixture
def project(nano, tmp_path, make_video) -> dict:
    """A CSV data set of five videos in tmp_path/data, and its experiment."""
    rows = []
    for line in VIDEOS:
        name, split, label = line.split(",")
        make_video(f"data/{name}.mp4", frames=20)
        rows.append(f"{name},{name}.mp4,{split},{label}")
    data = tmp_path / "data"
    (data / "videos.csv").write_text("\n".join(["video_id,path,split,label", *rows]) + "\n")
    (data / "annotations.csv").write_text("video_id,label,start_frame,end_frame\nt1,Fighting,5,15\n")
    nano["dataset"] = {
        "adapter": "csv",
        "name": "mine",
        "root": str(data),
        "annotations": "annotations.csv",
        "classes": ["Fighting"],
    }
    nano["runs"] = {"gig": {}}
    return nano


def evaluate_all(tmp_path: Path, experiment: dict, cwd: Path = ROOT, **options: object) -> tuple[int, str]:
    """Run the command on an experiment: exit code and everything it printed."""
    command = [
        sys.executable,
        "-m",
        "luigi",
        "--module",
        "tasks",
        "EvaluateAll",
        "--config",
        write(tmp_path, experiment),
    ]
    process = subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, **options
    )
    return process.returncode, process.stdout + process.stderr


def evaluate_all_here(tmp_path: Path, experiment: dict) -> tuple[int, str]:
    """The same in this process, which spares the start of one: exit code and everything that luigi logged."""
    logged = io.StringIO()
    handler, logger = logging.StreamHandler(logged), logging.getLogger("luigi-interface")
    logger.addHandler(handler)
    try:
        run_with_retcodes(["--module", "tasks", "EvaluateAll", "--config", write(tmp_path, experiment)])
    except SystemExit as end:
        return end.code, logged.getvalue()
    finally:
        logger.removeHandler(handler)
    raise AssertionError("the command ends with an exit code")


def write(tmp_path: Path, experiment: dict) -> str:
    config = tmp_path / f"{len(list(tmp_path.glob('*.yaml')))}.yaml"  # a process reads a file once
    config.write_text(yaml.safe_dump(experiment))
    return str(config)


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "LUIGI_CONFIG_PATH"} | {"PYTHONPATH": str(ROOT)}


def leftovers(tmp_path: Path) -> list[str]:
    """Partial outputs and, since the run failed, summaries."""
    return [p.name for p in (tmp_path / "var").rglob("*") if "partial" in p.name or p.name.startswith("summary")]


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / "data" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def set_in(section: str, key: str, value: object):
    return lambda experiment, folder: experiment.setdefault(section, {}).update({key: value})


BEFORE_THE_WORK = {
    "a missing video": (lambda e, f: (f / "data/n2.mp4").unlink(), "videos.csv, row 3: n2: ", "n2.mp4: no such file"),
    "an unknown label": (
        lambda e, f: edit(f, "videos.csv", "f1.mp4,train,Fighting", "f1.mp4,train,Fihgting"),
        "videos.csv, row 4: unknown label 'Fihgting'; did you mean 'Fighting'?",
        "",
    ),
    "an interval outside": (
        lambda e, f: edit(f, "annotations.csv", "5,15", "5,21"),
        "annotations.csv, row 2: t1: the interval [5, 21) ends past the video's 20 frames",
        "",
    ),
    "an unknown key": (set_in("training", "epoch", 3), "training.epoch: unknown key; did you mean 'epochs'?", ""),
    "a value out of range": (set_in("head", "dropout", 1.5), "head.dropout: expected less than 1, got 1.5", ""),
    "a duplicate id": (
        lambda e, f: edit(f, "videos.csv", "n2,n2.mp4", "n1,n2.mp4"),
        "videos.csv, row 3: video_id 'n1' is taken already",
        "",
    ),
    "one file twice": (
        lambda e, f: edit(f, "videos.csv", "t2,t2.mp4", "t2,n1.mp4"),
        "videos.csv, row 6: path: 'n1.mp4' is that of 'n1' already",
        "",
    ),
    "an empty split": (
        lambda e, f: edit(f, "videos.csv", "test", "train"),
        "split: no test video",
        "",
    ),
    "no anomalous training video": (
        lambda e, f: edit(f, "videos.csv", "train,Fighting", "train,Normal"),
        "no anomalous training video",
        "",
    ),
    "no normal training video": (
        lambda e, f: edit(f, "videos.csv", "train,Normal", "train,Fighting"),
        "no normal training video",
        "",
    ),
    "a validation split that cannot be made": (
        set_in("selection", "validation_share", 0.2),
        "selection: no anomalous video would be left for validation: 3 training videos of 3 source(s)",
        "",
    ),
    "no video list": (lambda e, f: (f / "data/videos.csv").unlink(), "videos.csv", "No such file"),
    "missing weights": (set_in("backbone", "weights", "w.pth"), "w.pth: no such weight file", "gig weights fetch"),
}


IN_A_PROCESS = ("a missing video", "a value out of range")  # one of the data set and one of the configuration


@pytest.mark.parametrize("case", BEFORE_THE_WORK)
def test_bad_input_is_found_before_the_work(project, tmp_path, case):
    spoil, *expected = BEFORE_THE_WORK[case]
    spoil(project, tmp_path)
    code, printed = (evaluate_all if case in IN_A_PROCESS else evaluate_all_here)(tmp_path, project)
    assert code != 0
    assert "Traceback" not in printed
    for text in expected:
        assert text in printed
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "cache").exists()


def test_unreadable_videos_are_listed_when_all_else_is_done(project, tmp_path, make_video):
    (tmp_path / "data/n2.mp4").write_text("a text file")
    (tmp_path / "data/t2.mp4").write_bytes(b"")
    code, printed = evaluate_all_here(tmp_path, project)
    assert code != 0
    assert "Traceback" not in printed
    assert "2 video(s) could not be read, machine.max_quarantined is 0" in printed
    assert "n2.mp4: not a video that FFmpeg can open" in printed
    assert "t2.mp4: the file is empty" in printed
    (summary,) = (tmp_path / "var/nano").glob("summary-*/summary.json")
    figures = json.loads(summary.read_text())
    assert figures["quarantined"] == ["n2", "t2"]
    assert figures["runs"][0]["videos"] == 1
    outputs = tmp_path / "var/nano"
    (scores,), (manifest,) = outputs.glob("scores-gig-*"), outputs.glob("manifest-*")
    alone = evaluate_tables(scores, manifest, tmp_path / "alone", Evaluation())
    own, again = (
        json.loads((folder / "metrics.json").read_text()) for folder in (*outputs.glob("ev*"), tmp_path / "alone")
    )
    assert own["quarantined"] == again["quarantined"] == ["t2"]
    assert own["figures"] == again["figures"]
    assert "t2.mp4: the file is empty" in alone[0]

    assert evaluate_all_here(tmp_path, project)[0] != 0  # not forgotten
    project["machine"]["max_quarantined"] = 2
    made = summary.stat().st_mtime_ns
    assert evaluate_all_here(tmp_path, project)[0] == 0
    assert summary.stat().st_mtime_ns == made  # nothing was run again

    project["machine"]["max_quarantined"] = 0
    make_video("data/n2.mp4", frames=20)
    make_video("data/t2.mp4", frames=20)
    assert evaluate_all_here(tmp_path, project)[0] == 0
    assert len(list((tmp_path / "var/nano").glob("summary-*"))) == 2


def test_a_checkpoint_of_another_shape_is_refused(project, tmp_path):
    torch.save({"state_dict": {"backbone.conv1.conv.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    project["backbone"]["weights"] = str(tmp_path / "other.pth")
    code, printed = evaluate_all_here(tmp_path, project)
    assert code != 0
    assert "Traceback" not in printed
    assert "other.pth" in printed
    assert "backbone.conv1.conv.weight: expected (4, 3, 1, 7, 7), got (3,)" in printed
    assert leftovers(tmp_path) == []


class Malicious:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def test_a_malicious_pickle_is_refused_and_not_run(project, tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Malicious(tmp_path / "executed")))
    project["backbone"]["weights"] = str(tmp_path / "evil.pth")
    code, printed = evaluate_all_here(tmp_path, project)
    assert code != 0
    assert "evil.pth: refused" in printed
    assert not (tmp_path / "executed").exists()


def test_an_output_folder_that_cannot_be_made(project, tmp_path):
    (tmp_path / "file").write_text("")
    project["paths"]["output"] = str(tmp_path / "file" / "var")
    code, printed = evaluate_all(tmp_path, project)
    assert code != 0
    assert "Traceback" not in printed
    assert f"cannot be made: Not a directory ({tmp_path}/file" in printed


def as_anybody() -> None:
    """Before the command starts: take from root the right to write everywhere (CAP_DAC_OVERRIDE)."""
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0  # PR_CAPBSET_DROP


def test_a_read_only_output_folder(project, tmp_path):
    (tmp_path / "var").mkdir(mode=0o500)
    code, printed = evaluate_all(tmp_path, project, preexec_fn=as_anybody)
    assert code != 0
    assert "Traceback" not in printed
    assert f"cannot be made: Permission denied ({tmp_path}/var/nano)" in printed


def test_a_read_only_cache(project, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    code, printed = evaluate_all(tmp_path, project, preexec_fn=as_anybody)
    assert code != 0
    assert "Traceback" not in printed
    assert f"cannot be written to the cache {tmp_path}/cache: [Errno 13] Permission denied" in printed
    assert leftovers(tmp_path) == []


NEW_MOUNTS = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
SMALL_DISK = """
disk="$1" config="$2" python="$3"
shift 3
mount -t tmpfs -o size="$1" tmpfs "$disk" || exit 77
for size in "$@"; do
    mount -o remount,size="$size" "$disk"
    "$python" -m luigi --module tasks EvaluateAll --config "$config"
    echo "exit code $?"
    find "$disk" -type f -name '*.partial' -o -name 'summary*'
    find "$disk" -path '*/commits/*' | wc -l
    find "$disk" -mindepth 4 -maxdepth 4 -path '*/payloads/*' | wc -l
    echo "disk enlarged"
done
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "sizes"), [("cache", ["256k", "200m"]), ("var", ["4k", "16k", "32k", "64k", "96k", "128k", "200m"])]
)
def test_a_full_disk_that_is_enlarged_again_and_again(project, tmp_path, folder, sizes):
    if subprocess.run([*NEW_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk (unshare --mount)")
    disk = tmp_path / folder
    disk.mkdir()
    command = [*NEW_MOUNTS, "sh", "-c", SMALL_DISK, "sh", disk, write(tmp_path, project), sys.executable, *sizes]
    process = subprocess.run(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    *runs, end = process.stdout.split("disk enlarged\n")
    assert (len(runs), end) == (len(sizes), ""), process.stdout
    for run in runs[:-1]:
        printed, left = run.rsplit("exit code ", 1)
        assert not left.startswith("0")
        assert "No space left on device" in printed
        assert "Traceback" not in printed
        assert ("cannot be written to the cache" if folder == "cache" else "cannot be made") in printed
        commits, payloads = left.split("\n", 1)[1].split()  # nothing half-written, no summary
        assert commits == payloads
    assert runs[-1].rsplit("exit code ", 1)[1].startswith("0\n"), runs[-1]


def test_outside_the_project_the_command_says_what_it_misses(tmp_path):
    command = [sys.executable, "-m", "luigi", "--module", "tasks", "EvaluateAll"]
    process = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=1800, check=False
    )
    assert process.returncode != 0
    assert "configs/fixture.yaml: the configuration cannot be read" in process.stderr
    assert f"paths are relative to {tmp_path}: run from the project's root" in process.stderr
    assert "Traceback" not in process.stderr


def test_from_another_folder_the_command_works_with_full_paths(project, tmp_path):
    assert evaluate_all(tmp_path, project, cwd=tmp_path)[0] == 0


def test_help_lists_the_parameters_with_explanations():
    command = [sys.executable, "-m", "luigi", "--module", "tasks", "EvaluateAll", "--help"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0
    assert "--config CONFIG" in process.stdout
    assert "The experiment: a YAML file" in process.stdout
