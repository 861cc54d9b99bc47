"""Data sets whose videos are not at hand: tables of frame counts, the manifest made of them, and features held against
it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from places import SHARED
from pydantic import TypeAdapter

from cache import FeatureStore, PlainLayout
from cache.importing import import_npy
from pipeline.cli.main import main
from pipeline.config import Evaluation, parse_experiment
from pipeline.config.datasets import Dataset
from pipeline.data.datasets import build
from pipeline.data.frame_counts import read_frame_counts
from pipeline.data.manifest import Interval, load, save
from pipeline.data.order import read_order
from pipeline.data.problems import Problems
from pipeline.errors import ConfigError, LengthMismatch, ManifestError
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.evaluation.judged import judge_folder
from pipeline.stages.extraction.extract import extract_split

OFFICIAL = SHARED / "data" / "annotations"
VIDEOS = (
    "video_id,split,label,frames,fps\n"
    "n1,train,Normal,100,25\nf1,train,Fight,90,25\nt1,test,Fight,100,25\nt2,test,Normal,50,25\n"
)
INTERVALS = "video_id,label,start_frame,end_frame\nt1,Fight,60,100\n"


def lines(file: Path) -> tuple[dict, list[str]]:
    problems = Problems()
    return read_frame_counts(file, problems), problems.lines


def put(root: Path, **files: str) -> Path:
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


def dataset(root: Path, adapter: str, **settings: object):
    return TypeAdapter(Dataset).validate_python({"adapter": adapter, "root": str(root), **settings})


def lengths(manifest) -> dict[str, tuple[str, int]]:
    return {entry.video_id: (entry.split, entry.packets) for entry in manifest.videos}


@pytest.fixture
def mine(tmp_path) -> Path:
    """A csv data set without a single video."""
    return put(tmp_path, videos__csv=VIDEOS, annotations__csv=INTERVALS)


def own(root: Path, **settings: object):
    facts = {"name": "mine", "annotations": "annotations.csv", "classes": ["Fight"], "frame_counts": "videos.csv"}
    return dataset(root, "csv", **facts | settings)


class TestTable:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "\ufeffvideo_id,frames,fps,split\nv 1,12,29.97,test\nv2,3,,\n",
                {"v 1": (12, 29.97, "test"), "v2": (3, 0, "")},
            ),
            ("video_id,frames,anomalous_frames\nv1,12,3\n\n", {"v1": (12, 0, "")}),
            (
                "Arson/Arson022_x264.mp4 8640 Arson 3500 4000 -1 -1 \nA_x264.mp4\t-1\tArson\t1\t2\t-1\t-1\n",
                {"Arson022_x264": (8640, 0, "")},
            ),
            ("01_001,0,764\n01_0015,1,-1\n", {"01_001": (764, 0, "")}),
        ],
    )
    def test_forms(self, tmp_path, text, expected):
        found, problems = lines(put(tmp_path, t=text) / "t")
        assert {row.video_id: (row.n_frames, row.fps, row.split) for row in found.values()} == expected
        assert problems == []

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("video_id,frames\nv1,many\n", "row 2: v1: expected a video and a number of frames from 1, got 'many'"),
            ("video_id,frames\nv1,0\n", "row 2: v1: expected a video and a number"),
            ("video_id,frames\nv1,5\nv1,6\n", "row 3: v1 is there already"),
            ("video_id,frames,fps\nv1,5,fast\n", "row 2: v1: expected frames per second, got 'fast'"),
            ("name,length\nv1,5\n", "row 1: expected video_id and frames in a CSV file with a header"),
            ("01_001,0,764\n01_002,zero,9\n", "row 2: expected a name and a number of frames as in the rows before"),
            ("", "row 1: expected video_id and frames"),
        ],
    )
    def test_what_cannot_be_read_is_said_by_row(self, tmp_path, text, problem):
        _, problems = lines(put(tmp_path, t=text) / "t")
        assert len(problems) == 1
        assert problem in problems[0]

    def test_an_order_is_read_from_ids_file_names_and_published_lists(self, tmp_path):
        put(
            tmp_path,
            a="v1\nsome/folder/v2_i3d.npy\n\nv3.mp4\n",
            b="Arson/A_x264.mp4 8640 Arson 3500 4000 -1 -1\n",
            c="v1\nv1\n",
            d="",
        )
        assert read_order(tmp_path / "a", suffix="_i3d") == ("v1", "v2", "v3")
        assert read_order(tmp_path / "a", known={"v3.mp4"}, suffix="_i3d")[2] == "v3.mp4"
        assert read_order(tmp_path / "b") == ("A_x264",)
        for name in "cdx":
            with pytest.raises(ManifestError, match=name):
                read_order(tmp_path / name)


class TestAdapters:
    def test_csv(self, mine):
        manifest = build(own(mine))
        assert lengths(manifest) == {"n1": ("train", 100), "f1": ("train", 90), "t1": ("test", 100), "t2": ("test", 50)}
        assert manifest.intervals == (Interval("t1", "Fight", 60, 100),)
        put(mine, annotations__csv=INTERVALS.replace("100", "101"))
        with pytest.raises(ManifestError, match=r"t1: the interval \[60, 101\) ends past the video's 100 frames"):
            build(own(mine))

    def test_what_the_table_lacks_or_has_beyond_the_list_is_said(self, mine):
        put(mine, counts__csv="video_id,frames\nf1,90\nt1,100\nx,7\n")
        with pytest.raises(ManifestError, match="t2: no number of frames in the table"):
            build(own(mine, frame_counts="counts.csv"))
        put(mine, counts__csv="video_id,frames\nf1,90\nt1,100\nt2,50\nx,7\n")
        missing, surplus = build(own(mine, frame_counts="counts.csv")).origin.warnings
        assert "1 training video(s) have no frame count, so the length of their features is not checked: n1" in missing
        assert "1 row(s) are of no listed video: x" in surplus
        with pytest.raises(ManifestError, match="none.csv: cannot be read"):
            build(own(mine, frame_counts="none.csv"))

    def test_the_test_split_alone(self, mine):
        put(mine, videos__csv="\n".join(row for row in VIDEOS.splitlines() if "train" not in row))
        assert set(lengths(build(own(mine), test_only=True))) == {"t1", "t2"}
        with pytest.raises(ManifestError, match="no train video"):
            build(own(mine))

    def test_ucf_crime_by_its_published_list(self, tmp_path):
        put(
            tmp_path,
            Anomaly_Train__txt="Abuse/Abuse001_x264.mp4\nTraining_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4\n",
            Temporal_Anomaly_Annotation__txt="Abuse/Abuse028_x264.mp4 30 Abuse 3 8 -1 -1\n"
            "Normal_Videos_003_x264.mp4 20 Normal -1 -1 -1 -1\n",
        )
        manifest = build(
            dataset(tmp_path, "ucf_crime", classes=["Abuse"], frame_counts="Temporal_Anomaly_Annotation.txt")
        )
        expected = {"Abuse001_x264": ("train", 0), "Normal_Videos001_x264": ("train", 0)}
        assert lengths(manifest) == expected | {"Abuse028_x264": ("test", 30), "Normal_Videos_003_x264": ("test", 20)}

    def test_shanghaitech_by_its_list_and_its_masks(self, tmp_path):
        put(tmp_path, SH_Train_new__txt="01_0014,1\n01_002,0\n", SH_Test_NEW__txt="01_001,0,24\n01_0015,1,-1\n")
        (tmp_path / "testing/test_frame_mask").mkdir(parents=True)
        np.save(tmp_path / "testing/test_frame_mask/01_0015.npy", np.eye(1, 30, 7, dtype=int)[0])
        manifest = build(dataset(tmp_path, "shanghaitech", frame_counts="SH_Test_NEW.txt"), test_only=True)
        assert lengths(manifest) == {"01_001": ("test", 24), "01_0015": ("test", 30)}

    def test_xd_violence_and_cityscene_by_a_table_with_the_split(self, tmp_path):
        put(
            tmp_path,
            c__csv="video_id,frames,split\na__#1_label_A,30,train\nb__#1_label_G-0-0,30,train\nc__#1_label_G-0-0,20,test\nd__#1_label_A,20,test\n",
            annotations__txt="c__#1_label_G-0-0 2 9\n",
            annotations_multiclasses__txt="c__#1_label_G-0-0 G 2 9\n",
        )
        manifest = build(dataset(tmp_path, "xd_violence", frame_counts="c.csv"))
        assert [entry.labels for entry in manifest.videos] == [(), ("Explosion",), ("Explosion",), ()]
        put(
            tmp_path, c__csv="video_id,frames,split,label\na,30,train,Normal\nb,30,train,Fighting\nc,20,test,\nd,20,,\n"
        )
        put(tmp_path, annotations__csv="video_id,label,start_frame,end_frame\nc,Fighting,2,9\n")
        with pytest.raises(ManifestError, match="row 5: d: column split: expected one of train, test, got ''"):
            build(dataset(tmp_path, "cityscene", frame_counts="c.csv", classes=["Fighting"]))
        put(tmp_path, c__csv=(tmp_path / "c.csv").read_text().replace("d,20,,\n", ""))
        manifest = build(dataset(tmp_path, "cityscene", frame_counts="c.csv", classes=["Fighting"]))
        assert [(entry.video_id, entry.labels) for entry in manifest.videos] == [
            ("a", ()),
            ("b", ("Fighting",)),
            ("c", ("Fighting",)),
        ]

    @pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official annotation files are not at hand")
    def test_the_official_ucf_crime_lists(self):
        settings = {"frame_counts": "UCF_Annotation_with_frame_counts.txt"}
        manifest = build(dataset(OFFICIAL / "ucf_crime", "ucf_crime", **settings))
        assert (len(manifest.split("train")), len(manifest.split("test"))) == (1610, 290)
        assert sum(entry.packets for entry in manifest.split("test")) == 1111808

    def test_an_interval_in_the_frames_after_the_last_clip_is_left_out(self, tmp_path):
        names = "Abuse028_x264.mp4  Abuse  3  90  100  105\nVandalism017_x264.mp4 Vandalism 0 4 90 111\n"
        put(tmp_path, Temporal_Anomaly_Annotation__txt=names, Anomaly_Train__txt="Abuse/Abuse001_x264.mp4\n")
        table = "video_id,frames,clip_frames\nAbuse028_x264,96,16\nVandalism017_x264,96,16\nAbuse001_x264,32,16\n"
        put(tmp_path, c__csv=table)
        settings = {"frame_counts": "c.csv", "classes": ["Abuse", "Vandalism"]}
        with pytest.raises(ManifestError, match="no normal|Normal"):
            build(dataset(tmp_path, "ucf_crime", **settings))
        normal = "Training_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4\nVandalism/Vandalism001_x264.mp4\n"
        put(tmp_path, Anomaly_Train__txt="Abuse/Abuse001_x264.mp4\n" + normal)
        manifest = build(dataset(tmp_path, "ucf_crime", **settings))
        assert [(interval.start_frame, interval.end_frame) for interval in manifest.intervals] == [
            (3, 91),
            (0, 5),
            (90, 112),
        ]
        assert any(
            "[100, 106) ends past the video's 96 frames that have features" in w for w in manifest.origin.warnings
        )
        put(tmp_path, c__csv=table.replace("96,16", "96,1"))
        with pytest.raises(ManifestError, match=r"\[100, 106\) ends past the video's 96 frames"):
            build(dataset(tmp_path, "ucf_crime", **settings))


class TestFeatures:
    @pytest.fixture
    def imported(self, mine, nano):
        """Six clips of t1's 100 frames, three of t2's 50, imported without a word of the lengths."""

        def make(**clips: int):
            folder = mine / "features"
            folder.mkdir(exist_ok=True)
            for name, n in ({"t1": 6, "t2": 3} | clips).items():
                np.save(folder / f"{name}.npy", np.ones((n, 8), np.float32))
            store = FeatureStore.open(nano["paths"]["cache"])
            import_npy(store, "i3d", folder, PlainLayout(fps=25))
            section = own(mine).model_dump(mode="json")
            experiment = parse_experiment(nano | {"dataset": section, "features": {"test": "i3d"}})
            manifest = build(experiment.dataset)
            quarantine = Quarantine(mine / "quarantine")
            return extract_split(experiment, manifest, "test", manifest.split("test"), "i3d", quarantine)

        return make

    def test_those_of_the_videos_are_found(self, imported):
        assert imported().cached == ("t1", "t2")
        assert imported(t1=7).cached == ("t1", "t2")

    def test_a_difference_of_a_clip_is_an_error_naming_both_lengths(self, imported):
        with pytest.raises(
            LengthMismatch,
            match="i3d: .* 1 of 2 videos .*\n  t1: 5 clips of 16 frames stand for 80 frames, the video has 100",
        ):
            imported(t1=5)
        with pytest.raises(LengthMismatch, match="t2: 5 clips of 16 frames stand for 80 frames, the video has 50"):
            imported(t2=5)

    def test_there_is_nothing_to_extract_from(self, mine, nano):
        experiment = parse_experiment(nano | {"dataset": own(mine).model_dump(mode="json")})
        manifest = build(experiment.dataset)
        with pytest.raises(
            ConfigError, match="features.test: with dataset.frame_counts there are no videos to extract"
        ):
            extract_split(experiment, manifest, "test", manifest.split("test"), "x", Quarantine(mine / "q"))

    def test_another_number_of_frames_is_another_recipe(self, mine, nano):
        experiment = parse_experiment(nano | {"dataset": own(mine).model_dump(mode="json")})
        before = Recipes(experiment).files_digest
        put(mine, videos__csv=VIDEOS.replace("t2,test,Normal,50", "t2,test,Normal,51"))
        assert Recipes(experiment).files_digest != before


def gig(*arguments: object, code: int = 0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def test_features_and_scores_without_videos_by_commands(mine, nano, write_config):
    config = write_config(nano | {"dataset": own(mine, frame_counts=None).model_dump(mode="json")})
    assert "no column path" in gig("manifest", "--config", config, code=1).stderr
    truth = mine / "truth"
    command = ("manifest", "--config", config, "--frame-counts", mine / "videos.csv")
    assert gig(*command, "--out", truth).stdout.split()[-1] == str(truth)
    assert "is there already" in gig(*command, "--out", truth, code=1).stderr
    assert "needs --out" in gig(*command, "--test-only", code=1).stderr
    assert load(truth).video("t2").fps == 25

    folder = mine / "c3d"
    folder.mkdir()
    for name in ("t1", "t2"):
        np.save(folder / f"{name}_c3d.npy", np.ones((4, 8), np.float32))
    options = ("--cache", nano["paths"]["cache"], folder, "c3d", "--suffix", "_c3d")
    error = gig("cache", "import", *options, "--manifest", truth, code=1).stderr
    assert "t1: 4 clips of 16 frames stand for 64 frames, the video has 100" in error
    assert "2 video(s) imported" in gig("cache", "import", *options, "--manifest", truth, "--equal-parts").stdout
    again = gig("cache", "import", *options, "--frame-counts", mine / "videos.csv", "--equal-parts")
    assert "0 video(s) imported" in again.stdout
    assert "2 were there already, unchanged" in again.stdout
    reader = FeatureStore.open(nano["paths"]["cache"]).reader("c3d", "t2")
    assert reader.frames()[0][:, [0, -1]].tolist() == [[0, 11], [12, 24], [25, 36], [37, 49]]

    scores = mine / "scores"
    scores.mkdir()
    for name, n in (("t1", 96), ("t2", 48)):
        np.save(scores / f"{name}.npy", np.linspace(0, 1, n))
    result = gig("evaluate", "--scores", scores, "--truth", truth, "--clip-frames", 16, "--out", mine / "figures")
    metrics = json.loads((mine / "figures" / "metrics.json").read_text())
    assert (metrics["frames"], metrics["anomalous_frames"], metrics["clip_frames"]) == (144, 36, 16)
    assert "frames after the last clip have no score" in result.stderr
    for wrong in (("--clip-frames", 16, "--stride", 4), ("--lengths", scores / "t1.npy")):
        gig("evaluate", "--scores", scores, "--truth", truth, "--out", mine / "other", *wrong, code=1)


def test_an_interval_may_reach_beyond_the_last_clip_of_imported_features(mine):
    save(build(own(mine)), mine / "truth")
    (mine / "own" / "frames").mkdir(parents=True)
    index = {}
    for name, n in (("t1", 96), ("t2", 64)):
        pq.write_table(pa.table({"Fight": np.arange(n) / n}), mine / "own" / "frames" / f"{name}.parquet")
        index[name] = {"file": f"{name}.parquet", "decoded_frames": n}
    (mine / "own" / "index.json").write_text(json.dumps({"classes": ["Fight"], "videos": index}))
    with pytest.raises(ManifestError, match="ends past the 96 frames"):
        judge_folder(mine / "own", mine / "truth", Evaluation())
    _, judged = judge_folder(mine / "own", mine / "truth", Evaluation(), imported=True)
    assert {name: (len(truth), int(truth.sum())) for name, truth in judged.truth.items()} == {
        "t1": (96, 36),
        "t2": (50, 0),
    }
    assert len(judged.warnings) == 3
