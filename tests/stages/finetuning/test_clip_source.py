"""Clips from videos: other ones in every epoch, the same with any number of decoders."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.data.decoding.pool import Job
from pipeline.data.sampling import epoch_clips, view_indices
from pipeline.models.backbone import build_backbone
from pipeline.models.heads import build_head
from pipeline.models.live import LiveModel
from pipeline.stages.common.manifest import build_manifest, load_manifest
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.extraction.extract import extract_split
from pipeline.stages.extraction.sources import experiment_workers
from pipeline.stages.finetuning.clips import Ahead, ClipSource
from pipeline.stages.finetuning.optimisation import accumulate
from pipeline.stages.training.reduce import reduce_bags

SAMPLING = {"segments": 4, "clip_frames": 6, "interval_frames": 5, "clips_per_segment": 1}


@pytest.fixture
def source(nano):
    """Makes a ClipSource on rendered videos, with some number of decoders."""
    nano["train_sampling"]["views"] = 2
    folder = Recipes(parse_experiment(nano)).manifest_folder
    build_manifest(parse_experiment(nano), folder)

    def make(count: int = 2, **changes: object):
        experiment = parse_experiment(nano | {"machine": {"device": "cpu", "decode_workers": count}} | changes)
        manifest = load_manifest(experiment, folder)
        workers = experiment_workers(experiment)
        return ClipSource(experiment, manifest, workers), workers, experiment, manifest

    return make


def test_epochs_draw_other_clips_and_flips():
    plans = [epoch_clips(200, video_id="a", epoch=epoch, seed=0, **SAMPLING) for epoch in range(40)]
    again = epoch_clips(200, video_id="a", epoch=3, seed=0, **SAMPLING)
    assert np.array_equal(again[0], plans[3][0])
    assert again[1] == plans[3][1]
    assert len({plan.tobytes() for plan, _ in plans}) > 30
    assert 10 < sum(flipped for _, flipped in plans) < 30
    other = epoch_clips(200, video_id="b", epoch=3, seed=0, **SAMPLING)
    assert not np.array_equal(other[0], again[0])
    bounds = view_indices(200, generator=np.random.default_rng(0), **SAMPLING)
    assert all((plan // 50 == bounds // 50).all() for plan, _ in plans)  # every clip in its segment


def test_the_number_of_decoders_and_the_order_of_videos_change_nothing(source):
    found = []
    for count, reverse in ((1, False), (3, True)):
        bags, workers, _, manifest = source(count)
        ids = sorted((v.video_id for v in manifest.split("train")), reverse=reverse)
        with workers:
            found.append(dict(zip(ids, bags.epoch(ids, 5), strict=True)))
    assert found[0].keys() == found[1].keys()
    for video_id, bag in found[0].items():
        assert bag.shape == (4, 1, 6, 224, 224, 3)
        assert np.array_equal(bag, found[1][video_id])


def test_bags_are_made_ahead_in_order_and_no_more_than_asked_for():
    made = []

    def numbered():
        for number in range(5):
            made.append(number)
            yield np.full((1, 1, 2, 4, 4, 3), number, np.uint8)

    bags = Ahead(numbered(), torch.device("cpu"))
    bags.prepare(2)
    assert made == [0, 1]
    assert bags.take(1).unique().tolist() == [0]
    bags.prepare(2)
    assert made == [0, 1, 2]
    found = bags.take(3)
    assert found.shape == (3, 1, 1, 2, 4, 4, 3)
    assert found.amax(dim=(1, 2, 3, 4, 5, 6)).tolist() == [1, 2, 3]
    bags.prepare(2)  # one is left
    assert bags.take(1).unique().tolist() == [4]
    with pytest.raises(IndexError):
        bags.take(1)


def test_the_next_bags_are_made_before_the_loss_is_waited_for():
    order = []

    def noted():
        for number in range(6):
            order.append(number)
            yield np.zeros((3, 1, 2, 64, 64, 3), np.uint8)

    class Noting(LiveModel):
        def outputs(self, clips, seeds, empty=None):
            order.append(f"bags {seeds}")
            return super().outputs(clips, seeds, empty)

    model = Noting(
        build_backbone("tpn_tiny", "bundled"), build_head("gig", channels=2048, classes=2, dropout=0.0), None, 2
    )
    bags, labels = Ahead(noted(), torch.device("cpu")), dict.fromkeys("abc", torch.tensor([0, 1.0, 0]))
    accumulate(model, bags, "abc", labels, model.head.loss_settings, batch=3, draw="0", at_once=2)
    assert order == [0, 1, "bags ['0 a', '0 b']", 2, 3, "bags ['0 c']", 4]


def test_flipped_bags_are_mirrored(source):
    bags, workers, experiment, manifest = source()
    ids = [v.video_id for v in manifest.split("train")]
    shape = experiment.train_sampling.model_dump(exclude={"views", "seed"})
    frames = {v.video_id: v.packets for v in manifest.videos}
    plans = {v: [epoch_clips(frames[v], video_id=v, epoch=e, seed=0, **shape) for e in range(1, 5)] for v in ids}
    video_id, epoch = next((v, e) for v in ids for e, plan in enumerate(plans[v], 1) if plan[1])
    with workers:
        (bag,) = bags.epoch([video_id], epoch)
        _, pictures = next(iter(workers.streams([Job(manifest.video_path(video_id))]))).collect()
    indices = plans[video_id][epoch - 1][0]
    assert np.array_equal(bag[2, 0, 3], pictures[int(indices[2, 0, 3])][:, ::-1])


def test_live_clips_give_the_maps_and_the_loss_of_the_cache_within_half_precision(source):
    bags, workers, experiment, manifest = source()
    recipes, videos = Recipes(experiment), sorted(manifest.split("train"), key=lambda v: v.video_id)[:3]
    namespace, ids = recipes.namespace("train"), [v.video_id for v in videos]
    extract_split(experiment, manifest, "train", videos, namespace, recipes.quarantine)
    store = FeatureStore.open(experiment.paths.cache)
    head = build_head("gig", channels=2048, classes=3, dropout=0.0)
    model = LiveModel(build_backbone("tpn_tiny", "bundled"), head, None, experiment.head.k)
    labels = torch.from_numpy(np.stack([manifest.video_labels(v) for v in videos]))
    reduced = reduce_bags(store, namespace, ids, experiment.head, None)
    with workers, torch.inference_mode():
        views = [torch.from_numpy(found) for found in bags.views(ids)]
        for view in range(2):
            live = model.maps(torch.stack([found[view] for found in views]))
            for maps, video_id in zip(live, ids, strict=True):
                cached = np.asarray(store.reader(namespace, video_id).features(view), dtype=np.float32)
                np.testing.assert_allclose(cached, maps.numpy(), rtol=1e-3, atol=1e-4)
            on_cache = head.loss(head(reduced.cues[:, view], reduced.patterns[:, view]), labels)["total"]
            on_live = head.loss(head(*model.reduce(live)), labels)["total"]
            torch.testing.assert_close(on_live, on_cache, rtol=1e-3, atol=1e-4)
