"""Extraction of small videos: what is written, what is kept, and what a bad video costs."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from small_dataset import extract

from cache import FeatureStore, NonFiniteFeatures
from pipeline.config import parse_experiment
from pipeline.data.decoding.decode import iter_frames
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.windows import window_indices
from pipeline.errors import ManifestError
from pipeline.models.backbone import build_backbone
from pipeline.stages.common.digests import weights_identity
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.extraction.claims import Claims
from pipeline.stages.extraction.feeding import ViewFeed
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.sources import experiment_workers, is_current


class TestExtraction:
    def test_shapes_frames_and_provenance(self, experiment, manifest):
        for split in ("train", "test"):
            report = extract(experiment, manifest, split, manifest.split(split), split)
            assert len(report.extracted) == len(manifest.split(split))
        store = FeatureStore.open(experiment.paths.cache)
        assert store.reader("train", "n1").shape == (1, 4, 7, 7, 2048)
        reader = store.reader("test", "t1")
        np.testing.assert_array_equal(
            reader.frames()[0], window_indices(23, window_frames=6, stride_frames=6, interval_frames=1)
        )
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
        assert FeatureStore.open(experiment.paths.cache).video_ids("ns") == {"t2"}
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
            "from pipeline.data.decoding import decode\n"
            "read_header = decode.read_header\n"
            "def iter_frames(path, fit, **options):\n"
            "    for index, frame in enumerate(decode.iter_frames(path, fit, **options)):\n"
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

    def test_a_decoder_that_was_killed_is_tried_again_when_the_others_are_done(
        self, experiment, manifest, tmp_path, monkeypatch
    ):
        (tmp_path / "killed_decoder.py").write_text(
            "import os, signal\n"
            "from pathlib import Path\n"
            "from pipeline.data.decoding import decode\n"
            "read_header = decode.read_header\n"
            "def iter_frames(path, fit, **options):\n"
            "    for index, frame in enumerate(decode.iter_frames(path, fit, **options)):\n"
            "        kills = path.with_suffix('.kills')\n"
            "        if index == 3 and kills.exists() and (left := int(kills.read_text())):\n"
            "            kills.write_text(str(left - 1))\n"
            "            os.kill(os.getpid(), signal.SIGKILL)\n"
            "        yield frame\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        said = []
        for kills, outcome in (("1", (("t1", "t2"), ())), ("2", (("t2",), ("t1",)))):
            (tmp_path / "t1.kills").write_text(kills)
            report = extract(
                experiment,
                manifest,
                "test",
                manifest.split("test"),
                f"ns{kills}",
                decoder="killed_decoder",
                say=said.append,
            )
            assert (report.extracted, report.quarantined) == outcome
        one, other = (FeatureStore.open(experiment.paths.cache).record("ns1", video_id) for video_id in ("t1", "t2"))
        assert one.created >= other.created
        assert sum("t1 is tried again, alone, when the others are done" in message for message in said) == 2
        (record,) = Quarantine(experiment.paths.output / "quarantine").records()
        assert "SIGKILL" in record.reason

    def test_events_are_all_told_however_many_come_at_once(self, experiment, manifest, tmp_path):
        for name in ("t1", "t2"):
            (tmp_path / f"{name}.mp4").write_text("this is no video")
        said, progress = [], []
        videos = manifest.split("test")
        extract(
            experiment,
            manifest,
            "test",
            videos,
            "ns",
            progress=lambda *facts: progress.append(facts[2]),
            say=said.append,
        )
        assert sorted(message.split(":")[0] for message in said) == ["t1 goes to quarantine", "t2 goes to quarantine"]
        assert not any("quarantine" in message for message in progress)

    def test_a_video_that_another_process_extracts_is_left_to_it(self, experiment, manifest):
        """The other one is a thread here, which ends after it has extracted one of its two videos."""
        videos, said, store = manifest.split("test"), [], FeatureStore.open(experiment.paths.cache)
        release = threading.Event()

        def other() -> None:
            with Claims(experiment.paths.output, "ns") as claims:
                assert all(claims.take(video.video_id) for video in videos)
                release.wait(600)
                with store.writer("ns", "t1", views=1, rows=1, columns=1, channels=1, frames_per_clip=1) as writer:
                    writer.append(0, np.zeros((1, 1, 1, 1)), np.zeros((1, 1), dtype=np.int64))
                    facts = manifest.video_path("t1").stat()
                    source = {"bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}
                    writer.commit(
                        {"source": source, "backbone": {"weights_sha256": weights_identity(experiment.backbone)}}
                    )

        def say(message: str) -> None:
            said.append(message)
            release.set()

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(other)
            while not (experiment.paths.output / ".extraction/ns/.locks/t2").exists():
                time.sleep(0.01)
            report = extract(experiment, manifest, "test", videos, "ns", say=say)
            done.result()
        assert (report.extracted, report.cached) == (("t2",), ("t1",))
        assert said == [
            f"waiting for process {os.getpid()} on {socket.gethostname()}, which is making the features of t1"
        ]
        assert not list((experiment.paths.output / ".extraction").rglob("t?"))

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
        report = extract(experiment, manifest, split, [manifest.video("t1")], "ns", say=said.append)
        if kept:
            assert report.extracted == ("t1",)
            source = FeatureStore.open(experiment.paths.cache).record("ns", "t1").provenance["source"]
            assert (source["frames"], source["decoded_frames"], source["declared_frames"]) == (40, 39, 40)
            assert (source["damage"]["errors"], len(source["damage"]["lost"])) == (1, 1)
            assert any("t1 is damaged and kept: 39 of 40 frames are sound, 1 lost" in message for message in said)
        else:
            assert report.quarantined == ("t1",)
            (record,) = Quarantine(experiment.paths.output / "quarantine").records()
            assert re.search(r"t1\.mp4: damaged from frame \d+ on .*: 39 of 40 frames are sound, 1 lost", record.reason)
            assert record.frame > 30
            assert FeatureStore.open(experiment.paths.cache).video_ids("ns") == set()

    @pytest.mark.parametrize(
        ("damage", "current"), [(None, True), ({"errors": 1, "lost": []}, True), ({"errors": 1}, False)]
    )
    def test_features_of_the_time_when_lost_frames_had_no_places_are_made_again(self, manifest, damage, current):
        facts = manifest.video_path("t1").stat()
        source = {"bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns, "damage": damage}
        provenance = {"backbone": {"weights_sha256": "w"}, "source": source}
        store = SimpleNamespace(record=lambda namespace, video_id: SimpleNamespace(provenance=provenance))
        assert is_current(store, "ns", "t1", manifest.video_path("t1"), "w") is current

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_validation_split_that_cannot_be_made_stops_before_any_video(self, nano, manifest, tmp_path, split):
        """A manifest may be older than the setting."""
        nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting", "Robbery"]}
        nano["selection"] = {"validation_share": 0.5}
        experiment = parse_experiment(nano)
        with pytest.raises(ManifestError, match="selection: no .* video would be left for"):
            extract(experiment, manifest, split, manifest.split(split), "ns")
        assert FeatureStore.open(experiment.paths.cache).video_ids("ns") == set()

    def test_a_cleared_video_is_tried_again(self, experiment, manifest, tmp_path, make_video):
        (tmp_path / "t1.mp4").write_text("this is no video")
        extract(experiment, manifest, "test", manifest.split("test"), "ns")
        make_video("t1.mp4", frames=9)
        Quarantine(experiment.paths.output / "quarantine").clear(["t1"])
        assert extract(experiment, manifest, "test", manifest.split("test"), "ns").extracted == ("t1",)

    def test_views_are_random_draws_and_odd_ones_are_flipped(self, nano, manifest, tmp_path, make_video):
        nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
        nano["train_sampling"] = {"segments": 40, "views": 2, "interval_frames": 1, "clip_frames": 2}
        make_video("n1.mp4", frames=160)  # of which more are wanted than the decoder's ring holds
        experiment = parse_experiment(nano)
        extractor = Extractor(experiment)
        path, clips = manifest.video_path("n1"), []
        feed = ViewFeed(extractor.engine, experiment.train_sampling, "n1", clips.append)
        with experiment_workers(experiment) as workers:
            for _, stream in workers.readable([extractor.job(path, "n1", "train")]):
                stream.advance(feed, 8)
        feed.end()
        assert [clip.view for clip in clips] == [0] * 40 + [1] * 40
        assert len(feed.times) == 160
        frames = [f.image for f in iter_frames(path)]
        for clip in clips[::7]:
            for number, features in zip(clip.indices, clip.features, strict=True):
                image = frames[number][:, ::-1] if clip.view else frames[number]
                expected = extractor.engine.frames([np.ascontiguousarray(image)])[0]
                torch.testing.assert_close(features, expected)  # another size of batch, other code of a library

    def test_features_are_those_of_the_module_whatever_windows_share(self, experiment, manifest):
        extract(experiment, manifest, "test", manifest.split("test"), "ns")
        reader = FeatureStore.open(experiment.paths.cache).reader("ns", "t1")
        frames = np.stack([f.image for f in iter_frames(manifest.video_path("t1"))])
        network = build_backbone("tpn_tiny", "bundled")
        with torch.inference_mode():
            expected = network(torch.from_numpy(frames[reader.frames()[0]])).numpy()
        np.testing.assert_allclose(reader.features(0), expected, rtol=2e-3, atol=2e-3 * expected.max())

    def test_features_do_not_depend_on_the_videos_before(self, experiment, manifest):
        """A batch holds clips of several videos: neither these nor a restart may change the second video."""
        videos = manifest.split("test")
        extract(experiment, manifest, "test", videos, "together")
        for video in reversed(videos):
            extract(experiment, manifest, "test", [video], "apart")
        store = FeatureStore.open(experiment.paths.cache)
        for video in videos:
            together, apart = (store.reader(name, video.video_id).features(0) for name in ("together", "apart"))
            np.testing.assert_array_equal(together, apart)

    def test_videos_decoded_at_once_give_what_each_gives_alone(self, experiment, manifest, tmp_path, monkeypatch):
        """Each decoder waits for the other one, so their frames come mixed."""
        (tmp_path / "mixing_decoder.py").write_text(
            "import time\n"
            "from pipeline.data.decoding import decode\n"
            "read_header = decode.read_header\n"
            "def iter_frames(path, fit, **options):\n"
            "    others = {'t1.mp4': 't2.mp4', 't2.mp4': 't1.mp4'}\n"
            "    for index, frame in enumerate(decode.iter_frames(path, fit, **options)):\n"
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
            name, channels, weights_sha256, recordable = "broken", 2048, "none", False

            def frames(self, images):
                return images[:, :8, :8, :1].permute(0, 3, 1, 2).float()

            def clips(self, frames):  # the brightest frame of t1 breaks it
                level = frames.amax(dim=(0, 2, 3, 4))
                value = torch.where(level > 230, torch.inf, level)
                return value[:, None, None, None].expand(-1, 7, 7, 2048).contiguous()

        extractor, store = Extractor(experiment, Broken()), FeatureStore.open(experiment.paths.cache)
        videos = [
            make_video("dark.mp4", frames=8),
            make_video("bright.mp4", frames=20),
            make_video("short.mp4", frames=3),
        ]
        with experiment_workers(experiment) as workers:
            named = [(path.stem, path) for path in videos]
            outcomes = {o.video_id: o.error for o in extractor.extract(named, "test", store, "ns", workers)}
        assert (outcomes["dark"], outcomes["short"]) == (None, None)
        assert isinstance(outcomes["bright"], NonFiniteFeatures)
        assert store.video_ids("ns") == {"dark", "short"}

    def test_a_short_videos_outcome_does_not_wait_for_a_long_one_before_it(self, nano, make_video, tmp_path):
        nano["machine"] |= {"batch_clips": 1, "decode_workers": 2}
        experiment = parse_experiment(nano)
        store = FeatureStore.open(experiment.paths.cache)
        videos = [(path.stem, path) for path in (make_video("long.mp4", frames=240), make_video("short.mp4", frames=3))]

        class ShortFirst(DecodeWorkers):
            """Reads the second stream to its end before the first."""

            def readable(self, jobs):
                for number, stream in reversed([(number, self._start(job)) for number, job in enumerate(jobs)]):
                    while not stream.closed:
                        yield number, stream
                    while number and not store.has("ns", "short"):
                        time.sleep(0.01)

        with ShortFirst(2) as workers:
            outcomes = [o.video_id for o in Extractor(experiment).extract(videos, "test", store, "ns", workers)]
        assert outcomes == ["short", "long"]

    def test_clips_of_a_segment_are_averaged(self, nano, manifest, tmp_path):
        nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting"]}
        nano["train_sampling"] = {"segments": 2, "views": 1, "clips_per_segment": 3}
        experiment = parse_experiment(nano)
        extract(experiment, manifest, "train", manifest.split("train")[:1], "ns")
        reader = FeatureStore.open(experiment.paths.cache).reader("ns", "n1")
        assert reader.shape[:2] == (1, 2)
        assert reader.frames().shape == (1, 2, 18)
