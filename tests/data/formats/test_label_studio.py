"""To Label Studio and back: predictions, what people make of them, and a data set that has it."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from mock_datasets import write_video
from pydantic import TypeAdapter

from pipeline.config.datasets import Dataset
from pipeline.data.datasets import build
from pipeline.data.events import Event
from pipeline.data.formats.corrections import correct, write_csv
from pipeline.data.formats.facts import VideoFacts
from pipeline.data.formats.label_studio import labelling_config, tasks
from pipeline.data.formats.label_studio_export import read_export
from pipeline.data.manifest import Interval, Manifest, VideoEntry
from pipeline.data.problems import Problems
from pipeline.errors import ManifestError, PipelineError

CLASSES = ("Fighting", "Robbery")


def event(video_id, name="Fighting", start=3, end=10) -> Event:
    return Event(video_id, "", name, start / 10, end / 10, start, end, start / 10, 0.9, 0.5)


def facts(video_id, frames=24) -> VideoFacts:
    return VideoFacts(f"{video_id}.mp4", frames, 10.0, 64, 64)


def entry(video_id, split="test", *labels) -> VideoEntry:
    return VideoEntry(video_id, f"{video_id}.mp4", split, labels, None, 64, 64, 10.0, 24, 1)


@pytest.fixture
def manifest(tmp_path):
    entries = (
        entry("n", "train"),
        entry("f", "train", "Fighting"),
        entry("r", "train", "Robbery"),
        entry("t1"),
        entry("t2"),
    )
    return Manifest(
        tmp_path, CLASSES, (*entries, entry("t3", "test", "Robbery")), (Interval("t3", "Robbery", 2, None),)
    )


def annotated(made: list[dict]) -> list[dict]:
    """An export in which everybody agreed with the predictions."""
    made = copy.deepcopy(made)
    for number, task in enumerate(made, start=1):
        task |= {"id": number, "annotations": [{"id": number, "was_cancelled": False, "ground_truth": False}]}
        task["annotations"][0]["result"] = task.pop("predictions")[0]["result"]
    return made


def segment(first, last, *names, kind="timelinelabels") -> dict:
    return {"id": "x", "type": kind, "value": {"ranges": [{"start": first, "end": last}], kind: list(names)}}


class Import:
    """Reads an export into a data set."""

    def __init__(self, manifest, tmp_path):
        self.manifest, self.path, self.notes = manifest, tmp_path / "export.json", []

    def __call__(self, exported, facts=None):
        self.path.write_text(json.dumps(exported), encoding="utf-8")
        problems = Problems()
        reviewed = read_export(self.path, {v.video_id for v in self.manifest.videos}, problems, self.notes)
        corrected = correct(self.manifest, reviewed, facts, problems)
        problems.raise_any()
        self.notes += corrected.notes
        return corrected

    def one(self, *result, video_id="t1"):
        exported = annotated(tasks([], {video_id: facts(video_id)}))
        exported[0]["annotations"][0]["result"] = list(result)
        return self(exported)


@pytest.fixture
def read(manifest, tmp_path):
    return Import(manifest, tmp_path)


def test_the_configuration_names_the_labels_and_takes_the_rate_of_every_task():
    root = ElementTree.fromstring(labelling_config(["A & B", "<C>"]))
    assert [label.get("value") for label in root.iter("Label")] == ["A & B", "<C>"]
    video, control = root.find("Video"), root.find("TimelineLabels")
    assert (video.get("frameRate"), control.get("toName")) == ("$fps", video.get("name"))


class TestTasks:
    def test_a_prediction_names_what_the_configuration_has(self):
        (task,) = tasks([event("t1")], {"t1": facts("t1")})
        root = ElementTree.fromstring(labelling_config(CLASSES))
        (region,) = task["predictions"][0]["result"]
        assert (region["from_name"], region["to_name"]) == (
            root.find("TimelineLabels").get("name"),
            root.find("Video").get("name"),
        )
        assert region["value"] == {"ranges": [{"start": 4, "end": 10}], "timelinelabels": ["Fighting"]}
        assert task["data"] | {"video": ""} == {
            "video": "",
            "video_id": "t1",
            "fps": 10.0,
            "frames": 24,
            "steady": True,
        }

    def test_videos_without_events_are_there_too(self):
        made = tasks([event("t1")], {"t1": facts("t1"), "t2": facts("t2")})
        assert [len(task["predictions"][0]["result"]) for task in made] == [1, 0]

    def test_a_path_is_escaped_behind_a_prefix(self):
        (task,) = tasks([], {"v": VideoFacts("a b/#1.mp4", 24, 10.0)}, prefix="/data/local-files/?d=")
        assert task["data"]["video"] == "/data/local-files/?d=a%20b/%231.mp4"

    def test_it_is_relative_to_the_base(self, tmp_path):
        about = {"v": VideoFacts(str(tmp_path / "a" / "1.mp4"), 24, 10.0)}
        assert tasks([], about, "x?d=", tmp_path)[0]["data"]["video"] == "x?d=a/1.mp4"
        with pytest.raises(PipelineError, match="expected a video below"):
            tasks([], about, "x?d=", tmp_path / "b")

    def test_events_at_another_rate_than_the_video_s_are_an_error(self):
        with pytest.raises(PipelineError, match="t1: frame 3 is shown at 0.3 s, which a steady 25"):
            tasks([event("t1")], {"t1": VideoFacts("t1.mp4", 24, 25.0)})


class TestBack:
    def test_what_nobody_changed_is_the_events(self, read):
        events = [event("t1"), event("t1", "Robbery", 0, 24), event("t2", start=23, end=24)]
        corrected = read(annotated(tasks(events, {name: facts(name) for name in ("t1", "t2")})))
        assert [(i.video_id, i.label, i.start_frame, i.end_frame) for i in corrected.manifest.intervals] == [
            ("t1", "Fighting", 3, 10),
            ("t1", "Robbery", 0, 24),
            ("t2", "Fighting", 23, 24),
            ("t3", "Robbery", 2, None),
        ]
        assert corrected.manifest.video("t1").labels == CLASSES
        assert (corrected.reviewed, corrected.changed) == (("t1", "t2"), ("t1", "t2"))

    def test_of_a_variable_frame_rate_too(self, read):
        about = VideoFacts("t1.mp4", 5, 10.0, times_s=np.array([0, 0.033, 0.07, 0.9, 0.95]))
        found = Event("t1", "", "Fighting", 0.033, 0.9, 1, 3, 0.07, 0.9, 0.5)
        corrected = read(annotated(tasks([found], {"t1": about})), lambda video_id: about)
        assert Interval("t1", "Fighting", 1, 3) in corrected.manifest.intervals

    def test_an_empty_annotation_says_that_a_video_is_normal(self, read):
        corrected = read.one(video_id="t3")
        assert corrected.manifest.video("t3").labels == ()
        assert corrected.manifest.intervals == ()

    def test_a_training_video_keeps_classes_alone(self, read):
        corrected = read.one(segment(1, 9, "Robbery"), video_id="n")
        assert corrected.manifest.video("n").labels == ("Robbery",)
        assert len(corrected.manifest.intervals) == 1
        assert "a training video has no intervals" in read.notes[0]

    def test_a_skipped_task_stays_as_it_was_and_is_told(self, read):
        exported = annotated(tasks([], {"t3": facts("t3")}))
        exported[0]["annotations"][0]["was_cancelled"] = True
        corrected = read(exported)
        assert (corrected.manifest, corrected.reviewed) == (read.manifest, ())
        assert "not annotated, or skipped by the annotator: t3" in read.notes[0]

    def test_segments_that_overlap_are_one_interval_and_one_past_the_end_is_cut(self, read):
        corrected = read.one(segment(2, 9, "Fighting"), segment(5, 30, "Fighting"))
        assert corrected.manifest.intervals[0] == Interval("t1", "Fighting", 1, 24)
        assert "ends past the 24 frames" in read.notes[0]
        assert "overlap are one interval" in read.notes[1]

    def test_other_results_are_told(self, read):
        read.one(segment(2, 9, "Fighting"), {"type": "choices", "value": {"choices": ["blurred"]}})
        assert "passed over: 1 of choices" in read.notes[0]

    def test_a_video_is_known_by_its_file_where_the_task_does_not_name_it(self, read):
        exported = annotated(tasks([event("t1")], {"t1": facts("t1")}))
        exported[0]["data"] = {"video": "/data/upload/3/0a1b2c3d-t1.mp4"}
        assert read(exported).reviewed == ("t1",)

    @pytest.mark.parametrize(
        ("address", "video_id"),
        [
            ("/data/local-files/?d=cam%201/v.mp4", "cam 1/v"),
            ("/data/local-files/?d=cam 1/v.mp4", "cam 1/v"),
            ("s3://bucket/cam 2/v.mp4", "cam 2/v"),
            ("gs://bucket/deep/cam 1/v.mkv", "cam 1/v"),
            ("https://example.org/cam%202/v.mp4?X-Amz-Signature=1%2F2", "cam 2/v"),
            ("s3://bucket/Bad.Boys__#01_?.mp4", "Bad.Boys__#01_?"),
            ("https://example.org/Bad.Boys__%2301_%3F.mp4", "Bad.Boys__#01_?"),
            ("/data/upload/1/0a1b2c3d-Tür_1_日本.mp4", "Tür 1 (日本).mp4"),
            ("/data/upload/1/0a1b2c3d-v.mp4", None),  # it may be either
            ("s3://bucket/other.mp4", None),
            ("http://[bad", None),
            ("", None),
            ("./.", None),
        ],
    )
    def test_addresses_of_all_kinds_name_a_video(self, tmp_path, address, video_id):
        names = ("cam 1/v", "cam 2/v", "Bad.Boys__#01_?", "Tür 1 (日本).mp4")
        path = tmp_path / "export.json"
        task = {"id": 1, "data": {"video": address}, "annotations": [{"result": []}]}
        path.write_text(json.dumps([task]), encoding="utf-8")
        problems = Problems()
        found = read_export(path, set(names), problems, [])
        assert [review.video_id for review in found] == ([video_id] if video_id else [])
        if video_id is None:
            with pytest.raises(ManifestError, match="expected `video_id` or `video` of a video of the data set"):
                problems.raise_any()

    def test_an_export_with_all_that_label_studio_writes_beside_the_segments(self, read):
        """Two people, one of whom skipped the task; drafts, choices, and fields that say nothing here."""
        segments = {"original_length": 2.4, "from_name": "e", "to_name": "v", "origin": "manual"}
        choice = {"value": {"choices": ["blurred"]}, "id": "q", "type": "choices", "origin": "manual"}
        of_one = {
            "id": 11,
            "completed_by": {"id": 1, "email": "a@example.org"},
            "lead_time": 4.3,
            "ground_truth": False,
        }
        of_one |= {"was_cancelled": False, "result": [segment(4, 10, "Fighting") | segments, choice]}
        of_other = {"id": 12, "completed_by": 2, "was_cancelled": True, "ground_truth": False, "result": []}
        task = {"id": 1, "annotations": [of_one, of_other], "drafts": [{"id": 3}], "predictions": [7], "meta": {}}
        task |= {"data": {"video": "/data/upload/1/0a1b2c3d-t1.mp4"}, "file_upload": "0a1b2c3d-t1.mp4", "inner_id": 1}
        corrected = read([task])
        assert Interval("t1", "Fighting", 3, 10) in corrected.manifest.intervals
        assert "passed over: 1 of choices" in read.notes[0]
        assert "not made by `gig export`" in read.notes[1]
        of_other["was_cancelled"] = False
        with pytest.raises(ManifestError, match="2 annotations, by a@example.org, user 2: expected one"):
            read([task])

    def test_boxes_by_a_sequence_of_frames_are_refused_by_name(self, read):
        box = {"frame": 1, "enabled": True, "rotation": 0, "x": 1, "y": 2, "width": 3, "height": 4, "time": 0.04}
        value = {"framesCount": 24, "duration": 2.4, "sequence": [box], "labels": ["Fighting"]}
        with pytest.raises(
            ManifestError, match=r"region b: expected timeline labels, got a videorectangle: .*sequence"
        ):
            read.one({"id": "b", "type": "videorectangle", "value": value})

    def test_of_several_annotations_the_one_marked_as_ground_truth_counts(self, read):
        exported = annotated(tasks([event("t1")], {"t1": facts("t1")}))
        exported[0]["annotations"].append({"result": [], "was_cancelled": False, "ground_truth": True})
        assert read(exported).manifest.video("t1").labels == ()

    @pytest.mark.parametrize(
        ("result", "message"),
        [
            ([segment(2, 9, "fighting")], "unknown class 'fighting': did you mean 'Fighting'"),
            ([segment(25, 30, "Fighting")], "begins past the 24 frames"),
            ([segment(0, 3, "Fighting")], "expected frames from 1"),
            ([segment(9, 3, "Fighting")], "the first not after the last, got 9 to 3"),
            ([segment(1.5, 3, "Fighting")], "expected frames from 1"),
            ([segment(1, 3)], "got a segment without"),
            ([segment(1, 3) | {"value": [1]}], "got a segment without"),
            ([segment(1, 3) | {"value": {"ranges": [3], "timelinelabels": ["Fighting"]}}], "got 3 to None"),
            ([segment(1, 3) | {"value": {"ranges": [{}], "timelinelabels": "Fighting"}}], "got a segment without"),
            ([segment(float("nan"), float("inf"), "Fighting")], "got nan to inf"),
        ],
    )
    def test_what_cannot_be_meant_is_a_problem_with_its_place(self, read, result, message):
        with pytest.raises(ManifestError, match=message) as raised:
            read.one(*result)
        assert "task 1 (t1), region x" in str(raised.value)

    def test_all_problems_are_told_at_once(self, read):
        exported = annotated(tasks([event("t1"), event("t2")], {name: facts(name) for name in ("t1", "t2", "t3")}))
        exported[0]["data"]["video_id"] = "other"
        exported[1]["annotations"] *= 2
        exported.append(exported[2])
        with pytest.raises(ManifestError, match="a video of the data set, got 'other'") as raised:
            read(exported)
        assert "2 annotations, by user unknown, user unknown: expected one" in str(raised.value)
        assert "t3 is there already" in str(raised.value)

    @pytest.mark.parametrize("exported", [{"tasks": []}, [{"id": 1, "video": "t1.mp4"}], [3]])
    def test_another_form_of_export_is_an_error(self, read, exported):
        with pytest.raises(ManifestError, match="the export form 'JSON'"):
            read(exported)


def test_corrected_events_become_a_data_set(tmp_path, manifest):
    """From events to predictions, a person's corrections, CSV annotations, and a data set that has them."""
    for video in manifest.videos:
        write_video(tmp_path / video.path)
    made = tasks([event("t1"), event("t2")], {v.video_id: facts(v.video_id) for v in manifest.split("test")})
    exported = annotated(made)
    exported[0]["annotations"][0]["result"][0]["value"]["ranges"] = [{"start": 6, "end": 12}]
    exported[1]["annotations"][0]["result"] = []
    corrected = Import(manifest, tmp_path)(exported)
    problems = Problems()
    videos, intervals = write_csv(corrected.manifest, tmp_path / "corrected", problems)
    section = {"adapter": "csv", "name": "c", "root": str(tmp_path), "classes": list(CLASSES)}
    section |= {"videos": str(videos), "annotations": str(intervals)}
    loaded = build(TypeAdapter(Dataset).validate_python(section))
    assert loaded.video("t2").labels == ()
    np.testing.assert_array_equal(np.flatnonzero(loaded.frame_labels("t1", 24)[:, 0]), np.arange(5, 12))
    assert loaded.frame_labels("t3", 24).sum() == 0  # its annotation was empty
