"""Lazy views: aligned to chunks, equal to what is stored, checked when they are computed."""

from __future__ import annotations

import pickle
import subprocess
import sys

import dask
import numpy as np
import pytest

from cache import DamagedPayload, FeatureStore, MissingExtra, NotCached, ShapeMismatch
from cache import reader as reader_module


def maps(clips: int, seed: int) -> np.ndarray:
    return np.maximum(np.random.default_rng(seed).normal(size=(2, clips, 2, 3, 4)), 0).astype(np.float16)


def write(store: FeatureStore, video_id: str, clips: int, seed: int, channels: int = 4) -> None:
    with store.writer("ns", video_id, views=2, rows=2, columns=3, channels=channels, frames_per_clip=3) as writer:
        for view in range(2):
            frames = 5 * np.arange(clips)[:, None] + [2, 0, 1] + view
            writer.append(view, maps(clips, seed)[view, ..., :channels], frames)
        writer.set_times(np.arange(5 * clips) / 10)
        writer.commit({"source": {"sha256": "abc"}})


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    store = FeatureStore.open(tmp_path / "cache")
    for seed, (video_id, clips) in enumerate({"a": 8, "b": 8, "c": 8, "long": 70}.items()):
        write(store, video_id, clips, seed)
    return store


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Ids of the videos whose payloads are touched."""
    ids, check = [], reader_module.FeatureReader._check_metadata

    def note(self, name: str) -> None:
        ids.append(self.record.video_id)
        check(self, name)

    monkeypatch.setattr(reader_module.FeatureReader, "_check_metadata", note)
    return ids


def test_a_video_is_a_dask_array_in_the_chunks_that_are_stored(store):
    array = store.dask("ns", "long")
    assert array.shape == (2, 70, 2, 3, 4)
    assert array.dtype == np.float16
    assert array.chunks == ((1, 1), (32, 32, 6), (2,), (3,), (4,))
    np.testing.assert_array_equal(array.compute(), maps(70, 3))
    np.testing.assert_array_equal(array[1, 30:40, 0, ::2, 1:].compute(), maps(70, 3)[1, 30:40, 0, ::2, 1:])


def test_a_stack_reads_nothing_before_it_is_computed_and_then_what_is_asked_for(store, opened):
    array = store.stack("ns", ["c", "a", "b"])
    assert array.shape == (3, 2, 8, 2, 3, 4)
    assert array.chunks == ((1, 1, 1), (1, 1), (8,), (2,), (3,), (4,))
    assert opened == []
    np.testing.assert_array_equal(array[1].compute(), maps(8, 0))
    assert set(opened) == {"a"}
    np.testing.assert_array_equal(array.compute(), np.stack([maps(8, seed) for seed in (2, 0, 1)]))


def test_a_stack_of_cues_and_of_frames_takes_videos_as_they_are_shaped(store):
    cues = store.stack("ns", ["a", "long"], "cue")
    np.testing.assert_array_equal(cues.compute(), [maps(8, 0).max(axis=(1, 2, 3)), maps(70, 3).max(axis=(1, 2, 3))])
    assert cues.dtype == np.float32
    assert store.stack("ns", ["a", "b"], "frames").compute().shape == (2, 2, 8, 3)


def test_a_stack_of_videos_of_different_shapes_or_of_none_is_refused(store):
    with pytest.raises(ShapeMismatch, match=r"features of long: expected \(2, 8, 2, 3, 4\) .* got \(2, 70, 2, 3, 4\)"):
        store.stack("ns", ["a", "long"])
    with pytest.raises(ShapeMismatch, match="expected features, cue or frames, got 'times'"):
        store.stack("ns", ["a"], "times")
    with pytest.raises(NotCached, match="at least one"):
        store.stack("ns", [])
    with pytest.raises(NotCached, match="nobody"):
        store.stack("ns", ["a", "nobody"])


def test_damage_is_an_error_when_it_is_computed(store, tmp_path):
    array = store.stack("ns", ["a", "b"])
    chunks = tmp_path / "cache" / "ns" / store.record("ns", "b").payload / "features" / "c" / "1"
    path = next(path for path in chunks.rglob("*") if path.is_file())
    path.unlink()
    np.testing.assert_array_equal(array[0].compute(), maps(8, 0))
    with pytest.raises(DamagedPayload, match="ns/b"):
        array.compute()


def test_two_contents_of_one_video_are_two_arrays(store):
    before = store.dask("ns", "a")
    write(store, "a", 8, seed=9)
    after = store.dask("ns", "a")
    assert before.name != after.name
    np.testing.assert_array_equal(dask.compute(before, after)[1], maps(8, 9))


def test_a_view_can_be_computed_by_other_processes(store):
    array = pickle.loads(pickle.dumps(store.stack("ns", ["a", "b"])))
    np.testing.assert_array_equal(array.compute(scheduler="processes"), np.stack([maps(8, 0), maps(8, 1)]))


def test_to_xarray_names_axes_and_tells_the_frames_and_times_of_clips(store, opened):
    data = store.to_xarray("ns", "long")
    assert data.features.dims == ("view", "clip", "row", "column", "channel")
    assert (data.cue.dims, data.frames.dims) == (("view", "channel"), ("view", "clip", "position"))
    assert data.features.chunks is not None
    np.testing.assert_array_equal(data.first_frame[1, :3], [1, 6, 11])
    np.testing.assert_array_equal(data.last_frame[0, :2], [2, 7])
    np.testing.assert_allclose(data.start_s[1, :3], [0.1, 0.6, 1.1])
    np.testing.assert_allclose(data.end_s[0, :2], [0.2, 0.7])
    np.testing.assert_array_equal(data.frames[0, 1], [7, 5, 6])
    assert data.attrs["provenance"] == {"source": {"sha256": "abc"}}
    late = data.features.sel(view=1).where(data.start_s.sel(view=1) >= 34, drop=True)
    np.testing.assert_array_equal(late, maps(70, 3)[1, 68:])


def test_to_xarray_without_xarray_says_what_to_install(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'gig-vad\[xarray\]'"):
        store.to_xarray("ns", "a")


def test_the_cache_is_imported_without_dask_and_xarray():
    code = "import sys, cache; sys.exit(bool({'dask', 'xarray', 'h5py'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
