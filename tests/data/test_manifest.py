"""The manifest: labels by id, a faithful file form, and every problem at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.checks import validate
from pipeline.data.manifest import Interval, Manifest, Origin, SourceFile, VideoEntry, load, save
from pipeline.data.problems import Problems
from pipeline.errors import ManifestError


def entry(video_id: str, split: str, *labels: str, **changes) -> VideoEntry:
    facts = {"path": f"videos/{video_id}.mp4", "source": None, "width": 320, "height": 240, "fps": 25.0}
    return VideoEntry(video_id=video_id, split=split, labels=labels, **(facts | {"packets": 10, "bytes": 99} | changes))


@pytest.fixture
def manifest() -> Manifest:
    videos = (
        entry("n1", "train"),
        entry("a1", "train", "Fire"),
        entry("t0", "test"),
        entry("t1", "test", "Fight", "Fire", source="camera #1 = \u00fc"),
    )
    intervals = (Interval("t1", "Fire", 2, 4), Interval("t1", "Fight", 3, 6), Interval("t1", "Fire", 8, None))
    origin = Origin("csv", 3, (SourceFile("videos.csv", "ab12"),), ("a warning",))
    return Manifest(Path("/data"), ("Fight", "Fire"), videos, intervals, origin)


def test_look_up_is_by_id_and_split(manifest):
    assert manifest.video("a1").labels == ("Fire",)
    assert manifest.video_path("a1") == Path("/data/videos/a1.mp4")
    assert [v.video_id for v in manifest.split("test")] == ["t0", "t1"]
    with pytest.raises(ManifestError, match="nobody: no such video"):
        manifest.video("nobody")
    with pytest.raises(ManifestError, match="expected one of train, test, got 'val'"):
        manifest.split("val")


def test_video_labels_are_multi_hot_with_normal_first(manifest):
    found = [manifest.video_labels(v).tolist() for v in manifest.videos]
    assert found == [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1]]
    assert manifest.video_labels(manifest.videos[0]).dtype == np.float32


def test_frame_labels_are_half_open_and_reach_the_end_when_it_is_open(manifest):
    truth = manifest.frame_labels("t1", 10)
    assert truth.dtype == bool
    assert truth.shape == (10, 2)
    assert np.flatnonzero(truth[:, 0]).tolist() == [3, 4, 5]
    assert np.flatnonzero(truth[:, 1]).tolist() == [2, 3, 8, 9]
    assert not manifest.frame_labels("t0", 4).any()


def test_an_interval_may_end_at_the_last_frame_and_not_past_it(manifest):
    assert manifest.frame_labels("t1", 6)[5, 0]
    with pytest.raises(ManifestError, match=r"t1: the Fight interval \[3, 6\) ends past the 5 frames"):
        manifest.frame_labels("t1", 5)


def test_training_videos_have_no_frame_labels(manifest):
    with pytest.raises(ManifestError, match="a1: a training video"):
        manifest.frame_labels("a1", 10)


def test_saved_and_loaded_is_the_same(manifest, tmp_path):
    save(manifest, tmp_path / "out")
    assert load(tmp_path / "out", truth=True) == manifest
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert files == {"videos.parquet", "truth/labels.parquet", "truth/intervals.parquet", "manifest.json"}


def test_without_the_truth_nothing_of_it_is_read_and_using_it_is_an_error(manifest, tmp_path):
    save(manifest, tmp_path)
    for path in (tmp_path / "truth").iterdir():
        path.write_text("not to be read")
    found = load(tmp_path)
    assert [v.labels for v in found.videos] == [(), ("Fire",), None, None]
    assert found.intervals is None
    assert found.without(["t0"]).intervals is None
    for use in (
        lambda: found.video_labels(found.video("t1")),
        lambda: found.frame_labels("t1", 10),
        lambda: found.clipped("t1", 10),
        lambda: save(found, tmp_path / "again"),
        lambda: load(tmp_path, truth=True),
    ):
        with pytest.raises(ManifestError, match="not read|cannot be saved|not a manifest"):
            use()
    assert "Fight" not in (tmp_path / "videos.parquet").read_bytes().decode("latin-1")


def test_intervals_are_cut_where_the_origin_says_so(manifest):
    cut = replace(manifest, origin=replace(manifest.origin, clip_past_end=True))
    assert cut.frame_labels("t1", 9)[:, 0].nonzero()[0].tolist() == [3, 4, 5]
    assert cut.clipped("t1", 9) == []
    late = replace(cut, intervals=(Interval("t1", "Fight", 3, 12), Interval("t1", "Fire", 2, 4)))
    assert late.frame_labels("t1", 9)[:, 0].nonzero()[0].tolist() == [3, 4, 5, 6, 7, 8]
    assert late.clipped("t1", 9) == ["t1: the Fight interval [3, 12) is cut to the 9 decoded frames"]
    with pytest.raises(ManifestError, match=r"\[3, 12\) ends past the 3 frames"):
        late.frame_labels("t1", 3)  # nothing of it is left


def test_overlapping_intervals_of_one_class_are_problems_or_notes(manifest):
    twice = replace(
        manifest, intervals=(*manifest.intervals, Interval("t1", "Fire", 3, 5), Interval("t1", "Fire", 4, 6))
    )
    with pytest.raises(ManifestError) as caught:
        validate(twice, interval_places=[f"row {i}" for i in range(5)])
    assert str(caught.value).splitlines()[1:] == [
        "  row 3: t1: the Fire interval [3, 5) overlaps [2, 4)",
        "  row 4: t1: the Fire interval [4, 6) overlaps [3, 5)",
    ]
    notes = []
    validate(replace(twice, origin=replace(twice.origin, clip_past_end=True)), notes=notes)
    assert [line.endswith("their frames count once") for line in notes if "overlaps" in line] == [True, True]
    touching = (Interval("t1", "Fire", 2, 4), Interval("t1", "Fire", 4, 6), Interval("t1", "Fight", 2, 6))
    validate(replace(manifest, intervals=touching))


def test_a_manifest_without_intervals_keeps_its_types(manifest, tmp_path):
    bare = replace(manifest, intervals=())
    save(bare, tmp_path)
    assert load(tmp_path, truth=True) == bare


def test_a_missing_damaged_or_newer_manifest_is_an_error(manifest, tmp_path):
    with pytest.raises(ManifestError, match="not a manifest"):
        load(tmp_path / "nowhere")
    save(manifest, tmp_path)
    table = (tmp_path / "videos.parquet").read_bytes()
    (tmp_path / "videos.parquet").write_bytes(table[:50])
    with pytest.raises(ManifestError, match="not a manifest"):
        load(tmp_path)
    (tmp_path / "videos.parquet").write_bytes(table)
    facts = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(facts | {"schema_version": 99}))
    with pytest.raises(ManifestError, match="version 99"):
        load(tmp_path)


def test_a_sound_manifest_is_valid(manifest):
    validate(manifest)


def test_validation_lists_every_problem_with_its_place(manifest):
    videos = (
        *manifest.videos,
        entry("n1", "val"),
        entry("x", "test", "Fihgt", path="../x.mp4"),
    )
    intervals = (
        *manifest.intervals,
        Interval("ghost", "Fire", 0, 1),
        Interval("a1", "Fire", 0, 1),
        Interval("t0", "Fire", 5, 5),
    )
    places = [f"videos.csv, row {i + 2}" for i in range(len(videos))]
    found = Problems()
    found.add("videos.csv, row 9", "found before")
    with pytest.raises(ManifestError) as caught:
        validate(replace(manifest, videos=videos, intervals=intervals), found, video_places=places)
    text = str(caught.value)
    for expected in (
        "videos.csv, row 9: found before",
        "videos.csv, row 6: video_id 'n1' is taken already (videos.csv, row 2)",
        "videos.csv, row 6: split: expected one of train, test, got 'val'",
        "videos.csv, row 7: path: expected one below the root /data, got '../x.mp4'",
        "videos.csv, row 7: unknown label 'Fihgt'; did you mean 'Fight'?",
        "interval of 'ghost': video 'ghost' is not in the video list",
        "interval of 'a1': a1 is a training video",
        "interval of 't0': t0: the interval [5, 5)",
        "interval of 't0': t0 is labelled Normal, its interval 'Fire'",
    ):
        assert expected in text
    assert text.startswith("9 problem(s)")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_file_under_two_ids_is_a_problem(manifest, split):
    twice = (*manifest.videos, entry("n2", split, path="videos/n1.mp4"))
    with pytest.raises(ManifestError, match="'videos/n1.mp4' is that of 'n1' already"):
        validate(replace(manifest, videos=twice))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (("t0", "t1"), "no train video"),
        (("n1", "a1"), "no test video"),
        (("n1", "t0"), "no anomalous training video"),
        (("a1", "t0"), "no normal training video"),
    ],
)
def test_a_split_that_cannot_be_used_is_an_error(manifest, keep, message):
    videos = tuple(v for v in manifest.videos if v.video_id in keep)
    intervals = manifest.intervals if "t1" in keep else ()
    with pytest.raises(ManifestError, match=message):
        validate(replace(manifest, videos=videos, intervals=intervals))


@pytest.mark.parametrize("classes", [(), ("Fight", "Fire", "Fire"), ("Fight", "Fire", "Normal")])
def test_classes_are_different_and_without_normal(manifest, classes):
    with pytest.raises(ManifestError, match="classes: expected different anomaly classes"):
        validate(replace(manifest, classes=classes))
