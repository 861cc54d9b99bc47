"""ScoreNew with luigi's range tools: missing days are caught up in order, also after a kill, and the dataset is one."""

from __future__ import annotations

import copy
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import luigi
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from conftest import NANO
from luigi.cmdline_parser import CmdlineParser
from luigi.tools.range import RangeDaily
from packs import outputs_of
from places import ROOT

from pipeline.config import parse_experiment
from pipeline.errors import ConfigError
from pipeline.stages.detector.detector import Detector
from pipeline.stages.detector.packing import pack_detector
from pipeline.stages.detector.scoring import score_with_detector
from pipeline.stages.nightly.days import day_path
from pipeline.stages.scoring.inputs import find_videos
from tasks import ScoreNew

TODAY = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).date()
DAYS = [TODAY - datetime.timedelta(days=back) for back in (3, 2)]


def test_the_range_tools_see_which_days_are_missing_and_earlier_ones_come_first(tmp_path):
    others = {"detector": "night.safetensors", "inbox": "inbox", "out": str(tmp_path)}
    path = day_path(tmp_path, DAYS[1])
    path.parent.mkdir()
    path.touch()
    noon = datetime.datetime.combine(TODAY, datetime.time(12), datetime.UTC)  # of today, although midnight may pass
    span = {"start": DAYS[0], "days_forward": -1, "now": int(noon.timestamp())}
    wanted = RangeDaily(of=ScoreNew, of_params=others, **span).requires()
    assert [task.date for task in wanted] == [DAYS[0], TODAY - datetime.timedelta(days=1)]
    assert wanted[0].priority > wanted[1].priority > 0
    assert wanted[0].process_resources() == wanted[1].process_resources()
    assert ScoreNew(date=DAYS[1], **others).complete()
    assert ScoreNew(date=TODAY, detector="a/night.safetensors", inbox="inbox").folder == Path("nightly/night")
    with pytest.raises(ConfigError, match=r"machine\.cores"):
        ScoreNew(date=TODAY, machine={"cores": 4}, **others).run()
    command = ["--module", "tasks", "ScoreNew", "--date", "2026-11-26", "--detector", "n.safetensors", "--inbox", "in"]
    with CmdlineParser.global_instance([*command, "--machine", '{"device": "cpu"}', "--settle-s", "5"]) as parser:
        task = parser.get_task_obj()
    assert (task.date, dict(task.machine), task.settle_s) == (datetime.date(2026, 11, 26), {"device": "cpu"}, 5.0)


def luigi_range(folder: Path) -> subprocess.Popen:
    others = {"detector": "night.safetensors", "inbox": "inbox", "settle_s": 0}
    others["machine"] = {"device": "cpu", "decode_workers": 1, "max_quarantined": 1}
    days = ["--start", DAYS[0].isoformat(), "--stop", (DAYS[1] + datetime.timedelta(days=1)).isoformat()]
    command = [sys.executable, "-m", "luigi", "--module", "tasks", "RangeDaily", "--of", "ScoreNew", *days]
    return subprocess.Popen(
        [*command, "--of-params", json.dumps(others)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_missing_days_are_caught_up_after_a_kill(make_video, tmp_path):
    experiment = parse_experiment(
        copy.deepcopy(NANO)
        | {"head": {}, "runs": {"gig": {}}}
        | {"paths": {"output": str(tmp_path / "var"), "cache": str(tmp_path / "cache")}}
    )
    detector = tmp_path / "night.safetensors"
    pack_detector(outputs_of(experiment, tmp_path / "run"), detector)
    inbox = {f"inbox/cam{number % 2}/{number}.mp4": DAYS[number // 2] for number in range(4)}
    for number, (name, day) in enumerate(inbox.items()):
        path = make_video(name, frames=20 + number)
        os.utime(path, (datetime.datetime.combine(day, datetime.time(12), datetime.UTC).timestamp(),) * 2)
    (tmp_path / "inbox" / "bad.mp4").write_text("no video")
    os.utime(tmp_path / "inbox" / "bad.mp4", (1, 1))

    out = tmp_path / "nightly" / "night"
    process = luigi_range(tmp_path)
    tables = out / ".work" / "frames"
    while not list(tables.glob("*.parquet")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "scores").exists()

    process = luigi_range(tmp_path)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert "not scored again, for file, head and settings are the same: cam0/0.mp4" in printed
    scores = ds.dataset(out / "scores", partitioning="hive").to_table().to_pandas()
    found = scores.groupby(["date", "video_id"]).size().to_dict()
    assert found == {
        (day.isoformat(), name.removeprefix("inbox/")): 20 + number for number, (name, day) in enumerate(inbox.items())
    }
    assert sorted(path.stem for path in (out / "days").iterdir()) == [day.isoformat() for day in DAYS]
    # The scores are those of `gig score --detector`.
    report = score_with_detector(
        Detector.load(detector), find_videos([str(tmp_path / "inbox")]).videos, tmp_path / "direct"
    )
    for name, table in zip(report.scored, report.tables, strict=True):
        one = scores[scores.video_id == name]
        assert one.score.to_list() == pq.read_table(table)["score"].to_pylist()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    process = luigi_range(tmp_path)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    assert luigi.build(
        [ScoreNew(date=DAYS[0], detector=str(detector), inbox="none", out=str(out))], local_scheduler=True
    )
