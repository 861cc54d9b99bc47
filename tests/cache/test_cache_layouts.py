"""Arrays of published features: what names, shapes and frame counts tell, and what a setting must say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cache import FeatureStore, InvalidImport, PlainLayout
from cache.arrays import LazyArray
from cache.importing import import_features
from cache.layouts import read_layout
from cache.plain import from_plain

WHERE = Path(__file__)  # what is read from it is made up


def arrays(**shapes: tuple[int, ...]) -> list[LazyArray]:
    return [
        LazyArray(
            name.replace("_in_", "/"), WHERE, shape, np.dtype("f4"), lambda shape=shape: np.zeros(shape, np.float32)
        )
        for name, shape in shapes.items()
    ]


def read(layout: PlainLayout | None = None, **shapes: tuple[int, ...]):
    return read_layout(arrays(**shapes), WHERE, layout or PlainLayout(fps=25))


class TestAxes:
    @pytest.mark.parametrize(
        ("shape", "axes"),
        [
            ((6, 32), "T,D"),
            ((6, 10, 32), "T,crops,D"),
            ((10, 6, 32), "crops,T,D"),
            ((1, 6, 32), "crops,T,D"),
            ((6, 1, 32), "T,crops,D"),
        ],
    )
    def test_crops_are_told_by_their_usual_numbers_and_that_is_said(self, shape, axes):
        reading = read(a=shape, b=shape)
        assert reading.axes == axes
        assert any(axes in note for note in reading.notes) == (len(shape) == 3)

    def test_an_axis_that_varies_is_that_of_the_clips(self):
        assert read(a=(10, 5, 32), b=(7, 5, 32)).axes == "T,crops,D"
        assert read(a=(5, 10, 32), b=(5, 7, 32)).axes == "crops,T,D"

    @pytest.mark.parametrize("shapes", [{"a": (5, 10, 32)}, {"a": (2, 6, 32)}, {"a": (3, 6, 32), "b": (3, 7, 32)}])
    def test_two_readings_are_an_error_that_says_how_to_tell(self, shapes):
        with pytest.raises(InvalidImport, match=r"may be \(T, crops, D\) or \(crops, T, D\): give the layout"):
            read(**shapes)
        assert read(PlainLayout(fps=25, axes="crops,T,D"), **shapes).axes == "crops,T,D"

    def test_frame_counts_tell_the_clips(self):
        counts = {"frame_counts": {"a": 165}, "fps": 25}
        assert read(PlainLayout(**counts), a=(5, 10, 32)).axes == "crops,T,D"
        assert read(PlainLayout(**counts), a=(10, 5, 32)).axes == "T,crops,D"
        with pytest.raises(InvalidImport, match="a: 6 clips of 16 frames stand for 96 frames, the video has 300"):
            read(PlainLayout(fps=25, frame_counts={"a": 300}), a=(10, 6, 32))

    def test_arrays_that_do_not_belong_together_are_refused(self):
        with pytest.raises(InvalidImport, match=r"the last of one size, got \(32, 6\) in a, \(32, 7\) in b"):
            read(a=(32, 6), b=(32, 7))
        with pytest.raises(InvalidImport, match="as many axes in all arrays"):
            read(a=(6, 32), b=(6, 10, 32))


class TestNames:
    def test_files_of_one_crop_each_are_views_of_one_video(self):
        reading = read(v1__0=(6, 32), v1__1=(6, 32), v2__0=(3, 32), v2__1=(3, 32))
        assert [video.video_id for video in reading.videos] == ["v1", "v2"]
        assert [array.name for array in reading.videos[1].arrays] == ["v2__0", "v2__1"]
        assert "v1__0 to v1__1 are v1" in reading.notes[0]
        incoming = from_plain(reading.videos[0], reading.axes, PlainLayout(fps=25))
        assert incoming.features.shape == (2, 6, 1, 1, 32)

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (("v1__0", "v1__2"), "v1: expected the crops 0 to 1, got 0, 2"),
            (("v1__0", "v1__1", "v2__0"), "v2: expected the crops 0 to 1, got 0"),
            (("v1__0", "v1__1", "v2"), "v2 does not: give the layout"),
            (("v1__0", "v2__0"), "all names end in __0"),
        ],
    )
    def test_crops_that_are_not_all_there_are_refused(self, names, message):
        with pytest.raises(InvalidImport, match=message):
            read(**dict.fromkeys(names, (6, 32)))

    def test_names_that_only_look_like_crops_are_told_by_the_layout_or_the_list(self):
        shapes = {"cam__0": (6, 32), "cam__1": (6, 32)}
        assert len(read(PlainLayout(fps=25, axes="T,D"), **shapes).videos) == 2
        assert len(read(PlainLayout(fps=25, frame_counts=dict.fromkeys(shapes, 96)), **shapes).videos) == 2
        assert (
            len(read(PlainLayout(fps=25, axes="T,D", suffix="__0"), **{"a__0": (6, 32), "b__0": (6, 32)}).videos) == 2
        )

    @pytest.mark.parametrize(
        ("names", "ids"),
        [
            (("v1_in_features", "v2_in_features"), ["v1", "v2"]),
            (("Abuse_in_v1", "Arson_in_v2"), ["v1", "v2"]),
            (("v1_in_a", "v2_in_a", "v2_in_b"), None),
            (("Abuse_in_v1",), None),
        ],
    )
    def test_groups_are_videos_or_classes_or_it_must_be_told(self, names, ids):
        shapes = dict.fromkeys(names, (6, 32))
        if ids is None:
            with pytest.raises(InvalidImport, match="It cannot be told"):
                read(**shapes)
        else:
            assert [video.video_id for video in read(**shapes).videos] == ids

    def test_the_list_of_videos_tells_what_names_are(self):
        def ids(known: str) -> list[str]:
            reading = read(PlainLayout(fps=25, frame_counts={known: 96}), Abuse_in_v1=(6, 32))
            return [video.video_id for video in reading.videos]

        assert [ids(known) for known in ("v1", "Abuse", "Abuse/v1")] == [["v1"], ["Abuse"], ["Abuse/v1"]]
        with pytest.raises(InvalidImport, match="no way gives ids that are in the list"):
            ids("v2")
        with pytest.raises(InvalidImport, match="v9: is not in the list of videos"):
            read(PlainLayout(fps=25, frame_counts={"v1": 96}), v1=(6, 32), v9=(6, 32))

    def test_many_videos_in_one_array_need_their_order(self):
        layout = PlainLayout(fps=25, axes="videos,T,D", order=("a", "b"))
        reading = read(layout, features=(2, 6, 32))
        assert [(video.video_id, video.number) for video in reading.videos] == [("a", 0), ("b", 1)]
        assert from_plain(reading.videos[1], reading.axes, layout).features.shape == (1, 6, 1, 1, 32)
        for wrong in ({"order": ("a",)}, {"order": ()}, {"axes": None}):
            with pytest.raises(InvalidImport):
                read(PlainLayout(**{"fps": 25, "axes": "videos,T,D", "order": ("a", "b")} | wrong), features=(2, 6, 32))

    def test_crops_behind_one_underscore_are_told_by_the_list_or_the_layout(self):
        names = {f"{video}_{crop}": (6, 32) for video in ("01_0015", "01_001") for crop in range(3)}
        for layout in (PlainLayout(frame_counts={"01_0015": 96, "01_001": 0}), PlainLayout(axes="crop:T,D")):
            reading = read(layout, **names)
            assert [(video.video_id, len(video.arrays)) for video in reading.videos] == [("01_0015", 3), ("01_001", 3)]
            assert reading.axes == "crop:T,D"
        assert any("01_0015_0 to 01_0015_2 are 01_0015" in note for note in read(layout_of(names), **names).notes)
        assert len(read(**names).videos) == 6
        assert len(read(PlainLayout(frame_counts={"01_0015": 96, "01_001": 96}), **{"01_0015": (6, 32)}).videos) == 1

    def test_an_id_that_is_not_listed_comes_with_the_one_that_may_be_meant(self):
        for name, hint in (("V1", "which has v1"), ("v1_i3d", "which has v1: see the suffix"), ("w", "$")):
            with pytest.raises(InvalidImport, match=f"{name}: is not in the list of videos.*{hint}"):
                read(PlainLayout(frame_counts={"v1": 96}), **{name: (6, 32)})


def layout_of(names: dict[str, tuple[int, ...]]) -> PlainLayout:
    """A layout that lists the videos whose crops have these names."""
    return PlainLayout(frame_counts=dict.fromkeys({name.rsplit("_", 1)[0] for name in names}, 96))


class TestSplits:
    def test_videos_of_another_split_are_left_aside_and_missing_ones_are_named(self):
        layout = PlainLayout(frame_counts={"a": 96, "b": 96, "c": 96}, videos={"a", "c"})
        reading = read(layout, a=(6, 32), b=(6, 32))
        assert [video.video_id for video in reading.videos] == ["a"]
        assert any("1 video(s) are listed and not of the chosen split" in note for note in reading.notes)
        assert any(note == "warning: 1 of 2 video(s) have no features here: c" for note in reading.notes)
        with pytest.raises(InvalidImport, match="expected features of a, c, found none"):
            read(layout, b=(6, 32))

    def test_a_video_that_is_not_listed_is_refused_whatever_the_split(self):
        with pytest.raises(InvalidImport, match="x: is not in the list of videos"):
            read(PlainLayout(frame_counts={"a": 96}, videos={"a"}), a=(6, 32), x=(6, 32))

    def test_lengths_that_are_not_known_are_not_checked_and_that_is_said(self):
        layout = PlainLayout(fps=10, frame_counts={"a": 96, "b": 0})
        reading = read(layout, a=(6, 32), b=(9, 32))
        assert reading.notes[-1] == "the lengths of 1 video(s) are not known and not checked: b"
        assert len(from_plain(reading.videos[1], reading.axes, layout).times) == 144
        with pytest.raises(InvalidImport, match="b: its number of frames is not known"):
            read(PlainLayout(fps=10, frame_counts={"b": 0}, equal_parts=True), b=(9, 32))


class TestFrames:
    def incoming(self, shape: tuple[int, ...], **layout: object):
        layout = PlainLayout(fps=10, **layout)
        reading = read(layout, v=shape)
        return from_plain(reading.videos[0], reading.axes, layout)

    @pytest.mark.parametrize(
        ("frames", "last"), [(100, [80, 95]), (96, [80, 95]), (90, [80, 89]), (111, [80, 95]), (112, [80, 95])]
    )
    def test_a_last_clip_that_was_filled_up_ends_with_the_video(self, frames, last):
        video = self.incoming((6, 32), frame_counts={"v": frames})
        assert video.frames[0, [0, -1]][:, [0, -1]].tolist() == [[0, 15], last]
        assert len(video.times) == video.provenance["source"]["decoded_frames"] == last[1] + 1

    @pytest.mark.parametrize("frames", [80, 113])
    def test_a_video_off_by_more_is_an_error_naming_both_lengths(self, frames):
        with pytest.raises(InvalidImport, match=f"v: 6 clips of 16 frames stand for 96 frames, the video has {frames}"):
            self.incoming((6, 32), frame_counts={"v": frames})

    def test_equal_parts_reach_over_the_video_by_proportion(self):
        video = self.incoming((4, 32), frame_counts={"v": 1001}, equal_parts=True)
        assert video.frames[0][:, [0, -1]].tolist() == [[0, 249], [250, 499], [500, 749], [750, 1000]]
        short = self.incoming((4, 32), frame_counts={"v": 2}, equal_parts=True)
        assert short.frames[0][:, [0, -1]].tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]
        bag = self.incoming((4, 32), frame_counts={"v": 1001}, equal_parts=True, segments=2)
        assert bag.frames[0][:, [0, -1]].tolist() == [[0, 499], [500, 1000]]

    def test_equal_parts_need_frame_counts_and_one_number_of_parts(self):
        with pytest.raises(InvalidImport, match="frame counts of the videos are needed"):
            PlainLayout(fps=10, equal_parts=True)
        layout = PlainLayout(fps=10, equal_parts=True, frame_counts={"a": 1000, "b": 50})
        with pytest.raises(InvalidImport, match="the same number of rows in all videos, got 32, 33"):
            read(layout, a=(32, 8), b=(33, 8))

    def test_frames_a_second_come_from_the_list_where_it_has_them(self):
        layout = PlainLayout(video_fps={"v": 5.0})
        video = from_plain(read(layout, v=(2, 8)).videos[0], "T,D", layout)
        assert video.times[-1] == pytest.approx(31 / 5)
        with pytest.raises(InvalidImport, match="w: the frames a second are not known"):
            from_plain(read(layout, w=(2, 8)).videos[0], "T,D", layout)


def test_npz_files_are_a_video_each_in_a_folder_and_many_in_a_file(tmp_path):
    store = FeatureStore.open(tmp_path / "cache")
    rows = np.random.default_rng(0).random((6, 8)).astype(np.float32)
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "folder" / "v1.npz", feature=rows, video=np.array("v1"))
    np.savez_compressed(tmp_path / "many.npz", v1=rows, v2=rows + 1)
    report = import_features(store, "one", tmp_path / "folder", PlainLayout(fps=25))
    assert (report.imported, "video" in report.notes[0]) == (("v1",), True)
    assert import_features(store, "many", tmp_path / "many.npz", PlainLayout(fps=25)).imported == ("v1", "v2")
    np.testing.assert_array_equal(store.reader("many", "v2").features(0)[:, 0, 0], rows + 1)
    np.savez(tmp_path / "folder" / "v1.npz", rgb=rows, flow=rows)
    with pytest.raises(InvalidImport, match="the features of one video, got the arrays flow, rgb"):
        import_features(store, "one", tmp_path / "folder", PlainLayout(fps=25))
