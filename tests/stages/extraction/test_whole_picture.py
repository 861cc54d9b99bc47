"""Pictures that are not square, from the video to the cache, the scores, the relation maps and the fine-tuning."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from small_dataset import extract

from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.data.decoding.decode import iter_frames
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.models.backbone import build_backbone
from pipeline.models.heads import build_head
from pipeline.models.live import LiveModel
from pipeline.models.reduction import global_pattern_cue, spatial_patterns
from pipeline.stages.common.feature_recipe import differences, experiment_recipe, recipe_of
from pipeline.stages.common.picture import fit_of, map_size
from pipeline.stages.extraction.plan import count_split
from pipeline.stages.extraction.sources import experiment_workers
from pipeline.stages.finetuning.clips import Ahead, ClipSource

WIDE = {"fit": "stretch", "height": 224, "width": 384}
BOX = {"fit": "letterbox", "height": 128, "width": 192}


def write_noise(path, frames, width, height):
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            image = generator.integers(0, 256, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def case(nano, tmp_path):
    """An experiment with some `preprocess`, and a manifest of a tall training video and a wide test video."""
    sizes = {"a": (64, 128), "b": (160, 96)}
    entries = tuple(
        VideoEntry(name, f"{name}.mp4", split, ("Fighting",), None, *sizes[name], 10.0, 13, 1)
        for name, split in (("a", "train"), ("b", "test"))
    )
    for name, size in sizes.items():
        write_noise(tmp_path / f"{name}.mp4", 13, *size)
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
    nano["train_sampling"] = {"segments": 2, "views": 2, "interval_frames": 1}

    def make(preprocess):
        experiment = parse_experiment(nano | {"preprocess": preprocess})
        manifest = Manifest(tmp_path, ("Fighting",), entries, ())
        return experiment, manifest, FeatureStore.open(experiment.paths.cache)

    return make


def test_a_stretched_video_gives_the_module_s_maps_of_all_of_it(case):
    experiment, manifest, store = case(WIDE)
    assert count_split(experiment, manifest, "test", "ns", ()).feature_bytes == 3 * 7 * 12 * 2048 * 2
    extract(experiment, manifest, "test", manifest.split("test"), "ns")
    reader = store.reader("ns", "b")
    assert reader.shape == (1, 3, 7, 12, 2048)
    frames = np.stack([f.image for f in iter_frames(manifest.video_path("b"), fit_of(experiment))])
    network = build_backbone("tpn_tiny", "bundled")
    with torch.inference_mode():
        expected = network(torch.from_numpy(frames[reader.frames()[0]])).numpy()
    np.testing.assert_allclose(reader.features(0), expected, rtol=2e-3, atol=2e-3 * expected.max())
    np.testing.assert_allclose(reader.cue()[0], expected.max(axis=(0, 1, 2)), rtol=2e-3, atol=2e-3)
    recipe = recipe_of(reader.record)
    told = differences(recipe, experiment_recipe(experiment, network, "float32"), experiment)
    assert [line for line in told if not line.startswith("train_sampling")] == []  # these are no training features
    square = parse_experiment(experiment.model_dump(mode="json") | {"preprocess": {}})
    told = differences(recipe, experiment_recipe(square, network, "float32"), square)
    assert "preprocess.fit: the head stretch, here crop" in told
    assert "shape of a map: the head 7 x 12 x 2048, here 7 x 7 x 2048" in told


@pytest.mark.parametrize("video_id", ["a", "b"])
def test_cells_that_hold_only_padding_are_zero_and_the_others_the_module_s(case, video_id):
    """The tall video fills the middle 64 of 192 columns, the wide one all 192 columns and 114 of 128 rows."""
    experiment, manifest, store = case(BOX)
    split = "train" if video_id == "a" else "test"
    extract(experiment, manifest, split, manifest.split(split), "ns")
    reader = store.reader("ns", video_id)
    frames = np.stack([f.image for f in iter_frames(manifest.video_path(video_id), fit_of(experiment))])
    network = build_backbone("tpn_tiny", "bundled")
    for view in range(reader.shape[0]):
        flipped = slice(None, None, -1 if view % 2 else 1)
        clips = np.ascontiguousarray(frames[reader.frames()[view]][:, :, :, flipped])
        with torch.inference_mode():
            expected = network(torch.from_numpy(clips)).numpy()
        if video_id == "a":
            assert (expected[:, :, [0, 5]] != 0).any()
            expected[:, :, [0, 1, 4, 5]] = 0
        np.testing.assert_allclose(reader.features(view), expected, rtol=2e-3, atol=2e-3 * expected.max())
    assert (reader.features(0)[:, :, 2:4] != 0).any(axis=-1).all()


def test_live_maps_of_a_fine_tuning_are_those_of_the_cache(case):
    experiment, manifest, store = case(BOX)
    extract(experiment, manifest, "train", manifest.split("train"), "ns")
    network = build_backbone("tpn_tiny", "bundled")
    model = LiveModel(network, build_head("gig", channels=2048, classes=1), None, 0.16)
    with experiment_workers(experiment) as workers:
        source = ClipSource(experiment, manifest, workers)
        empty = source.empty(["a"])
        (views,) = source.views(["a"])
        (bag,) = source.epoch(["a"], 1)
    assert empty.sum() == 4 * 4
    for view, clips in enumerate(views):
        with torch.no_grad():
            found = model.maps(torch.from_numpy(clips[None]), empty)[0].numpy()
        cached = store.reader("ns", "a").features(view)
        np.testing.assert_allclose(found, cached, rtol=2e-3, atol=2e-3 * cached.max())
    bags = Ahead(iter([bag]), torch.device("cpu")).take(1)
    (output,) = model.outputs(bags, ["seed"], empty)
    assert output.segment_logits.shape == (1, 2, 2)
    square, _, _ = case({})
    with experiment_workers(square) as workers:
        assert ClipSource(square, manifest, workers).empty(["a"]) is None


def test_spatial_reasoning_never_chooses_padding_while_a_cell_shows_something(case):
    experiment, manifest, store = case(BOX)
    extract(experiment, manifest, "train", manifest.split("train"), "ns")
    maps = torch.from_numpy(store.reader("ns", "a").features(0)).float()[None]
    rows, columns = map_size(experiment)
    empty = fit_of(experiment).empty_cells(64, 128, rows, columns).ravel()

    chosen = spatial_patterns(maps, global_pattern_cue(maps), 8).positions
    assert chosen.shape == (1, 2, 8)
    assert not empty[chosen.numpy()].any()
