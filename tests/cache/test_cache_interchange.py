"""Export and import: bit for bit what this library wrote, and published features as maps of one position."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import (
    DamagedPayload,
    FeatureStore,
    InvalidImport,
    InvalidRecord,
    NonFiniteFeatures,
    PlainLayout,
    WriteFailed,
)
from cache.interchange import export_hdf5, export_npy, import_hdf5, import_npy
from cache.plain import segment_bounds

NAMES = {"v1": 5, "a#b=c d/e.mp4": 70, "É" * 100: 1}
I3D = PlainLayout(fps=25.0, suffix="_i3d")


def maps(clips: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(clips).random((2, clips, 2, 3, 4)).astype(dtype)


@pytest.fixture(params=["float16", "float32"])
def store(request, tmp_path) -> FeatureStore:
    store = FeatureStore.open(tmp_path / "cache")
    for name, clips in NAMES.items():
        shape = {"views": 2, "rows": 2, "columns": 3, "channels": 4, "frames_per_clip": 6}
        with store.writer("ns", name, **shape, dtype=request.param) as writer:
            for view in range(2):
                writer.append(view, maps(clips, request.param)[view], np.arange(clips)[:, None] + np.arange(6))
            writer.set_times(np.arange(clips + 5) / 3)
            writer.commit({"source": {"decoded_frames": clips + 5, "fps": 29.97}})
    return store


def write_out(store: FeatureStore, kind: str, folder: Path) -> Path:
    path = folder / ("out.h5" if kind == "h5" else "out")
    (export_hdf5 if kind == "h5" else export_npy)(store, "ns", path)
    return path


def bring_in(store: FeatureStore, namespace: str, path: Path, layout: PlainLayout | None = None) -> list[str]:
    return (import_npy if path.is_dir() else import_hdf5)(store, namespace, path, layout)


@pytest.mark.parametrize("kind", ["h5", "npy"])
class TestRoundTrip:
    def test_every_bit_comes_back(self, store, tmp_path, kind):
        path = write_out(store, kind, tmp_path)
        other = FeatureStore.open(tmp_path / "other")
        assert set(bring_in(other, "back", path).imported) == set(NAMES)
        assert other.video_ids("back") == set(NAMES)
        for name in NAMES:
            one, two = store.reader("ns", name), other.reader("back", name)
            assert (one.record.shapes, one.record.dtype) == (two.record.shapes, two.record.dtype)
            assert one.record.values_crc32c == two.record.values_crc32c
            for view in range(2):
                assert one.features(view).tobytes() == two.features(view).tobytes()
            for array in ("cue", "frames", "times"):
                assert getattr(one, array)().tobytes() == getattr(two, array)().tobytes()
            provenance = dict(two.record.provenance)
            assert provenance.pop("imported")["namespace"] == "ns"
            assert provenance == one.record.provenance
        assert other.verify("back") == []

    def test_what_is_there_unchanged_is_not_written_again(self, store, tmp_path, kind):
        path = write_out(store, kind, tmp_path)
        report = bring_in(store, "ns", path)
        assert (report.imported, set(report.present)) == ((), set(NAMES))

    def test_values_changed_outside_are_refused(self, store, tmp_path, kind):
        path = write_out(store, kind, tmp_path)
        if kind == "h5":
            with h5py.File(path, "a") as file:
                file["v1/features"][0, 0, 0, 0, 0] = 7
        else:
            array = np.load(path / "v1.npy")
            array[0, 0, 0, 0, 0] = 7
            np.save(path / "v1.npy", array)
        other = FeatureStore.open(tmp_path / "other")
        with pytest.raises(DamagedPayload, match="v1"):
            bring_in(other, "back", path)
        assert "v1" not in other.video_ids("back")

    def test_an_edited_record_is_refused(self, store, tmp_path, kind):
        path = write_out(store, kind, tmp_path)
        if kind == "h5":
            with h5py.File(path, "a") as file:
                file["v1"].attrs["record"] = file["v1"].attrs["record"].replace("29.97", "25.0")
        else:
            facts = json.loads((path / "v1.json").read_text())
            facts["record"] = facts["record"].replace("29.97", "25.0")
            (path / "v1.json").write_text(json.dumps(facts))
        with pytest.raises(InvalidRecord, match="v1"):
            bring_in(FeatureStore.open(tmp_path / "other"), "back", path)

    def test_an_export_that_fails_leaves_no_file(self, store, tmp_path, kind):
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(WriteFailed, match="out"):
            write_out(store, kind, tmp_path / "file")
        name = next(name for name in store.objects.files("ns") if "v1" in name and "features/c" in name)
        store.objects.remove(f"ns/{name}")
        with pytest.raises(DamagedPayload, match="v1"):
            write_out(store, kind, tmp_path)
        assert not list(tmp_path.rglob("*.partial"))
        assert not (tmp_path / "out.h5").exists()
        assert not (tmp_path / "out" / "v1.npy").exists()


def test_other_programs_read_what_was_exported(store, tmp_path):
    export_hdf5(store, "ns", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        group = next(group for group in file.values() if group.attrs["video_id"] == "a#b=c d/e.mp4")
        np.testing.assert_array_equal(group["features"][1], store.reader("ns", "a#b=c d/e.mp4").features(1))
    export_npy(store, "ns", tmp_path / "out")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "v1.npy")[0], store.reader("ns", "v1").features(0))


class TestPlainArrays:
    def save(self, folder: Path, **arrays: np.ndarray) -> Path:
        for name, array in arrays.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{name}.npy", array)
        return folder

    @pytest.fixture
    def target(self, tmp_path) -> FeatureStore:
        return FeatureStore.open(tmp_path / "cache")

    def test_rows_are_clips_of_consecutive_frames(self, target, tmp_path):
        array = np.random.default_rng(0).random((4, 8)).astype(np.float32)
        assert import_npy(target, "i3d", self.save(tmp_path / "npy", v1_i3d=array), I3D).imported == ("v1",)
        reader = target.reader("i3d", "v1")
        assert reader.shape == (1, 4, 1, 1, 8)
        assert reader.features(0)[:, 0, 0].tobytes() == array.tobytes()
        np.testing.assert_array_equal(reader.frames()[0], np.arange(64).reshape(4, 16))
        np.testing.assert_allclose(reader.times(), np.arange(64) / 25)
        source = reader.record.provenance["source"]
        assert (source["decoded_frames"], source["path"], source["fps"]) == (64, "v1_i3d.npy", 25.0)

    def test_crops_are_views(self, target, tmp_path):
        array = np.random.default_rng(0).random((4, 10, 8)).astype(np.float16)
        import_npy(target, "i3d", self.save(tmp_path / "npy", v1_i3d=array), I3D)
        reader = target.reader("i3d", "v1")
        assert reader.shape == (10, 4, 1, 1, 8)
        for crop in range(10):
            assert reader.features(crop)[:, 0, 0].tobytes() == array[:, crop].tobytes()

    def test_maps_are_taken_as_they_are(self, target, tmp_path):
        array = maps(3, "float16")
        import_npy(target, "own", self.save(tmp_path / "npy", v1=array), PlainLayout(fps=5, frames_per_clip=2))
        np.testing.assert_array_equal(target.reader("own", "v1").features(1), array[1])

    def test_segments_are_means_as_in_public_code(self, target, tmp_path):
        long, short = np.random.default_rng(0).random((11, 8)), np.random.default_rng(1).random((2, 8))
        folder = self.save(tmp_path / "npy", long=long.astype(np.float32), short=short.astype(np.float32))
        import_npy(target, "bags", folder, PlainLayout(fps=25, segments=4))
        reader = target.reader("bags", "long")
        expected = [long[0:2].mean(0), long[2:5].mean(0), long[5:8].mean(0), long[8:11].mean(0)]
        np.testing.assert_allclose(reader.features(0)[:, 0, 0], expected, rtol=1e-5)
        assert reader.frames()[0, 1, [0, -1]].tolist() == [32, 79]
        np.testing.assert_allclose(target.reader("bags", "short").features(0)[:, 0, 0], short[[0, 0, 1, 1]], rtol=1e-6)
        assert segment_bounds(1, 3).tolist() == [[0, 1], [0, 1], [0, 1]]

    def test_datasets_of_an_hdf5_file_are_videos(self, target, tmp_path):
        array = np.random.default_rng(0).random((4, 5, 8)).astype(np.float32)
        with h5py.File(tmp_path / "features.h5", "w") as file:
            file["Abuse/v1_i3d"] = array
            file["Arson/v2_i3d"] = array
            file["names"] = [b"v1", b"v2"]
        report = import_hdf5(target, "i3d", tmp_path / "features.h5", replace(I3D, axes="T,crops,D"))
        assert report.imported == ("v1", "v2")
        assert "names" in report.notes[0]
        assert "Abuse/v1 is v1" in report.notes[1]
        np.testing.assert_array_equal(target.reader("i3d", "v1").features(4)[:, 0, 0], array[:, 4])

    def test_an_import_goes_on_where_it_was_broken_off_and_says_so(self, target, tmp_path):
        rows = {name: np.full((4, 8), number, np.float32) for number, name in enumerate("abcd")}
        folder = self.save(tmp_path / "npy", **rows | {"c": np.full((4, 8), np.nan, np.float32)})
        layout = PlainLayout(fps=25)
        with pytest.raises(NonFiniteFeatures, match="i3d/c"):
            import_npy(target, "i3d", folder, layout)
        written = {name: target.record("i3d", name).payload for name in target.video_ids("i3d")}
        assert set(written) == {"a", "b"}
        np.save(folder / "c.npy", rows["c"])
        report = import_npy(target, "i3d", folder, layout)
        assert (report.imported, report.present) == (("c", "d"), ("a", "b"))
        assert {name: target.record("i3d", name).payload for name in written} == written
        np.save(folder / "b.npy", np.ones((5, 8), np.float32))
        assert import_npy(target, "i3d", folder, layout).imported == ("b",)
        assert import_npy(target, "i3d", folder, replace(layout, frames_per_clip=8)).imported == ("a", "b", "c", "d")

    def test_doubles_are_converted_only_when_that_is_asked_for(self, target, tmp_path):
        folder = self.save(tmp_path / "npy", v1=np.ones((2, 8)) / 3)
        with pytest.raises(InvalidImport, match="v1: expected float16 or float32.* got float64"):
            import_npy(target, "i3d", folder, PlainLayout(fps=25))
        import_npy(target, "i3d", folder, PlainLayout(fps=25, dtype="float16"))
        np.testing.assert_array_equal(target.reader("i3d", "v1").features(0), np.float16(1 / 3))

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.ones(3, np.float32), r"got \(3,\)"),
            (np.ones((0, 3), np.float32), r"got \(0, 3\)"),
            (np.ones((2, 2, 2, 2), np.float32), r"got \(2, 2, 2, 2\)"),
            (np.ones((2, 2), np.int32), "got int32"),
        ],
    )
    def test_what_is_no_feature_array_is_refused(self, target, tmp_path, array, message):
        with pytest.raises(InvalidImport, match=message):
            import_npy(target, "i3d", self.save(tmp_path / "npy", v1=array), PlainLayout(fps=25))
        assert target.video_ids("i3d") == set()

    def test_values_that_are_not_finite_are_refused(self, target, tmp_path):
        with pytest.raises(NonFiniteFeatures, match="i3d/v1: view 0, clip 1"):
            import_npy(target, "i3d", self.save(tmp_path / "npy", v1=np.float32([[1], [np.nan]])), PlainLayout(fps=25))

    def test_names_layouts_and_files_that_make_no_sense_are_refused(self, target, tmp_path):
        array = np.ones((2, 8), np.float32)
        folder = self.save(tmp_path / "npy", v1=array)
        with pytest.raises(InvalidImport, match="say what their rows stand for"):
            import_npy(target, "i3d", folder)
        with pytest.raises(InvalidImport, match="v1: expected names that end in '_i3d'"):
            import_npy(target, "i3d", folder, I3D)
        self.save(tmp_path / "npy" / "again", v1=array)
        with pytest.raises(InvalidImport, match="two arrays are named v1"):
            import_npy(target, "i3d", folder, PlainLayout(fps=25))
        with pytest.raises(InvalidImport, match="found none"):
            import_npy(target, "i3d", tmp_path / "nowhere", I3D)
        with pytest.raises(InvalidImport, match="not a readable HDF5 file"):
            import_hdf5(target, "i3d", folder / "v1.npy", I3D)
        (folder / "v1.npy").write_bytes(b"junk")
        (folder / "again" / "v1.npy").unlink()
        with pytest.raises(InvalidImport, match="not a readable array"):
            import_npy(target, "i3d", folder, PlainLayout(fps=25))
        with pytest.raises(InvalidImport, match="fps: expected a positive number, got 0"):
            PlainLayout(fps=0)
