"""The tests of a feature store as a class, for the tests of any storage to inherit. Needs pytest."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import pytest

from cache.errors import DamagedPayload, NonFiniteFeatures, NotCached, ShapeMismatch, WriteFailed
from cache.store import FeatureStore

__all__ = ["NAMES", "SHAPE", "Shape", "StoreTests", "example_maps", "write_example"]


class Shape(TypedDict):
    """The sizes that a writer is opened with."""

    views: int
    rows: int
    columns: int
    channels: int
    frames_per_clip: int


NAMES = ["a#b=c d/e.mp4", ".hidden", "..", "a//b", "Ärger 日本", "UPPER", "x" * 200, "É" * 200, "a%20b+c?d&e"]
SHAPE: Shape = {"views": 2, "rows": 2, "columns": 3, "channels": 4, "frames_per_clip": 6}


def example_maps(clips: int = 19, seed: int = 0) -> np.ndarray:
    """Maps of two views, (2, clips, 2, 3, 4) float16, half of their values zero."""
    values = np.random.default_rng(seed).normal(size=(2, clips, 2, 3, 4))
    return np.maximum(values, 0).astype(np.float16)


def write_example(store: FeatureStore, video_id: str, values: np.ndarray, namespace: str = "ns") -> None:
    """Commit a video of `example_maps`, in pieces of five clips."""
    with store.writer(namespace, video_id, **SHAPE) as writer:
        for view in range(2):
            for start in range(0, values.shape[1], 5):
                piece = values[view, start : start + 5]
                writer.append(view, piece, np.arange(start, start + len(piece))[:, None] + np.arange(6))
        writer.set_times(np.arange(30) / 10)
        writer.commit({"source": {"sha256": "abc"}})


class StoreTests:
    """What every storage of a feature store must do. Inherit from it and give the fixture `store`:

    class TestMyStore(StoreTests):
        @pytest.fixture
        def store(self):
            return FeatureStore.open("myscheme://...")
    """

    @pytest.fixture
    def store(self) -> FeatureStore:
        """An empty store."""
        raise NotImplementedError("a subclass provides the store that is tested")

    def test_what_was_written_is_read(self, store: FeatureStore) -> None:
        values = example_maps()
        write_example(store, "v1", values)
        reader = store.reader("ns", "v1")
        assert reader.shape == (2, 19, 2, 3, 4)
        assert reader.features(1).dtype == np.float16
        np.testing.assert_array_equal(reader.features(1), values[1])
        np.testing.assert_array_equal(np.concatenate([m for _, m in reader.iter_clips(0, 10)]), values[0])
        assert [start for start, _ in reader.iter_clips(0, 10)] == [0]
        np.testing.assert_array_equal(reader.frames()[0, 3], [3, 4, 5, 6, 7, 8])
        np.testing.assert_array_equal(reader.times(), np.arange(30) / 10)
        assert reader.record.provenance == {"source": {"sha256": "abc"}}

    def test_cue_is_the_maximum_of_the_values_as_stored(self, store: FeatureStore) -> None:
        values = example_maps().astype(np.float64) + 1e-5
        write_example(store, "v1", values)
        reader = store.reader("ns", "v1")
        np.testing.assert_array_equal(reader.cue()[0], reader.features(0).max(axis=(0, 1, 2)).astype(np.float32))

    def test_nothing_is_visible_before_the_commit(self, store: FeatureStore) -> None:
        with store.writer("ns", "v1", **SHAPE) as writer:
            writer.append(0, example_maps()[0], np.zeros((19, 6), int))
            assert store.video_ids("ns") == set()
            assert not store.has("ns", "v1")
        with pytest.raises(NotCached, match="v1"):
            store.reader("ns", "v1")
        assert store.gc("ns", 0) == []  # the writer took its payload away

    def test_another_process_sees_at_once_what_was_committed_and_withdrawn(self, store: FeatureStore) -> None:
        other = FeatureStore.open(store.url, {"skip_instance_cache": True})
        for name in ("v1", "v2"):
            assert not other.has("ns", name)
            write_example(store, name, example_maps(3))
            assert other.has("ns", name)
            assert name in other.video_ids("ns")
        store.withdraw("ns", "v1")
        assert not other.has("ns", "v1")
        assert other.video_ids("ns") == {"v2"}

    def test_long_videos_are_written_and_read_in_pieces(self, store: FeatureStore) -> None:
        values = example_maps(150)
        write_example(store, "v1", values)
        reader = store.reader("ns", "v1")
        pieces = list(reader.iter_clips(0, 40))
        assert [start for start, _ in pieces] == [0, 64, 128]
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), values[0])
        np.testing.assert_array_equal(reader.read("features", (1, slice(60, 70))), values[1, 60:70])

    def test_float32_is_kept_as_it_is(self, store: FeatureStore) -> None:
        values = np.random.default_rng(0).normal(size=(3, 2, 3, 4)).astype(np.float32)
        with store.writer("ns", "v1", **SHAPE | {"views": 1}, dtype="float32") as writer:
            writer.append(0, values, np.zeros((3, 6), int))
            writer.commit({})
        reader = store.reader("ns", "v1")
        assert reader.features(0).dtype == np.float32
        np.testing.assert_array_equal(reader.features(0), values)
        np.testing.assert_array_equal(reader.cue()[0], values.max(axis=(0, 1, 2)))

    def test_stats_count_what_lies_there(self, store: FeatureStore) -> None:
        write_example(store, "v1", example_maps(3))
        write_example(store, "v2", example_maps(5))
        stats = store.stats("ns")
        assert (stats.videos, stats.clips, stats.feature_bytes) == (2, 16, 16 * 24 * 2)
        assert (stats.dtypes, stats.map_shapes) == (("float16",), ((2, 3, 4),))
        assert stats.files == 2 * (1 + 5 + 2 + 3)
        assert stats.stored_bytes == sum(size for size, _ in store.objects.files("ns").values())

    def test_damage_is_an_error(self, store: FeatureStore) -> None:
        write_example(store, "v1", example_maps(3))
        name = next(name for name in store.objects.files("ns") if "features/c/1" in name)
        store.objects._fs.pipe_file(store.objects.path(f"ns/{name}"), b"junk of some length")
        assert [(f.video_id, f.array, f.kind) for f in store.verify("ns")] == [("v1", "features", "damaged")]
        store.objects.remove(f"ns/{name}")
        with pytest.raises(DamagedPayload, match="v1"):
            store.reader("ns", "v1").features(1)

    def test_a_commit_whose_answer_is_lost_leaves_a_whole_video(
        self, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_whole = store.objects.write_whole

        def lose_the_answer(relative: str, data: bytes, beside: str) -> None:
            write_whole(relative, data, beside)
            raise WriteFailed("connection reset")

        monkeypatch.setattr(store.objects, "write_whole", lose_the_answer)
        with pytest.raises(WriteFailed, match="v1.*connection reset"):
            write_example(store, "v1", example_maps(3))
        assert store.gc("ns", 0) == []
        assert store.verify("ns") == []
        np.testing.assert_array_equal(store.reader("ns", "v1").features(0), example_maps(3)[0])

    def test_an_error_leaves_nothing(self, store: FeatureStore) -> None:
        def fail() -> None:
            with store.writer("ns", "v1", **SHAPE) as writer:
                writer.append(0, example_maps()[0], np.zeros((19, 6), int))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert store.video_ids("ns") == set()

    def test_a_second_commit_replaces_the_first(self, store: FeatureStore) -> None:
        write_example(store, "v1", example_maps())
        write_example(store, "v1", example_maps(9, seed=1))
        np.testing.assert_array_equal(store.reader("ns", "v1").features(0), example_maps(9, seed=1)[0])
        assert store.gc("ns", 3600) == []
        assert len(store.gc("ns", 0)) == 1
        assert store.reader("ns", "v1").shape[1] == 9

    def test_list_namespaces_and_withdraw(self, store: FeatureStore) -> None:
        assert store.namespaces() == []
        for name in ("b", "a"):
            write_example(store, name, example_maps(3))
        assert store.video_ids("ns") == {"a", "b"}
        assert [r.video_id for r in store.records("ns")] == ["a", "b"]
        assert store.namespaces() == ["ns"]
        store.withdraw("ns", "a")
        assert store.video_ids("ns") == {"b"}
        with pytest.raises(NotCached):
            store.withdraw("ns", "a")

    @pytest.mark.parametrize("name", NAMES)
    def test_names_round_trip(self, store: FeatureStore, name: str) -> None:
        write_example(store, name, example_maps(1))
        assert store.video_ids("ns") == {name}
        np.testing.assert_array_equal(store.reader("ns", name).features(0), example_maps(1)[0])
        assert store.verify("ns") == []
        store.withdraw("ns", name)
        assert len(store.gc("ns", 0)) == 1
        assert store.video_ids("ns") == set()

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
    def test_values_that_are_not_finite_as_stored_are_refused(self, store: FeatureStore, value: float) -> None:
        values = example_maps(3)[0].astype(np.float64)
        values[1, 0, 0, 0] = value
        with pytest.raises(NonFiniteFeatures, match="v1: view 0, clip 1"), store.writer("ns", "v1", **SHAPE) as writer:
            writer.append(0, values, np.zeros((3, 6), int))

    def test_views_of_different_length_are_refused(self, store: FeatureStore) -> None:
        with store.writer("ns", "v1", **SHAPE) as writer:
            writer.append(0, example_maps(3)[0], np.zeros((3, 6), int))
            with pytest.raises(ShapeMismatch, match=r"\[3, 0\]"):
                writer.commit({})
        assert store.video_ids("ns") == set()

    def test_wrong_shapes_are_refused(self, store: FeatureStore) -> None:
        with pytest.raises(ShapeMismatch, match="expected features"), store.writer("ns", "v1", **SHAPE) as writer:
            writer.append(0, example_maps(3)[0, ..., :3], np.zeros((3, 6), int))
