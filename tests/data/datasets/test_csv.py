"""The CSV adapter: what it accepts, and that it reports every problem."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import av
import pytest

from pipeline.config import CsvDataset, parse_experiment
from pipeline.data.datasets import build, listing, training_labels
from pipeline.data.manifest import Interval
from pipeline.errors import ManifestError
from pipeline.stages.common.manifest import build_manifest

CLASSES = ("Fight", "Fire")
VIDEOS = """video_id,path,split,label,source,remark
n1,v/n1.mp4,train,Normal,cam1,x
a1,v/a1.mp4,train,Fight;Fire,,"two, at once"
t0,v/t0.mp4,test,Normal,cam2,
T0,v/t1.mp4,test,Fire,cam2,
"""
INTERVALS = """video_id,label,start_frame,end_frame
T0,Fire,2,5
T0,Fire,8,12
"""


@pytest.fixture
def root(tmp_path: Path, make_video) -> Path:
    """A small data set in tmp_path: four videos of 12 frames and the two files."""
    for name in ("n1", "a1", "t0", "t1"):
        make_video(f"v/{name}.mp4", frames=12)
    (tmp_path / "videos.csv").write_text(VIDEOS)
    (tmp_path / "annotations.csv").write_text(INTERVALS)
    return tmp_path


def section(root: Path, **settings) -> CsvDataset:
    return CsvDataset(
        **{"adapter": "csv", "name": "mine", "root": root, "classes": CLASSES, "annotations": "annotations.csv"}
        | settings
    )


def read(root: Path, progress=None, **settings):
    return build(section(root, **settings), progress=progress)


def problems(root: Path, **options) -> list[str]:
    """The lines of the error, without the root."""
    with pytest.raises(ManifestError) as caught:
        read(root, **options)
    return [line.strip().replace(f"{root}/", "") for line in str(caught.value).splitlines()[1:]]


def test_a_data_set_is_read(root):
    manifest = read(root)
    assert (manifest.origin.adapter, manifest.origin.clip_past_end, manifest.origin.warnings) == ("csv", False, ())
    assert [file.path for file in manifest.origin.files] == ["videos.csv", "annotations.csv"]
    assert manifest.origin.files[0].sha256 == hashlib.sha256(VIDEOS.encode()).hexdigest()
    assert training_labels(section(root)) == [("n1", (), "cam1"), ("a1", ("Fight", "Fire"), None)]
    assert manifest.classes == CLASSES
    assert manifest.root == root
    assert [v.video_id for v in manifest.videos] == ["n1", "a1", "t0", "T0"]
    video = manifest.video("a1")
    assert (video.path, video.split, video.labels, video.source) == ("v/a1.mp4", "train", ("Fight", "Fire"), None)
    assert (video.width, video.height, video.fps, video.packets) == (96, 64, 10.0, 12)
    assert video.bytes == (root / "v/a1.mp4").stat().st_size
    assert manifest.intervals == (Interval("T0", "Fire", 2, 5), Interval("T0", "Fire", 8, 12))


def test_labels_is_accepted_for_label_and_a_byte_order_mark_ignored(root):
    text = VIDEOS.replace("label,", "labels ,", 1)
    (root / "videos.csv").write_text(text, encoding="utf-8-sig")
    assert read(root).video("a1").labels == ("Fight", "Fire")


def test_progress_is_told_of_every_header(root):
    calls = []
    read(root, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_another_normal_label(root):
    (root / "videos.csv").write_text(VIDEOS.replace("Normal", "ok"))
    assert read(root, normal_label="ok").video("n1").labels == ()


def test_the_whole_of_an_anomalous_video_when_asked_for(root):
    (root / "annotations.csv").write_text("video_id,label,start_frame,end_frame\n")
    assert problems(root) == ["videos.csv, row 5: T0 is a test video of Fire without an interval of it"]
    manifest = read(root, whole_video_anomalous=True)
    assert manifest.intervals == (Interval("T0", "Fire", 0, None),)
    assert manifest.frame_labels("T0", 7)[:, 1].all()
    alone = read(root, annotations=None, whole_video_anomalous=True)
    assert (alone.videos, alone.intervals) == (manifest.videos, manifest.intervals)


def test_a_normal_label_in_other_capitals_is_one_problem_where_whole_videos_are_asked_for(root):
    (root / "videos.csv").write_text(VIDEOS.replace("test,Normal", "test,normal"))
    expected = ["videos.csv, row 4: unknown label 'normal'; did you mean 'Normal'?"]
    assert problems(root, annotations=None, whole_video_anomalous=True) == expected


def test_an_annotated_video_keeps_its_intervals_when_whole_videos_are_asked_for(root):
    assert read(root, whole_video_anomalous=True) == read(root)


def test_each_label_of_a_test_video_needs_an_interval(root):
    (root / "videos.csv").write_text(VIDEOS.replace("test,Fire", "test,Fire;Fight"))
    expected = ["videos.csv, row 5: T0 is a test video of Fight without an interval of it"]
    assert problems(root) == expected
    assert problems(root, whole_video_anomalous=True) == expected


def test_every_problem_is_listed_by_file_and_row(root):
    (root / "v/broken.mp4").write_text("no video")
    (root / "videos.csv").write_text(
        VIDEOS
        + "n1,v/n1.mp4,train,Normal,,\n"
        + "gone,v/gone.mp4,train,Normal,,\n"
        + "broken,v/broken.mp4,train,fight,,\n"
        + "out,../out.mp4,train,Fire;Normal,,\n"
        + ",v/n1.mp4,training,,,\n"
    )
    (root / "annotations.csv").write_text(
        INTERVALS + "T0,Fire,-1,3\nT0,Fire,5,5\nT0,Fire,1.5,3\nT0,Fight,1,2\nwho,Fire,1,2\na1,Fire,1,2\nT0,Fier,1,2\n"
    )
    found = "\n".join(problems(root))
    for expected in (
        "videos.csv, row 6: video_id 'n1' is taken already (videos.csv, row 2)",
        "videos.csv, row 7: gone: v/gone.mp4: no such file",
        "videos.csv, row 8: unknown label 'fight'; did you mean 'Fight'?",
        "videos.csv, row 9: path: expected one below the root",
        "videos.csv, row 9: Normal together with an anomaly: 'Fire;Normal'",
        "videos.csv, row 10: video_id is empty",
        "videos.csv, row 10: path: 'v/n1.mp4' is that of 'n1' already",
        "videos.csv, row 10: split: expected one of train, test, got 'training'",
        "videos.csv, row 10: label is empty",
        "annotations.csv, row 4: T0: the interval [-1, 3) begins before frame 0",
        "annotations.csv, row 5: T0: the interval [5, 5)",
        "annotations.csv, row 6: T0: expected whole frame numbers, got '1.5' and '3'",
        "annotations.csv, row 7: T0 is labelled Fire, its interval 'Fight'",
        "annotations.csv, row 8: video 'who' is not in the video list",
        "annotations.csv, row 9: a1 is a training video; training has video-level labels only",
        "annotations.csv, row 10: unknown label 'Fier'; did you mean 'Fire'?",
    ):
        assert expected in found
    assert len(found.splitlines()) == 16


def test_an_unreadable_video_stays_in_the_manifest_for_the_extraction_to_try(root):
    (root / "v/a1.mp4").write_text("no video")
    (root / "v/n1.mp4").write_bytes(b"")
    manifest = read(root)
    assert [manifest.video(name).packets for name in ("a1", "n1")] == [0, 0]
    assert manifest.video("a1").bytes == 8
    assert manifest.video("T0").packets > 0


def test_an_interval_past_the_last_decoded_frame_is_a_problem(root):
    (root / "annotations.csv").write_text(INTERVALS + "T0,Fire,12,4000\n")
    (line,) = problems(root)
    assert "annotations.csv, row 4: T0: the interval [12, 4000) ends past the video's 12 frames" in line


def test_a_row_with_a_bad_frame_number_is_one_problem(root):
    (root / "annotations.csv").write_text("video_id,label,start_frame,end_frame\nT0,Fire,two,5\n")
    assert problems(root) == ["annotations.csv, row 2: T0: expected whole frame numbers, got 'two' and '5'"]


def test_a_missing_column_is_named_with_the_header_found(root):
    (root / "videos.csv").write_text(VIDEOS.replace("split", "part", 1))
    assert problems(root) == [
        "videos.csv, row 1: no column split: expected video_id, path, split, label, "
        "got video_id, path, part, label, source, remark"
    ]


def test_files_that_cannot_be_read_are_problems(root):
    (root / "videos.csv").unlink()
    (root / "annotations.csv").write_bytes(b"\xff\xfe\x00video_id")
    found = problems(root)
    assert [line.split(":")[0] for line in found] == ["videos.csv", "annotations.csv"]
    (root / "annotations.csv").write_text(INTERVALS)
    (root / "videos.csv").write_text("video_id,path,split,label\n")
    with pytest.raises(ManifestError, match="holds no rows"):
        read(root)


def test_rows_are_lines_of_the_file(root):
    text = VIDEOS.replace("a1,", "\n\na1,", 1).replace("T0,v/t1.mp4,test", "T0,v/t1.mp4,tset")
    (root / "videos.csv").write_text(text)
    assert problems(root)[0].startswith("videos.csv, row 7: split")


def test_a_folder_of_images_is_a_video(root):
    (root / "v/t1").mkdir()
    for index in (1, 2, 10):
        with av.open(str(root / f"v/t1/{index}.png"), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = 32, 16, "rgb24"
            container.mux(stream.encode(av.VideoFrame(32, 16, "rgb24")))
            container.mux(stream.encode(None))
    (root / "videos.csv").write_text(VIDEOS.replace("v/t1.mp4", "v/t1"))
    (root / "annotations.csv").write_text(INTERVALS.splitlines()[0] + "\nT0,Fire,1,3\n")
    video = read(root).video("T0")
    assert (video.packets, video.fps, video.width, video.height) == (3, 25.0, 32, 16)
    (_, _, path, size, mtime) = listing(section(root))[-1]
    files = [f.stat() for f in (root / "v/t1").iterdir()]
    assert (path, size, mtime) == ("v/t1", sum(f.st_size for f in files), max(f.st_mtime_ns for f in files))
    assert video.bytes == size


def test_the_listing_follows_size_and_time_and_keeps_what_is_missing(root):
    before = listing(section(root))
    facts = (root / "v/n1.mp4").stat()
    assert before[0] == ("n1", "train", "v/n1.mp4", facts.st_size, facts.st_mtime_ns)
    os.utime(root / "v/n1.mp4", ns=(1, 1))
    (root / "v/a1.mp4").unlink()
    after = listing(section(root))
    assert after[0][2:] == ("v/n1.mp4", facts.st_size, 1)
    assert after[1][2:] == ("v/a1.mp4", -1, -1)
    assert after[2:] == before[2:]
    assert listing(section(root, videos="nowhere.csv")) == []


def test_ids_that_would_share_a_key_are_refused(nano, tmp_path, make_video, monkeypatch):
    for name in ("a", "b", "c"):
        make_video(f"{name}.mp4")
    (tmp_path / "videos.csv").write_text(
        "video_id,path,split,label\nCam/1,a.mp4,train,Fighting\ncam/1,b.mp4,train,Normal\nt,c.mp4,test,Normal\n"
    )
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
    experiment = parse_experiment(nano)
    build_manifest(experiment, tmp_path / "fine")  # ids that differ in case only have different keys
    monkeypatch.setattr("pipeline.stages.common.manifest.escape", str.lower)
    with pytest.raises(ManifestError, match="'cam/1' and 'Cam/1' have the same key 'cam/1'"):
        build_manifest(experiment, tmp_path / "refused")
    assert not list((tmp_path / "refused").iterdir())


def test_gaps_in_the_numbers_of_an_image_folder_are_told(root):
    frames = root / "v" / "frames"
    frames.mkdir()
    with av.open(str(frames / "image_0.png"), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        container.mux([*stream.encode(av.VideoFrame(32, 32, "rgb24")), *stream.encode(None)])
    for number in (1, 2, 3, 4, 10, 11, 13):
        (frames / f"image_{number}.png").write_bytes((frames / "image_0.png").read_bytes())
    (root / "videos.csv").write_text(VIDEOS + "f0,v/frames,train,Normal,,\n")
    manifest = read(root)
    assert {video.video_id: video.packets for video in manifest.videos}["f0"] == 8
    place = f"{root}/videos.csv, row 6: f0: "
    what = (
        "images are missing between the others: number 5 to 9, 12 (6 in all); the images that are there are its frames"
    )
    assert manifest.origin.warnings == (place + what,)
