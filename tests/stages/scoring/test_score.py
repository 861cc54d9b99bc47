"""From cached features to frame scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cache import FeatureStore
from pipeline.config import parse_experiment
from pipeline.data.manifest import Manifest
from pipeline.data.windows import windows_to_frames
from pipeline.errors import LengthMismatch
from pipeline.models.reduction import global_pattern_cue, spatial_patterns
from pipeline.stages.scoring.score import score_video, smooth
from pipeline.stages.training.reduce import reduce_bags
from pipeline.stages.training.saved_heads import load_head
from pipeline.stages.training.train import train_head


class TestScoring:
    def test_reduced_bags_equal_the_equations_on_the_cached_maps(self, cached):
        experiment, manifest = cached
        store = FeatureStore.open(experiment.paths.cache)
        head = experiment.run("gig").head.model_copy(update={"standardize": False})
        bags = reduce_bags(store, "train", ["r1", "f1"], head, None)
        assert bags.video_ids == ("f1", "r1")
        maps = torch.from_numpy(store.reader("train", "f1").features(0).astype(np.float32))[None]
        cue = global_pattern_cue(maps)
        torch.testing.assert_close(bags.cues[0, 0], cue[0])
        torch.testing.assert_close(bags.patterns[0, 0], spatial_patterns(maps, cue, head.k).vectors[0])

    def test_bags_of_different_shapes_are_an_error(self, cached):
        experiment, _ = cached
        store = FeatureStore.open(experiment.paths.cache)
        with store.writer("train", "odd", views=1, rows=7, columns=7, channels=2048, frames_per_clip=6) as writer:
            writer.append(0, np.zeros((3, 7, 7, 2048), np.float32), np.zeros((3, 6), np.int64))
            writer.commit({})
        with pytest.raises(LengthMismatch, match=r"odd: expected maps \(1, 4, .* got \(1, 3, "):
            reduce_bags(store, "train", ["f1", "odd"], experiment.head, None)

    def test_scores_are_smoothed_windows_averaged_over_frames(self, cached, tmp_path):
        experiment, manifest = cached
        train_head(experiment, "gig", manifest, "train", tmp_path / "head")
        head = load_head(tmp_path / "head" / "head.safetensors")
        store = FeatureStore.open(experiment.paths.cache)
        scores = score_video(store, "test", "t1", head, experiment.scoring)
        maps = head.standardizer.maps(torch.from_numpy(store.reader("test", "t1").features(0).astype(np.float32)))[None]
        cue = global_pattern_cue(maps)
        with torch.inference_mode():
            windows = head.module(cue, spatial_patterns(maps, cue, 8).vectors).segment_scores[0].numpy()
        np.testing.assert_allclose(scores.windows, windows, rtol=1e-5)
        indices = store.reader("test", "t1").frames()[0]
        expected = windows_to_frames(smooth(windows[:, 1:].astype(np.float64), 2.0), indices, 23)
        np.testing.assert_allclose(scores.frames, expected, rtol=1e-5)
        assert scores.positions.shape == (len(windows), 8)
        unsmoothed = score_video(store, "test", "t1", head, experiment.scoring.model_copy(update={"smooth_on": "none"}))
        on_frames = score_video(
            store, "test", "t1", head, experiment.scoring.model_copy(update={"smooth_on": "frames"})
        )
        assert not np.allclose(unsmoothed.frames, scores.frames)
        np.testing.assert_allclose(on_frames.frames, smooth(unsmoothed.frames.astype(np.float64), 2.0), rtol=1e-4)

    def test_training_twice_from_the_cache_gives_identical_files(self, cached, tmp_path):
        experiment, manifest = cached
        reordered = Manifest(manifest.root, manifest.classes, manifest.videos[::-1], manifest.intervals)
        train_head(experiment, "gig", manifest, "train", tmp_path / "a")
        train_head(experiment, "gig", reordered, "train", tmp_path / "b")
        assert (tmp_path / "a" / "head.safetensors").read_bytes() == (tmp_path / "b" / "head.safetensors").read_bytes()

    def test_permuted_labels_change_the_head(self, cached, tmp_path, nano):
        experiment, manifest = cached
        nano["dataset"] = experiment.dataset.model_dump(mode="json")
        nano["runs"] = {"gig": {}, "control": {"training": {"permute_labels_seed": 3}}}
        experiment = parse_experiment(nano)
        weights = []
        for run in ("gig", "control"):
            train_head(experiment, run, manifest, "train", tmp_path / run)
            weights.append(load_head(tmp_path / run / "head.safetensors").module.phi2.weight)
        assert not torch.equal(*weights)
