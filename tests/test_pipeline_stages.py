"""Stages on small data: extraction, training, scoring and evaluation."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from cache import FeatureStore, NonFiniteFeatures
from pipeline.config import Run, parse_experiment
from pipeline.data.decode import iter_frames
from pipeline.data.manifest import Interval, Manifest, VideoEntry, save
from pipeline.data.sampling import window_indices, windows_to_frames
from pipeline.errors import LengthMismatch, ManifestError, PipelineError, WeightsError
from pipeline.models.backbone import build_backbone
from pipeline.models.losses import vs_loss
from pipeline.models.reduction import global_pattern_cue, spatial_patterns
from pipeline.stages.evaluate import evaluate_run, read_scores
from pipeline.stages.extract import Extractor, extract_split
from pipeline.stages.feeding import ViewFeed
from pipeline.stages.manifest import build_manifest
from pipeline.stages.quarantine import Quarantine
from pipeline.stages.reduce import Bags, reduce_bags
from pipeline.stages.report import summary_table, write_summary
from pipeline.stages.saved_heads import load_head
from pipeline.stages.score import score_split, score_video, smooth
from pipeline.stages.sources import experiment_workers
from pipeline.stages.train import fit, train_head


def entry(video_id: str, split: str, *labels: str, packets: int = 20) -> VideoEntry:
    return VideoEntry(video_id, f"{video_id}.mp4", split, labels, None, 96, 64, 10.0, packets, 1)


@pytest.fixture
def experiment(nano, tmp_path):
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting", "Robbery"]}
    return parse_experiment(nano)


def evaluate(experiment, manifest, scores, tmp_path, **options):
    save(manifest, tmp_path / "manifest")
    evaluate_run(experiment, "gig", tmp_path / "manifest", scores, tmp_path / "out", **options)


def extract(experiment, manifest, split, videos, namespace, **options):
    quarantine = Quarantine(experiment.paths.output / "quarantine")
    return extract_split(experiment, manifest, split, videos, namespace, quarantine, **options)


@pytest.fixture
def manifest(tmp_path, make_video):
    entries = (
        entry("n1", "train"),
        entry("f1", "train", "Fighting"),
        entry("r1", "train", "Robbery"),
        entry("t1", "test", "Fighting"),
        entry("t2", "test"),
    )
    for number, video in enumerate(entries):
        make_video(video.path, frames=20 + number)
    return Manifest(tmp_path, ("Fighting", "Robbery"), entries, (Interval("t1", "Fighting", 5, 15),))


class TestExtraction:
    def test_shapes_frames_and_provenance(self, experiment, manifest):
        for split in ("train", "test"):
            report = extract(experiment, manifest, split, manifest.split(split), split)
            assert len(report.extracted) == len(manifest.split(split))
        store = FeatureStore.open(experiment.paths.cache)
        assert store.reader("train", "n1").shape == (1, 4, 7, 7, 2048)
        reader = store.reader("test", "t1")
        np.testing.assert_array_equal(reader.frames()[0], window_indices(23, window_frames=6, stride_frames=6, interval_frames=1))
        np.testing.assert_allclose(reader.times(), np.arange(23) / 10)
        source = reader.record.provenance["source"]
        assert (source["decoded_frames"], source["width"], source["height"]) == (23, 96, 64)
        assert len(source["sha256"]) == 64

    def test_a_second_call_finds_everything_cached(self, experiment, manifest):
        videos = manifest.split("test")
        extract(experiment, manifest, "test", videos, "ns")
        report = extract(experiment, manifest, "test", videos, "ns")
        assert (report.extracted, report.cached) == ((), ("t1", "t2"))

    def test_a_touched_file_is_kept_and_a_changed_one_extracted_anew(self, experiment, manifest, make_video):
        videos = manifest.split("test")
        extract(experiment, manifest, "test", videos, "ns")
        os.utime(manifest.video_path("t1"), ns=(1, 1))
        make_video("t2.mp4", frames=9)
        report = extract(experiment, manifest, "test", videos, "ns")
        assert (report.extracted, report.cached) == (("t2",), ("t1",))
        store = FeatureStore.open(experiment.paths.cache)
        assert store.record("ns", "t2").provenance["source"]["decoded_frames"] == 9

    def test_two_extractions_give_the_same_bytes(self, experiment, manifest):
        for namespace in ("a", "b"):
            extract(experiment, manifest, "test", manifest.split("test"), namespace)
        store = FeatureStore.open(experiment.paths.cache)
        np.testing.assert_array_equal(store.reader("a", "t1").features(0), store.reader("b", "t1").features(0))

    def test_a_bad_video_goes_to_quarantine_and_the_others_are_finished(self, experiment, manifest, tmp_path):
        (tmp_path / "t1.mp4").write_text("this is no video")
        report = extract(experiment, manifest, "test", manifest.split("test"), "ns")
        assert (report.extracted, report.quarantined) == (("t2",), ("t1",))
        assert FeatureStore.open(experiment.paths.cache).list("ns") == {"t2"}
        quarantine = Quarantine(experiment.paths.output / "quarantine")
        (record,) = quarantine.records("test")
        assert (record.video_id, record.path, record.split) == ("t1", "t1.mp4", "test")
        assert "t1.mp4" in record.reason
        assert record.frame == 0
        assert record.library.startswith("InvalidDataError: ")
        again = extract(experiment, manifest, "test", manifest.split("test"), "ns")
        assert (again.extracted, again.cached, again.quarantined) == ((), ("t2",), ("t1",))

    def test_a_decoder_that_crashes_costs_one_video(self, experiment, manifest, tmp_path, monkeypatch):
        (tmp_path / "crashing_decoder.py").write_text(
            "import ctypes\n"
            "from pipeline.data import decode\n"
            "read_header = decode.read_header\n"
            "def iter_frames(path, **options):\n"
            "    for index, frame in enumerate(decode.iter_frames(path, **options)):\n"
            "        if path.name == 't1.mp4' and index == 3:\n"
            "            ctypes.string_at(0)  # a segmentation fault\n"
            "        yield frame\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        report = extract(experiment, manifest, "test", manifest.split("test"), "ns", decoder="crashing_decoder")
        assert (report.extracted, report.quarantined) == (("t2",), ("t1",))
        (record,) = Quarantine(experiment.paths.output / "quarantine").records()
        assert (record.frame, record.library) == (3, None)
        assert "SIGSEGV" in record.reason

    @pytest.mark.parametrize(
        ("policy", "kept"),
        [({}, True), ({"on_damage": "quarantine"}, False), ({"keep_share": 0.99}, False), ({"keep_share": 0.5}, True)],
    )
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_video_damaged_in_part_is_kept_or_not_as_the_policy_says(
        self, nano, manifest, tmp_path, make_video, policy, kept, split
    ):
        path = make_video("t1.mp4", frames=40)
        with av.open(str(path)) as container:
            packet = [p for p in container.demux(video=0) if p.size][-1]
            start, size = packet.pos, packet.size
        data = bytearray(path.read_bytes())
        data[start : start + size] = b"\xff" * size
        path.write_bytes(data)
        nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
        experiment = parse_experiment(nano | {"decoding": policy})
        said = []
        report = extract(
            experiment, manifest, split, [manifest.video("t1")], "ns", progress=lambda done, total, message: said.append(message)
        )
        if kept:
            assert report.extracted == ("t1",)
            source = FeatureStore.open(experiment.paths.cache).record("ns", "t1").provenance["source"]
            assert (source["decoded_frames"], source["declared_frames"], source["damage"]["errors"]) == (39, 40, 1)
            assert any("t1 is damaged and kept: 39 of 40 frames could be decoded" in message for message in said)
        else:
            assert report.quarantined == ("t1",)
            (record,) = Quarantine(experiment.paths.output / "quarantine").records()
            assert re.search(r"t1\.mp4: damaged from frame \d+ on .*: 39 of 40 frames could be decoded", record.reason)
            assert record.frame > 30
            assert FeatureStore.open(experiment.paths.cache).list("ns") == set()

    def test_a_cleared_video_is_tried_again(self, experiment, manifest, tmp_path, make_video):
        (tmp_path / "t1.mp4").write_text("this is no video")
        extract(experiment, manifest, "test", manifest.split("test"), "ns")
        make_video("t1.mp4", frames=9)
        Quarantine(experiment.paths.output / "quarantine").clear(["t1"])
        assert extract(experiment, manifest, "test", manifest.split("test"), "ns").extracted == ("t1",)

    def test_views_are_random_draws_and_odd_ones_are_flipped(self, nano, manifest, tmp_path):
        nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
        nano["train_sampling"] = {"segments": 2, "views": 2, "interval_frames": 1, "clip_frames": 2}
        experiment = parse_experiment(nano)
        extractor = Extractor(experiment)
        path, clips = manifest.video_path("n1"), []
        feed = ViewFeed(extractor.engine, experiment.train_sampling, "n1", clips.append)
        with experiment_workers(experiment) as workers:
            for _, stream in workers.readable([extractor.job(path, "n1", "train")]):
                stream.advance(feed, 8)
        feed.end()
        assert [clip.view for clip in clips] == [0, 0, 1, 1]
        assert len(feed.times) == 20
        frames = [f.image for f in iter_frames(path)]
        for clip in clips:
            for number, features in zip(clip.indices, clip.features, strict=True):
                image = frames[number][:, ::-1] if clip.view else frames[number]
                expected = extractor.engine.frames([np.ascontiguousarray(image)])[0]
                assert torch.equal(features, expected)

    def test_features_are_those_of_the_module_whatever_windows_share(self, experiment, manifest):
        extract(experiment, manifest, "test", manifest.split("test"), "ns")
        reader = FeatureStore.open(experiment.paths.cache).reader("ns", "t1")
        frames = np.stack([f.image for f in iter_frames(manifest.video_path("t1"))])
        network = build_backbone("tpn_tiny", "bundled")
        with torch.inference_mode():
            expected = network(torch.from_numpy(frames[reader.frames()[0]])).numpy()
        np.testing.assert_allclose(reader.features(0), expected, rtol=2e-3, atol=2e-3 * expected.max())

    def test_features_do_not_depend_on_the_videos_before(self, experiment, manifest):
        """Batches reach across videos: the second video must not feel the first, nor a restart between them."""
        videos = manifest.split("test")
        extract(experiment, manifest, "test", videos, "together")
        for video in reversed(videos):
            extract(experiment, manifest, "test", [video], "apart")
        store = FeatureStore.open(experiment.paths.cache)
        for video in videos:
            together, apart = (store.reader(name, video.video_id).features(0) for name in ("together", "apart"))
            np.testing.assert_array_equal(together, apart)

    def test_videos_decoded_at_once_give_what_each_gives_alone(self, experiment, manifest, tmp_path, monkeypatch):
        """The decoder of each waits for the other's, so their frames come mixed."""
        (tmp_path / "mixing_decoder.py").write_text(
            "import time\n"
            "from pipeline.data import decode\n"
            "read_header = decode.read_header\n"
            "def iter_frames(path, **options):\n"
            "    others = {'t1.mp4': 't2.mp4', 't2.mp4': 't1.mp4'}\n"
            "    for index, frame in enumerate(decode.iter_frames(path, **options)):\n"
            "        path.with_suffix(f'.{index}').touch()\n"
            "        while index < 20 and not path.with_name(others[path.name]).with_suffix(f'.{index}').exists():\n"
            "            time.sleep(0.01)\n"
            "        yield frame\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        videos = manifest.split("test")
        report = extract(experiment, manifest, "test", videos, "mixed", decoder="mixing_decoder")
        assert report.extracted == ("t1", "t2")
        for video in videos:
            extract(experiment, manifest, "test", [video], "alone")
        store = FeatureStore.open(experiment.paths.cache)
        for video in videos:
            mixed, alone = (store.record(namespace, video.video_id) for namespace in ("mixed", "alone"))
            assert mixed.values_crc32c == alone.values_crc32c
            assert mixed.provenance == alone.provenance

    def test_progress_counts_frames_and_videos(self, experiment, manifest, make_video, tmp_path):
        told = []
        extract(experiment, manifest, "test", manifest.split("test"), "ns", progress=lambda *facts: told.append(facts))
        planned = sum(video.packets for video in manifest.split("test"))
        done = [facts[0] for facts in told]
        assert done == sorted(done)
        assert {facts[1] for facts in told} == {planned}
        assert told[0][2] == "0 of 2 videos, loading the backbone"
        assert told[-1] == (planned, planned, "2 of 2 videos, extracted")
        assert any(0 < number < planned for number in done)

    def test_values_that_are_not_finite_cost_their_video_only(self, experiment, manifest, make_video, tmp_path):
        class Broken(torch.nn.Module):
            name, channels, weights_sha256 = "broken", 2048, "none"

            def frames(self, images):
                return images[:, :8, :8, :1].permute(0, 3, 1, 2).float()

            def clips(self, frames):  # the brightest frame of t1 breaks it
                level = frames.amax(dim=(0, 2, 3, 4))
                value = torch.where(level > 230, torch.inf, level)
                return value[:, None, None, None].expand(-1, 7, 7, 2048).contiguous()

        extractor, store = Extractor(experiment, Broken()), FeatureStore.open(experiment.paths.cache)
        videos = [make_video("dark.mp4", frames=8), make_video("bright.mp4", frames=20), make_video("short.mp4", frames=3)]
        with experiment_workers(experiment) as workers:
            named = [(path.stem, path) for path in videos]
            outcomes = {o.video_id: o.error for o in extractor.extract(named, "test", store, "ns", workers)}
        assert (outcomes["dark"], outcomes["short"]) == (None, None)
        assert isinstance(outcomes["bright"], NonFiniteFeatures)
        assert store.list("ns") == {"dark", "short"}

    def test_clips_of_a_segment_are_averaged(self, nano, manifest, tmp_path):
        nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
        nano["train_sampling"] = {"segments": 2, "views": 1, "clips_per_segment": 3}
        experiment = parse_experiment(nano)
        extract(experiment, manifest, "train", manifest.split("train")[:1], "ns")
        reader = FeatureStore.open(experiment.paths.cache).reader("ns", "n1")
        assert reader.shape[:2] == (1, 2)
        assert reader.frames().shape == (1, 2, 18)


def planted_bags(videos: int = 24, views: int = 2) -> tuple[Bags, torch.Tensor]:
    """Bags whose anomalous videos hold class 1 in channels 0 or class 2 in channel 1 of one segment."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(videos, views, 4, 6, generator=generator)
    labels = torch.zeros(videos, 3)
    for i in range(videos):
        kind = i % 3
        labels[i, kind] = 1
        if kind:
            patterns[i, :, i % 4, kind - 1] += 3
    return Bags(tuple(f"v{i:02d}" for i in range(videos)), patterns.amax(dim=2), patterns), labels


class TestTraining:
    def test_two_runs_give_identical_weights(self, tmp_path):
        bags, labels = planted_bags()
        run = Run.model_validate({"training": {"epochs": 5}})
        first, second = (fit(bags, labels, run, 2, tmp_path / name).state_dict() for name in self.folders(tmp_path))
        assert all(torch.equal(first[k], second[k]) for k in first)

    @staticmethod
    def folders(tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        return "a", "b"

    @pytest.mark.parametrize("stop", [1, 4, 7])
    def test_a_broken_off_training_goes_on_to_the_same_weights(self, tmp_path, stop):
        bags, labels = planted_bags()
        run = Run.model_validate({"training": {"epochs": 8}})
        whole = fit(bags, labels, run, 2, tmp_path / "whole", checkpoint_epochs=1)

        def kill(done, total, message):
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(bags, labels, run, 2, tmp_path / "broken", progress=kill, checkpoint_epochs=2)
        epochs = []
        resumed = fit(bags, labels, run, 2, tmp_path / "broken", progress=lambda done, *_: epochs.append(done), checkpoint_epochs=2)
        assert epochs[0] == stop // 2 * 2 + 1
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name
        losses = [(tmp_path / folder / "losses.csv").read_bytes() for folder in ("whole", "broken")]
        assert losses[0] == losses[1]

    def test_a_checkpoint_cut_short_is_passed_over(self, tmp_path):
        bags, labels = planted_bags()
        run = Run.model_validate({"training": {"epochs": 4}})
        whole = fit(bags, labels, run, 2, tmp_path / "whole", checkpoint_epochs=1)
        checkpoint = tmp_path / "whole" / "checkpoint.pt"
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "checkpoint.pt").write_bytes(checkpoint.read_bytes()[:1000])
        again = fit(bags, labels, run, 2, tmp_path / "cut")
        assert all(torch.equal(v, again.state_dict()[n]) for n, v in whole.state_dict().items())

    def test_the_global_generator_is_left_alone(self, tmp_path):
        bags, labels = planted_bags()
        torch.manual_seed(9)
        expected = torch.rand(3)
        torch.manual_seed(9)
        fit(bags, labels, Run.model_validate({"training": {"epochs": 1}}), 2, tmp_path)
        assert torch.equal(torch.rand(3), expected)

    def test_a_planted_anomaly_is_found(self, tmp_path):
        bags, labels = planted_bags()
        run = Run.model_validate(
            {"training": {"epochs": 100, "learning_rate": 0.1}, "head": {"p": 1, "dropout": 0.0, "lambda3": 0.0}}
        )
        head = fit(bags, labels, run, 2, tmp_path)
        with torch.inference_mode():
            scores = head(bags.cues[:, 0], bags.patterns[:, 0]).segment_scores[..., 1:].amax(dim=2)
        truth = torch.zeros(24, 4, dtype=torch.bool)
        truth[[i for i in range(24) if i % 3], [i % 4 for i in range(24) if i % 3]] = True
        assert scores[truth].min() > scores[~truth].max()

    @pytest.mark.parametrize("name", ["lambda1", "lambda2", "lambda3", "p", "dropout"])
    def test_every_setting_of_the_loss_binds(self, tmp_path, name):
        bags, labels = planted_bags()
        changed = {"head": {name: {"p": 1, "dropout": 0.0}.get(name, 0.3)}, "training": {"epochs": 2}}
        runs = [Run.model_validate({"training": {"epochs": 2}}), Run.model_validate(changed)]
        first, second = (
            fit(bags, labels, run, 2, tmp_path / folder).phi2.weight
            for run, folder in zip(runs, self.folders(tmp_path), strict=True)
        )
        assert not torch.equal(first, second)

    def test_a_file_that_is_no_head_is_refused(self, tmp_path):
        with pytest.raises(WeightsError, match="head.safetensors"):
            load_head(tmp_path / "head.safetensors")


@pytest.fixture
def cached(experiment, manifest):
    for split in ("train", "test"):
        extract(experiment, manifest, split, manifest.split(split), split)
    return experiment, manifest


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
        on_frames = score_video(store, "test", "t1", head, experiment.scoring.model_copy(update={"smooth_on": "frames"}))
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


class TestEvaluation:
    @pytest.fixture
    def scored(self, cached, tmp_path):
        experiment, manifest = cached
        train_head(experiment, "gig", manifest, "train", tmp_path / "head")
        score_split(experiment, "gig", manifest, "test", tmp_path / "head", tmp_path / "scores")
        return experiment, manifest, tmp_path / "scores"

    def test_figures_are_written(self, scored, tmp_path):
        experiment, manifest, scores = scored
        evaluate(experiment, manifest, scores, tmp_path)
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert (metrics["videos"], metrics["frames"], metrics["anomalous_frames"]) == (2, 23 + 24, 10)
        assert (tmp_path / "out" / "per_class.csv").read_text().splitlines()[0].startswith("class,precision")
        assert len((tmp_path / "out" / "per_video.csv").read_text().splitlines()) == 3

    def test_a_truth_without_anomaly_is_evaluated_as_far_as_it_goes(self, scored, tmp_path):
        experiment, manifest, scores = scored
        calm = [replace(v, labels=()) if v.split == "test" else v for v in manifest.videos]
        evaluate(experiment, replace(manifest, videos=tuple(calm), intervals=()), scores, tmp_path)
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert metrics["auc"] is None
        assert metrics["figures"]["frame_auc"]["reason"] == "not defined without anomalous and normal frames"
        assert metrics["figures"]["false_alarm_rate"]["value"] is not None
        assert pq.read_table(tmp_path / "out" / "curves.parquet").num_rows == 0
        write_summary(experiment, [tmp_path / "out"], tmp_path / "summary")
        assert " -  " in summary_table(tmp_path / "summary")
        assert "NaN" not in (tmp_path / "summary" / "summary.json").read_text()

    def test_a_table_of_another_length_is_an_error_that_names_the_video(self, scored, tmp_path):
        experiment, manifest, scores = scored
        path = scores / "frames" / "t1.parquet"
        pq.write_table(pq.read_table(path).slice(1), path)
        with pytest.raises(LengthMismatch, match="t1: 22 scores for 23 decoded frames"):
            evaluate(experiment, manifest, scores, tmp_path)

    def test_missing_tables_and_other_classes_are_errors(self, scored):
        _, _, scores = scored
        with pytest.raises(PipelineError, match="expected the classes Other"):
            read_scores(scores, ("Other",))
        (scores / "frames" / "t2.parquet").unlink()
        with pytest.raises(PipelineError, match="t2"):
            read_scores(scores, ("Fighting", "Robbery"))
        with pytest.raises(PipelineError, match="index"):
            read_scores(scores / "nowhere", ())

    def test_a_video_without_scores_is_an_error(self, scored, tmp_path):
        experiment, manifest, scores = scored
        more = Manifest(manifest.root, manifest.classes, (*manifest.videos, entry("t3", "test")), manifest.intervals)
        with pytest.raises(PipelineError, match="t3"):
            evaluate(experiment, more, scores, tmp_path)

    def test_an_interval_past_the_last_decoded_frame_is_an_error(self, scored, tmp_path):
        experiment, manifest, scores = scored
        late = Manifest(manifest.root, manifest.classes, manifest.videos, (Interval("t1", "Fighting", 5, 24),))
        with pytest.raises(PipelineError, match="t1.*24.*23 frames"):
            evaluate(experiment, late, scores, tmp_path)


def test_loss_on_cached_maps_equals_loss_on_live_maps_within_half_precision():
    torch.manual_seed(0)
    live = torch.rand(2, 4, 7, 7, 64) * 3
    stored = live.half().float()
    from pipeline.models.heads import build_head

    head = build_head("gig", channels=64, classes=2, dropout=0.0)
    labels = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    totals = []
    for maps in (live, stored):
        cue = global_pattern_cue(maps)
        output = head(cue, spatial_patterns(maps, cue, 8).vectors)
        totals.append(vs_loss(output, labels, lambda1=1, lambda2=0.5, lambda3=0.1, p=2).total.item())
    assert totals[0] == pytest.approx(totals[1], rel=1e-2)


def test_ids_that_would_share_a_key_are_refused(nano, tmp_path, make_video, monkeypatch):
    for name in ("a", "b", "c"):
        make_video(f"{name}.mp4")
    (tmp_path / "videos.csv").write_text(
        "video_id,path,split,label\nCam/1,a.mp4,train,Fighting\ncam/1,b.mp4,train,Normal\nt,c.mp4,test,Normal\n"
    )
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
    experiment = parse_experiment(nano)
    build_manifest(experiment, tmp_path / "fine")  # ids that differ in case only have different keys
    monkeypatch.setattr("pipeline.stages.manifest.escape", str.lower)
    with pytest.raises(ManifestError, match="'cam/1' and 'Cam/1' have the same key 'cam/1'"):
        build_manifest(experiment, tmp_path / "refused")
    assert not list((tmp_path / "refused").iterdir())
