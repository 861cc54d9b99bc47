"""Reduced features, and on disk: what an interrupted run left is used only if it was made from the same inputs."""

from __future__ import annotations

from dataclasses import replace as changed

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from cache import FeatureStore
from pipeline.config.heads import parse_head
from pipeline.data.partition import draw_videos
from pipeline.models.cues import overview
from pipeline.models.reduction import pattern_vectors
from pipeline.stages.training.bags_on_disk import read_training, read_windows, write_test, write_training
from pipeline.stages.training.reduce import reduce_bags


def test_test_files_are_kept_as_long_as_the_training_videos_are_the_same(cached, tmp_path):
    experiment, manifest = cached
    training, folder = tmp_path / "train", tmp_path / "test.partial"
    training.mkdir()
    write_training(experiment, "gig", manifest, "train", training)
    write_test(experiment, "gig", manifest, "test", training, folder)
    file = folder / "t1.safetensors"
    whole = file.read_bytes()

    replace(file, b"made before")
    write_test(experiment, "gig", manifest, "test", training, folder)
    assert file.read_bytes() == b"made before"

    path = training / "train.safetensors"
    with safe_open(path, framework="pt") as stream:
        metadata = stream.metadata()
    tensors = load(path.read_bytes())
    replace(path, save(tensors | {"more": tensors["cues"].clone()}, metadata=metadata))
    write_test(experiment, "gig", manifest, "test", training, folder)
    assert file.read_bytes() == whole
    assert next(read_windows(folder, "t2")).vectors.shape[0] == 1


def replace(path, content: bytes) -> None:
    """Another file under the name: files are mapped, so none is written in place."""
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("options", [{}, {"cue_of": "segment"}, {"cue_of": "top_segments", "relation": "background"}])
def test_views_are_reduced_as_the_head_says_each_by_itself(cached, options):
    experiment, manifest = cached
    head, store = parse_head({"k": 2} | options), FeatureStore.open(experiment.paths.cache)
    ids = [entry.video_id for entry in manifest.split("train")]
    bags = reduce_bags(store, "train", ids, head, None)
    for number, video_id in enumerate(bags.video_ids):
        reader = store.reader("train", video_id)
        for view in range(reader.shape[0]):
            maps = torch.from_numpy(reader.features(view)).float()[None]
            whole = overview(maps, **head.overview())
            expected = pattern_vectors(maps, whole.cue, background=whole.background, **head.kept())
            assert torch.equal(bags.cues[number, view], whole.cue[0])
            torch.testing.assert_close(bags.patterns[number, view], expected.vectors[0])


def test_some_training_videos_are_reduced_as_if_there_were_no_others(cached, tmp_path):
    experiment, manifest = cached
    standardized = experiment.head.model_copy(update={"standardize": True})
    selection = experiment.selection.model_copy(update={"train_videos": 2})
    some = experiment.model_copy(update={"head": standardized, "selection": selection})
    every = experiment.model_copy(update={"head": standardized})
    drawn = draw_videos(manifest.split("train"), 2, some.training.seed)
    alone = changed(manifest, videos=(*drawn, *manifest.split("test")))
    found = {}
    for name, settings, videos in (("some", some, manifest), ("alone", every, alone), ("all", every, manifest)):
        (tmp_path / name).mkdir()
        write_training(settings, "gig", videos, "train", tmp_path / name)
        found[name] = read_training(tmp_path / name, 0.0)
    bags, standardizer = found["some"]
    assert bags.video_ids == found["alone"][0].video_ids
    assert torch.equal(bags.patterns, found["alone"][0].patterns)
    assert torch.equal(standardizer.mean, found["alone"][1].mean)
    assert not torch.equal(standardizer.mean, found["all"][1].mean)
