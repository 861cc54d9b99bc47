"""`gig export` and `gig labels import`: files in, files out, and what is said."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
import yaml
from click.testing import CliRunner
from mock_datasets import write_video

from pipeline.cli.main import main
from pipeline.config import load_experiment
from pipeline.data.events import Event, write_events
from pipeline.data.manifest import load
from pipeline.stages.common.recipes import Recipes


def gig(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "events.csv"
    write_events(path, [Event("t1", "", "Fighting", 0.3, 1.0, 3, 10, 0.5, 0.9, 0.6)])
    return path


@pytest.fixture
def config(tmp_path, write_config, nano):
    """A data set of the csv adapter whose videos lie in tmp_path/videos."""
    rows = ["n,n.mp4,train,Normal", "f,f.mp4,train,Fighting;Robbery", "t1,t1.mp4,test,Normal", "t2,t2.mp4,test,Normal"]
    for row in rows:
        write_video(tmp_path / "videos" / row.split(",")[1])
    (tmp_path / "videos" / "videos.csv").write_text("\n".join(["video_id,path,split,label", *rows]))
    nano["dataset"] = {
        "adapter": "csv",
        "name": "m",
        "root": str(tmp_path / "videos"),
        "classes": ["Robbery", "Fighting"],
    }
    return write_config(nano)


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("label-studio", ["config.xml", "tasks.json"]),
        ("activitynet", ["results.json"]),
        ("fiftyone", ["data.json", "labels.json"]),
        ("cvat", ["t1.xml"]),
        ("webvtt", ["t1.vtt"]),
        ("cityscene", ["task2.csv"]),
    ],
)
def test_every_form_is_written_from_a_folder_of_videos(events, tmp_path, form, files):
    write_video(tmp_path / "videos" / "t1.mp4")
    out = tmp_path / "out"
    result = gig("export", events, "--to", form, "--videos", tmp_path / "videos", "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == files
    assert gig("export", events, "--to", form, "--out", out).exit_code == 1  # it is there already


def test_lengths_come_from_a_table_too(events, tmp_path):
    (tmp_path / "counts.csv").write_text("video_id,frames,fps\nt1,24,10\nquiet,30,10\n")
    arguments = ("export", events, "--to", "activitynet", "--truth", "--out", tmp_path / "out")
    assert gig(*arguments, "--frame-counts", tmp_path / "counts.csv").exit_code == 0
    assert set(json.loads((tmp_path / "out" / "truth.json").read_text())["database"]) == {"t1", "quiet"}
    result = gig("export", events, "--to", "fiftyone", "--frame-counts", tmp_path / "counts.csv")
    assert (result.exit_code, "fiftyone needs the files" in result.stderr) == (1, True)


def test_quiet_videos_of_one_name_are_all_there(events, tmp_path):
    for name in ("t1.mp4", "a/q.mp4", "b/q.mp4", "b/q.avi", "Kamera 1/Tür =2.mp4"):
        write_video(tmp_path / "videos" / name)
    out = tmp_path / "out"
    result = gig("export", events, "--to", "label-studio", "--videos", tmp_path / "videos", "--out", out)
    assert result.exit_code == 0, result.output
    found = {task["data"]["video_id"]: task["data"]["video"] for task in json.loads((out / "tasks.json").read_text())}
    assert set(found) == {"t1", "a/q", "q.avi", "b/q.mp4", "Tür =2"}
    assert {str(tmp_path / "videos" / name) for name in ("a/q.mp4", "b/q.mp4", "b/q.avi")} < set(found.values())


def test_a_video_that_is_not_there_is_an_error(events, tmp_path):
    (tmp_path / "videos").mkdir()
    result = gig("export", events, "--to", "cvat", "--videos", tmp_path / "videos", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "t1: no such video among the videos in" in result.stderr
    assert not (tmp_path / "out").exists()


def test_corrections_come_back_as_a_data_set_that_is_accepted(events, config, tmp_path):
    made = tmp_path / "made"
    assert gig("export", events, "--to", "label-studio", "--config", config, "--out", made).exit_code == 0
    exported = json.loads((made / "tasks.json").read_text())
    assert [task["data"]["video_id"] for task in exported] == ["t1", "t2"]
    names = [label.get("value") for label in ElementTree.parse(made / "config.xml").iter("Label")]
    assert names == ["Robbery", "Fighting"]  # a reviewer can choose a class that no event has
    for task in exported:
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"], "was_cancelled": False}]
    exported[0]["annotations"][0]["result"][0]["value"]["ranges"] = [{"start": 5, "end": 8}]
    (tmp_path / "export.json").write_text(json.dumps(exported))
    out = tmp_path / "corrected"
    result = gig("labels", "import", "label-studio", tmp_path / "export.json", "--config", config, "--out", out)
    assert result.exit_code == 0, result.output
    assert "2 video(s) annotated, 1 of them changed" in result.stderr
    before = Recipes(load_experiment(config)).namespace("test")
    experiment = yaml.safe_load(config.read_text()) | yaml.safe_load(result.stdout[result.stdout.index("dataset:") :])
    config.write_text(yaml.safe_dump(experiment))
    assert Recipes(load_experiment(config)).namespace("test") == before  # the cached features are used again
    result = gig("manifest", "--config", config, "--out", tmp_path / "manifest")
    assert result.exit_code == 0, result.output
    truth = load(tmp_path / "manifest", truth=True)
    assert [(i.video_id, i.start_frame, i.end_frame) for i in truth.intervals] == [("t1", 4, 8)]


def test_an_import_names_its_data_set_once(tmp_path):
    (tmp_path / "export.json").write_text("[]")
    result = gig("labels", "import", "label-studio", tmp_path / "export.json")
    assert (result.exit_code, "expected one of --config and --truth" in result.stderr) == (1, True)
