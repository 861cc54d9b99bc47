"""Events in the forms of other programs, held against what those say of them."""

from __future__ import annotations

import html
import io
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.events import ANOMALY, Event
from pipeline.data.formats import activitynet, cityscene, cvat, fiftyone, label_studio, webvtt
from pipeline.data.formats.facts import Numbering, VideoFacts, of_classes
from pipeline.errors import PipelineError

NTSC = Fraction(30000, 1001)


def xml(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.encode())


def event(video_id="v", name="Fighting", start=3, end=10, fps=10.0, peak=0.9, mean=0.5) -> Event:
    return Event(video_id, "", name, start / fps, end / fps, start, end, start / fps, peak, mean)


def steady(frames=40, fps=10.0) -> VideoFacts:
    return VideoFacts("videos/v.mp4", frames, fps, 64, 48)


class TestNumbering:
    @pytest.mark.parametrize("fps", [10.0, 25.0, float(NTSC), 23.976])
    def test_a_steady_video_has_its_own_frames_from_1_to_the_last(self, fps):
        numbering = Numbering.of(VideoFacts(fps=fps, frames=100_000))
        assert numbering.numbers(0, 1) == (1, 1)
        assert numbering.numbers(99_000, 99_017) == (99_001, 99_017)
        assert numbering.frames(99_001, 99_017) == (99_000, 99_017)

    def test_times_of_29_97_frames_a_second_are_steady_though_the_clock_rounds_them(self):
        times = np.array([round(1000 * float(i / NTSC)) / 1000 for i in range(10_000)])  # as Matroska keeps them
        numbering = Numbering.of(VideoFacts(frames=10_000, fps=float(NTSC), times_s=times))
        assert numbering.boundaries_s is None
        assert numbering.rate == pytest.approx(float(NTSC), abs=1e-4)

    def test_every_range_of_a_variable_frame_rate_is_read_back_as_it_was(self):
        generator = np.random.default_rng(0)
        times = np.concatenate([[0], np.cumsum(generator.choice([0.02, 0.033, 0.04, 0.5], 60))])
        numbering = Numbering.of(VideoFacts(frames=61, fps=10.0, times_s=times))
        assert numbering.boundaries_s is not None
        for start in range(61):
            for end in range(start + 1, 62):
                assert numbering.frames(*numbering.numbers(start, end)) == (start, end)

    def test_numbers_of_a_variable_frame_rate_are_steps_of_a_clock(self):
        numbering = Numbering.of(VideoFacts(frames=4, times_s=np.array([0, 0.1, 0.6, 0.7])))
        assert numbering.rate == 11  # one more than the 10 that frames of 0.1 s would be
        assert numbering.numbers(1, 2) == (2, 7)  # seconds 0.1 to 0.6

    def test_a_video_of_no_known_rate_is_an_error(self):
        with pytest.raises(PipelineError, match="expected its frame rate"):
            Numbering.of(VideoFacts("a.mp4"))


class TestClasses:
    def test_events_in_general_are_left_out_where_classes_have_some(self):
        kept, notes = of_classes([event(), event(name=ANOMALY)])
        assert [e.class_name for e in kept] == ["Fighting"]
        assert "1 event(s) of anomaly" in notes[0]
        assert "--class anomaly" in notes[0]

    def test_they_are_all_there_is_of_a_table_without_classes(self):
        assert of_classes([event(name=ANOMALY)]) == ([event(name=ANOMALY)], [])

    def test_a_class_without_events_is_an_error(self):
        with pytest.raises(PipelineError, match="no event of Fire: the table has Fighting"):
            of_classes([event()], ["Fire"])


class TestActivityNet:
    def test_results_are_segments_in_seconds(self):
        document = activitynet.results([event(fps=float(NTSC)), event("w", "Fire")])
        assert set(document) == {"version", "results", "external_data"}
        (found,) = document["results"]["v"]
        assert found["segment"] == pytest.approx([3 * 1.001 / 30, 10 * 1.001 / 30])
        assert (found["label"], found["score"]) == ("Fighting", 0.9)

    def test_the_truth_has_every_video_with_its_length(self):
        document = activitynet.truth([event()], {"v": steady(), "quiet": steady(50)})
        assert {name: entry["duration"] for name, entry in document["database"].items()} == {"v": 4.0, "quiet": 5.0}
        assert document["database"]["v"]["annotations"] == [{"label": "Fighting", "segment": [0.3, 1.0]}]
        assert document["database"]["quiet"]["annotations"] == []
        assert document["database"]["v"]["resolution"] == "64x48"
        assert [node["nodeName"] for node in document["taxonomy"]] == ["Root", "Fighting"]

    def test_a_length_that_is_not_known_is_an_error(self):
        with pytest.raises(PipelineError, match="v: expected to know its duration_s"):
            activitynet.truth([event()], {})


class TestFiftyOne:
    def test_frames_count_from_1_and_the_last_belongs_to_the_detection(self):
        document = fiftyone.labels([event(start=0, end=1), event(name="Fire", start=3, end=10)], {"quiet": steady()})
        first, second = document["labels"]["v"]
        assert (first["support"], second["support"]) == ([1, 1], [4, 10])
        assert [document["classes"][found["label"]] for found in (first, second)] == ["Fighting", "Fire"]
        assert document["labels"]["quiet"] == []

    def test_the_files_are_named(self):
        """FiftyOne drops the ending of every name, and looks for relative paths beside data.json."""
        facts = {name: VideoFacts(f"{name}.mkv", 40, 10.0) for name in ("Bad.Boys.1995", "Bad.Boys.2003", "a/v")}
        found = fiftyone.data([event("a/v")], facts)
        assert {name.rpartition(".")[0] for name in found} == set(fiftyone.labels([event("a/v")], facts)["labels"])
        assert found["Bad.Boys.1995.mkv"] == str(Path.cwd() / "Bad.Boys.1995.mkv")
        with pytest.raises(PipelineError, match="v: expected to know its path"):
            fiftyone.data([event()], {})

    @pytest.mark.parametrize("name", ["/a/v", "a//v", "a\\v", "a/./v", "a/../v"])
    def test_an_id_that_is_another_path_there_is_an_error(self, name):
        with pytest.raises(PipelineError, match="would read this one as another"):
            fiftyone.data([event(name)], {name: steady()})


