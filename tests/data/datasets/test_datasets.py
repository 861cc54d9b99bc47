"""The adapters of the published data sets: what they read from official files, and that they report every problem."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import mock_datasets
import numpy as np
import pytest
from mock_datasets import FRAMES, LISTS, MOCKS, XD_TEST
from places import SHARED
from pydantic import TypeAdapter

from pipeline.config.datasets import Dataset
from pipeline.data.datasets import ADAPTERS, build, listing
from pipeline.data.problems import Problems
from pipeline.errors import ManifestError

OFFICIAL = SHARED / "data" / "annotations"
needs_official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official annotation files are not here")


def problems(dataset) -> str:
    with pytest.raises(ManifestError) as caught:
        build(dataset)
    return str(caught.value).replace(f"{dataset.root}/", "")


def edit(dataset, name: str, old: str, new: str) -> None:
    path = dataset.root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def spans(manifest, video_id: str, label: str) -> list[tuple[int, int]]:
    return [(i.start_frame, i.end_frame) for i in manifest.intervals if (i.video_id, i.label) == (video_id, label)]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def read_only(adapter: str, **settings):
    """Videos, intervals and notes of an adapter that finds no problem; the videos may be empty files."""
    dataset = TypeAdapter(Dataset).validate_python({"adapter": adapter, **settings})
    found, notes = Problems(), []
    videos = ADAPTERS[adapter].read_videos(dataset, found)
    intervals = ADAPTERS[adapter].read_intervals(dataset, videos, found, notes)
    assert found.lines == []
    return videos, intervals, notes


def test_a_name_that_is_not_utf8_is_a_problem(mock):
    dataset = mock("cityscene")
    (dataset.root / "train/Normal/n1.mp4").rename(dataset.root / "train/Normal/caf\udce9.mp4")
    assert "caf\udce9.mp4: expected a name in UTF-8" in problems(dataset)


class TestUcfCrime:
    def test_all_public_forms_of_the_files_are_read(self, mock):
        manifest = build(mock("ucf_crime"))
        assert {v.video_id: (v.split, v.labels) for v in manifest.videos} == {
            "Abuse001_x264": ("train", ("Abuse",)),
            "Abuse002_x264": ("train", ("Abuse",)),
            "Vandalism001_x264": ("train", ("Vandalism",)),
            "Normal_Videos001_x264": ("train", ()),
            "Normal_Videos002_x264": ("train", ()),
            "Abuse028_x264": ("test", ("Abuse",)),
            "Normal_Videos_003_x264": ("test", ()),
            "Vandalism017_x264": ("test", ("Vandalism",)),
        }
        assert (
            manifest.video("Normal_Videos_003_x264").path == "Testing_Normal_Videos_Anomaly/Normal_Videos_003_x264.mp4"
        )
        assert spans(manifest, "Abuse028_x264", "Abuse") == [(3, 9)]  # the end is part of the interval in the file
        assert spans(manifest, "Vandalism017_x264", "Vandalism") == [(0, 5), (20, 25)]

    def test_linked_folders_are_looked_into(self, mock, tmp_path):
        dataset = mock("ucf_crime")
        os.rename(dataset.root / "Anomaly-Videos-Part-4", tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", dataset.root / "Part-4")
        assert build(dataset).video("Vandalism017_x264").path == "Part-4/Vandalism/Vandalism017_x264.mp4"

    def test_an_end_past_the_last_frame_is_cut_with_a_warning(self, mock):
        manifest = build(mock("ucf_crime"))
        (warning,) = manifest.origin.warnings
        assert (
            "Temporal_Anomaly_Annotation.txt, row 3: Vandalism017_x264: the interval [20, 25) ends past the video's 24"
            in warning
        )
        assert manifest.origin.clip_past_end
        truth = manifest.frame_labels("Vandalism017_x264", FRAMES)
        assert np.flatnonzero(truth[:, 1]).tolist() == [0, 1, 2, 3, 4, 20, 21, 22, 23]

    def test_where_the_truth_came_from_is_kept(self, mock):
        dataset = mock("ucf_crime")
        origin = build(dataset).origin
        assert (origin.adapter, origin.version) == ("ucf_crime", 1)
        assert {f.path: f.sha256 for f in origin.files} == {
            name: hashlib.sha256((dataset.root / name).read_bytes()).hexdigest()
            for name in ("Anomaly_Train.txt", "Temporal_Anomaly_Annotation.txt")
        }

    def test_another_length_than_stated_is_a_warning(self, mock):
        dataset = mock("ucf_crime")
        edit(dataset, "Temporal_Anomaly_Annotation.txt", "mp4 24 Vand", "mp4 30 Vand")
        assert any(
            "Vandalism017_x264: 30 frames stated, the file has 24" in line for line in build(dataset).origin.warnings
        )

    def test_every_problem_is_listed(self, mock):
        dataset = mock("ucf_crime", classes=["Abuse", "Vandalism"])
        (dataset.root / "Anomaly-Videos-Part-1/Abuse/Abuse002_x264.mp4").unlink()
        mock_datasets.put(dataset.root, "Anomaly-Videos-Part-1/Abuse/Abuse050_x264.mp4", "extra/Abuse001_x264.mp4")
        os.rename(
            dataset.root / "Anomaly-Videos-Part-4/Vandalism/Vandalism001_x264.mp4",
            dataset.root / "Anomaly-Videos-Part-1/Abuse/Vandalism001_x264.mp4",
        )
        with (dataset.root / "Temporal_Anomaly_Annotation.txt").open("a") as stream:
            stream.write(
                "Abuse030_x264.mp4  Abuse  1  2  -1  -1\n"
                "Abuse031_x264.mp4  Abuse  1  two  -1  -1\n"
                "Abuse028_x264.mp4  Vandalism  30  40  -1  -1\n"
                "Normal_Videos_003_x264.mp4  Normal  5  9  -1  -1\n"
            )
        edit(dataset, "Temporal_Anomaly_Annotation.txt", "Abuse  3  8  -1  -1", "Abuse  3  8  6  9")
        found = problems(dataset)
        for expected in (
            "Anomaly_Train.txt, row 2: Abuse002_x264.mp4: no such file below",
            "row 1: Abuse001_x264.mp4: lies in several places: Anomaly-Videos-Part-1/Abuse/Abuse001_x264.mp4, extra/",
            "Anomaly_Train.txt, row 3: Vandalism001_x264.mp4: its name says Vandalism, its folder on disk Abuse",
            "Anomaly-Videos-Part-1/Abuse/Abuse050_x264.mp4: is in neither list",
            "Annotation.txt, row 4: Abuse030_x264.mp4: no such file",
            "Annotation.txt, row 5: expected name, [frames,] class, start, end, start, end, got 'Abuse031",
            "Annotation.txt, row 6: Abuse028_x264.mp4: its name says Abuse, its label column Vandalism",
            "Annotation.txt, row 6: Abuse028_x264: the interval [30, 41) ends past the video's 24 frames",
            "Annotation.txt, row 7: Normal_Videos_003_x264 is Normal and has the interval 5 to 9",
        ):
            assert expected in found

    def test_names_and_folders_of_the_lists_must_agree(self, mock):
        dataset = mock("ucf_crime")
        edit(dataset, "Anomaly_Train.txt", "Abuse/Abuse001", "Vandalism/Abuse001")
        edit(dataset, "Anomaly_Train.txt", "Anomaly/Normal_Videos001_x264.mp4", "Anomaly/Abuse.mp4")
        found = problems(dataset)
        assert "row 1: Abuse001_x264.mp4: its name says Abuse, its folder Vandalism" in found
        assert "row 4: expected a name like Abuse028_x264.mp4, got 'Abuse.mp4'" in found

    @needs_official
    @pytest.mark.parametrize("name", ["Temporal_Anomaly_Annotation.txt", "UCF_Annotation_with_frame_counts.txt"])
    def test_the_official_files(self, tmp_path, name):
        folder = OFFICIAL / "ucf_crime"
        for line in (folder / "Anomaly_Train.txt").read_text().split():
            touch(tmp_path / line)
        for line in (folder / name).read_text().splitlines():
            label = "Testing_Normal_Videos_Anomaly" if "Normal" in line else line.split("_x264")[0].split("/")[-1][:-3]
            touch(tmp_path / label / line.split()[0].split("/")[-1])
        settings = {"train_list": folder / "Anomaly_Train.txt", "annotations": folder / name}
        videos, intervals, notes = read_only("ucf_crime", root=tmp_path, **settings)
        assert (len(videos), sum(v.split == "test" for v in videos), len(intervals), notes) == (1900, 290, 156, [])
        lengths = {v.video_id: v.stated_frames for v in videos}
        if "counts" in name:
            assert sum(i.interval.end_frame > lengths[i.interval.video_id] for i in intervals) == 7
            assert sum(filter(None, lengths.values())) == 1_111_808


class TestXdViolence:
    def test_labels_sources_and_intervals(self, mock):
        manifest = build(mock("xd_violence"))
        video = manifest.video("Fury.2014__#00-39-36_00-40-44_label_B1-B2-0")
        assert (video.split, video.labels, video.source) == ("train", ("Fighting", "Shooting"), "Fury.2014")
        assert manifest.video(XD_TEST).labels == ("Explosion", "Shooting", "CarAccident")
        assert manifest.video("v=zzz__#1_label_A").labels == ()
        assert spans(manifest, XD_TEST, "Shooting") == [(1, 5)]
        assert spans(manifest, XD_TEST, "Explosion") == [(6, 9)]
        assert spans(manifest, XD_TEST, "CarAccident") == [(8, 11)]  # frame 8 shows both
        assert manifest.frame_labels(XD_TEST, FRAMES).any(axis=1).nonzero()[0].tolist() == [1, 2, 3, 4, 6, 7, 8, 9, 10]

    def test_faults_of_the_files_are_warnings(self, mock):
        warnings = "\n".join(build(mock("xd_violence")).origin.warnings)
        assert "v=OOj__#1_label_B6-0-0: B6 12 to 13 goes beyond annotations.txt; it is cut to that" in warnings
        assert "the CarAccident interval [5, 10) overlaps [2, 8); their frames count once" in warnings
        assert "the interval [20, 26) ends past the video's 24 frames; it is cut there" in warnings

    def test_every_problem_is_listed(self, mock):
        dataset = mock("xd_violence")
        mock_datasets.put(
            dataset.root, "test/v=new__#1_label_B4-0-0.mp4", "test/odd.mp4", "train/v=x__#1_label_A-B1-0.mp4"
        )
        (dataset.root / "test/v=OOj__#1_label_B6-0-0.mp4").unlink()
        with (dataset.root / "annotations.txt").open("a") as stream:
            stream.write("\nv=odd__#1_label_B1-0-0 3 4 5\nv=solo__#1_label_G-0-0 3 9\n")
        edit(dataset, "annotations_multiclasses.txt", "B2 1 4 G 6 8 B6 8 10", "B1 1 4 G 6 7")
        found = problems(dataset)
        for expected in (
            "test/odd.mp4: expected a name that ends in _label_A or in codes of B1, B2",
            "train/v=x__#1_label_A-B1-0.mp4: expected a name",
            "annotations.txt, row 3: v=odd__#1_label_B1-0-0: expected name and pairs of start and end, got '3 4 5'",
            "annotations.txt, row 4: v=solo__#1_label_G-0-0 is not in annotations_multiclasses.txt",
            "annotations.txt, row 2: v=OOj__#1_label_B6-0-0: no such video",
            f"multiclasses.txt, row 1: {XD_TEST}: 3 anomalous frames of annotations.txt are of no class, the first 8",
            f"multiclasses.txt, row 1: {XD_TEST} is labelled Explosion, Shooting, CarAccident, its interval 'Fighting'",
            "v=new__#1_label_B4-0-0 is a test video of Riot without an interval of it",
        ):
            assert expected in found

    @needs_official
    def test_the_official_files(self, tmp_path):
        folder = OFFICIAL / "xd_violence"
        for line in (folder / "annotations.txt").read_text().splitlines():
            if line.strip():
                touch(tmp_path / "test" / f"{line.split()[0].removesuffix('.mp4')}.mp4")
        (tmp_path / "train").mkdir()
        names = {
            "annotations": folder / "annotations.txt",
            "class_annotations": folder / "annotations_multiclasses.txt",
        }
        videos, intervals, notes = read_only("xd_violence", root=tmp_path, **names)
        assert len(videos) == 500
        marked = {
            (i.interval.video_id, f) for i in intervals for f in range(i.interval.start_frame, i.interval.end_frame)
        }
        assert len(marked) == 539_562  # what annotations.txt marks, ends included
        assert [("v=38GQ9L2meyE" in n, "Ip.Man.2008" in n) for n in notes] == [(True, False), (False, True)]


class TestShanghaiTech:
    def test_both_parts_in_both_splits(self, mock):
        manifest = build(mock("shanghaitech"))
        assert {v.video_id: (v.split, v.path, v.labels) for v in manifest.videos} == {
            "01_0014": ("train", "testing/frames/01_0014", ("Anomaly",)),
            "01_002": ("train", "training/videos/01_002.avi", ()),
            "13_003": ("train", "training/videos/13_003.avi", ()),
            "13_0007": ("train", "testing/frames/13_0007", ("Anomaly",)),
            "01_001": ("test", "training/videos/01_001.avi", ()),
            "01_0015": ("test", "testing/frames/01_0015", ("Anomaly",)),
        }
        assert spans(manifest, "01_0015", "Anomaly") == [(5, 9), (20, 24)]
        assert [f.path for f in manifest.origin.files][:2] == ["SH_Train_new.txt", "SH_Test_NEW.txt"]
        assert manifest.origin.warnings == ()

    def test_every_problem_is_listed(self, mock):
        dataset = mock("shanghaitech")
        mock_datasets.put(dataset.root, "training/videos/05_001.avi")
        (dataset.root / "training/videos/13_003.avi").unlink()
        np.save(dataset.root / "testing/test_frame_mask/01_0015.npy", np.zeros(20))
        edit(dataset, "SH_Train_new.txt", "01_002,0", "01_002,1")
        edit(dataset, "SH_Train_new.txt", "13_0007,1", "13_0007,1,24")
        edit(dataset, "SH_Test_NEW.txt", "01_001,0,24", "01_001,0,30")
        found = problems(dataset)
        for expected in (
            "SH_Train_new.txt, row 2: 01_002: its name is of the original training part, its label 1",
            "SH_Train_new.txt, row 3: 13_003: no such video in testing/frames, training/videos, training/frames",
            "SH_Train_new.txt, row 4: expected video,label with a label of 0 or 1, got '13_0007,1,24'",
            "training/videos/05_001.avi: 05_001 is in neither list",
            "testing/test_frame_mask/01_0015.npy: 01_0015: a mask of 20 frames for 24 images",
            "SH_Test_NEW.txt, row 2: 01_0015 is a test video of Anomaly without an interval of it",
        ):
            assert expected in found

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "the mask of 01_0015 (SH_Test_NEW.txt, row 2) cannot be read"),
            (np.full(FRAMES, 2), "expected one number per frame, 0 or 1, got int64 of shape (24,)"),
            (np.zeros((FRAMES, 2)), "got float64 of shape (24, 2)"),
        ],
    )
    def test_a_bad_mask_is_a_problem(self, mock, content, message):
        dataset = mock("shanghaitech")
        file = dataset.root / "testing/test_frame_mask/01_0015.npy"
        if content is None:
            file.unlink()
        else:
            np.save(file, content)
        assert message in problems(dataset)

    @needs_official
    def test_the_official_files(self, tmp_path):
        folder = OFFICIAL / "shanghaitech"
        settings = {"train_list": folder / "SH_Train_new.txt", "test_list": folder / "SH_Test_NEW.txt"}
        for file in settings.values():
            for line in file.read_text().split():
                name = line.split(",")[0]
                touch(
                    tmp_path / (f"testing/frames/{name}/000.jpg" if len(name) == 7 else f"training/videos/{name}.avi")
                )
        found = Problems()
        dataset = TypeAdapter(Dataset).validate_python({"adapter": "shanghaitech", "root": tmp_path, **settings})
        videos = ADAPTERS["shanghaitech"].read_videos(dataset, found)
        assert (found.lines, len(videos), sum(bool(v.labels) for v in videos)) == ([], 437, 107)


class TestCityScene:
    def test_folders_and_table(self, mock):
        manifest = build(mock("cityscene"))
        assert manifest.video("fr1").labels == ("Fighting", "Robbery")
        assert (manifest.video("t1").labels, manifest.video("t2").labels) == (("Robbery", "Fighting"), ())
        assert manifest.video("t2").path == "test/deeper/t2.mp4"
        assert spans(manifest, "t1", "Fighting") == [(5, 24)]

    def test_every_problem_is_listed(self, mock):
        dataset = mock("cityscene")
        mock_datasets.put(
            dataset.root, "train/loose.mp4", "train/Dancing/d1.mp4", "train/Normal;Robbery/x.mp4", "test/f1.mp4"
        )
        with (dataset.root / "annotations.csv").open("a") as stream:
            stream.write("t9,Robbery,1,2\nt1,Robbery,8,12\nt1,Fighting,24,99\n")
        found = problems(dataset)
        for expected in (
            "train/loose.mp4: expected a folder of a class",
            "train/Dancing/d1.mp4: unknown label 'Dancing'",
            "train/Normal;Robbery/x.mp4: expected a folder of a class",
            "test/f1.mp4: video_id 'f1' is taken already (train/Fighting/f1.mp4)",
            "annotations.csv, row 4: video 't9' is not in the video list",
            "annotations.csv, row 5: t1: the Robbery interval [8, 12) overlaps [2, 9)",
            "annotations.csv, row 6: t1: the interval [24, 99) ends past the video's 24 frames",
        ):
            assert expected in found


@pytest.mark.parametrize("adapter", MOCKS)
def test_a_folder_without_anything_says_what_is_missing(tmp_path, adapter):
    dataset = TypeAdapter(Dataset).validate_python({"adapter": adapter, "root": tmp_path})
    assert listing(dataset) == []
    assert LISTS[adapter] in problems(dataset) or "no such file" in problems(dataset)