class TestCvat:
    def test_a_track_is_seen_from_its_first_frame_until_it_is_outside(self):
        root = xml(cvat.video_annotations("v", [event()], steady(), ["Fighting"]))
        assert root.findtext("version") == "1.1"
        assert root.findtext("meta/task/labels/label/name") == "Fighting"
        (track,) = root.findall("track")
        seen = [(box.get("frame"), box.get("outside"), box.get("keyframe")) for box in track.findall("box")]
        assert seen == [("3", "0", "1"), ("10", "1", "1")]
        assert [track.find("box").get(side) for side in ("xtl", "ytl", "xbr", "ybr")] == [
            "0.00",
            "0.00",
            "64.00",
            "48.00",
        ]

    def test_a_track_to_the_end_of_the_video_is_never_outside(self):
        root = xml(cvat.video_annotations("v", [event(end=40)], steady(), []))
        assert [box.get("outside") for box in root.findall("track/box")] == ["0"]

    def test_it_has_all_that_a_reader_asks_for(self):
        """What CVAT's own importer and Datumaro's take from the file, without which they stop or pass over a box."""
        classes = ["Fighting", 'A & "B"']
        root = xml(cvat.video_annotations("v", [event(), event(name=classes[1])], steady(), classes))
        size = root.find("meta/task/original_size")
        assert [int(size.findtext(side)) for side in ("width", "height")] == [64, 48]
        declared = {label.findtext("name"): label for label in root.findall("meta/task/labels/label")}
        assert len({int(track.get("id")) for track in root.findall("track")}) == 2
        for track in root.findall("track"):
            attribute = declared[track.get("label")].find("attributes/attribute")
            assert {field.tag for field in attribute} == {"name", "mutable", "input_type", "default_value", "values"}
            for box in track.findall("box"):
                assert {box.get(flag) for flag in ("outside", "occluded", "keyframe")} <= {"0", "1"}
                assert [float(box.get(side)) for side in ("xtl", "ytl", "xbr", "ybr")] == [0, 0, 64, 48]
                assert 0 <= int(box.get("frame")) < int(root.findtext("meta/task/size"))
                assert [score.get("name") for score in box] == [attribute.findtext("name")]

    def test_names_are_escaped_and_what_xml_cannot_hold_is_marked(self):
        text = cvat.video_annotations("v", [event(name='<b>&"\x08')], steady(), [])
        assert xml(text).find("track").get("label") == '<b>&"\ufffd'


class TestWebVtt:
    def test_overlapping_events_are_cues_in_order(self):
        text = webvtt.subtitles([event(name="Fire", start=5, end=36_005), event(), event(start=3, end=4)])
        assert text == (
            "WEBVTT\n\n1\n00:00:00.300 --> 00:00:00.400\nFighting 0.90\n\n"
            "2\n00:00:00.300 --> 00:00:01.000\nFighting 0.90\n\n3\n00:00:00.500 --> 01:00:00.500\nFire 0.90\n"
        )

    def test_a_hostile_name_is_text_on_one_line(self):
        text = webvtt.subtitles([event(name="<c.x>a\n\n00:00:00.000 --> 00:00:09.000 & b")])
        assert text.splitlines()[4] == "&lt;c.x&gt;a 00:00:00.000 --&gt; 00:00:09.000 &amp; b 0.90"
        assert len(text.splitlines()) == 5

    def test_a_frame_keeps_a_length(self):
        assert "00:00:00.300 --> 00:00:00.301" in webvtt.subtitles([event(start=3000, end=3000.2, fps=10_000)])

    def test_another_reader_finds_the_same(self):
        reader = pytest.importorskip("webvtt")
        events = [event(name="A & B <i>", fps=float(NTSC)), event("v", "Fire", 4, 200, fps=float(NTSC))]
        cues = list(reader.from_buffer(io.StringIO(webvtt.subtitles(events))))
        assert [(cue.start, cue.end) for cue in cues] == [
            ("00:00:00.100", "00:00:00.334"),
            ("00:00:00.133", "00:00:06.673"),
        ]
        assert html.unescape(cues[0].text) == "A & B <i> 0.90"


def test_an_event_past_the_end_of_its_video_is_an_error():
    for write in (
        lambda late: fiftyone.labels(late, {"v": steady()}),
        lambda late: cvat.video_annotations("v", late, steady(), []),
        lambda late: label_studio.tasks(late, {"v": steady()}),
    ):
        write([event(end=40)])
        with pytest.raises(PipelineError, match=r"v: an event of frames \[3, 41\), the video has 40 frames"):
            write([event(end=41)])


def test_cityscene_has_frames_and_the_mean_score():
    stream = io.StringIO()
    cityscene.write_task2(stream, cityscene.event_rows([event(), event("=v", "Fire", 0, 2)]))
    assert stream.getvalue().splitlines() == [
        "video,class,start,end,score",
        "'=v,Fire,0,2,0.500000",
        "v,Fighting,3,10,0.500000",
    ]
    with pytest.raises(PipelineError, match="some of 'anomaly'"):
        cityscene.event_rows([event(name=ANOMALY)])
