"""The self-check finds what is wrong, compares with a record, and names what is slow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pipeline.cli.main import main
from pipeline.config import parse_experiment
from pipeline.errors import DecodeError, FeatureMismatch, PipelineError
from pipeline.models.backbone import build_backbone
from pipeline.models.fast_tpn import FastTPN
from pipeline.stages.selfcheck import pipeline_check, selfcheck
from pipeline.stages.selfcheck.features import (
    ClipFeatures,
    check_device,
    compare_records,
    compared_maps,
    module_maps,
    read_record,
    write_record,
)
from pipeline.stages.selfcheck.findings import Check, Speed, checked
from pipeline.stages.selfcheck.selfcheck import SelfCheck, self_check
from pipeline.stages.selfcheck.speeds import bottleneck, decoding_speed, disk_speed

FEATURES = ClipFeatures(
    backbone="tpn_tiny",
    weights_sha256="ab",
    precision="float32",
    device="cpu",
    crop=224,
    window_frames=6,
    interval_frames=1,
    stride_frames=3,
    sha256="00",
    mean=0.5,
    largest=2.0,
    zeros=0.25,
    pooled=[[1.0, 2.0], [0.0, 2.0]],
)


@pytest.fixture
def experiment(nano):
    nano["machine"] = {"device": "cpu", "decode_workers": 1, "batch_clips": 2}
    nano["preprocess"] = {"short_side": 96, "crop": 96}
    return parse_experiment(nano)


class TestDecoding:
    def test_the_clip_is_decoded_as_it_was_drawn(self, tmp_path):
        check = pipeline_check.check_decoding(tmp_path)
        assert check.ok, check.detail

    @pytest.mark.parametrize(
        "fault",
        [
            lambda pictures: pictures[..., ::-1],
            lambda pictures: np.roll(pictures, 1, axis=0),
            lambda pictures: pictures[:, :, ::-1],
            lambda pictures: pictures[:-1],
        ],
        ids=["colours swapped", "one frame late", "mirrored", "a frame lost"],
    )
    def test_other_pictures_are_wrong(self, tmp_path, monkeypatch, fault):
        write = pipeline_check.write_video
        monkeypatch.setattr(
            pipeline_check, "write_video", lambda path, drawn: write(path, np.ascontiguousarray(fault(drawn)))
        )
        assert not pipeline_check.check_decoding(tmp_path).ok


class TestFeatures:
    def test_a_difference_beyond_the_precision_is_wrong(self):
        maps = np.ones((1, 1, 1, 4), np.float32)
        assert compared_maps(maps * 1.001, maps, "cpu", "float16").ok
        assert not compared_maps(maps * 1.001, maps, "cpu", "float32").ok
        assert not compared_maps(maps * np.nan, maps, "cpu", "float32").ok

    def test_other_weights_on_the_device_are_wrong(self, experiment):
        reference = module_maps(build_backbone("tpn_tiny", "random", seed=1), experiment)
        other = FastTPN(build_backbone("tpn_tiny", "random", seed=2))
        check = check_device(other, torch.device("cpu"), experiment, reference)
        assert not check.ok
        assert "at most 0.0001 expected" in check.detail

    def test_a_record_is_compared(self, tmp_path):
        path = tmp_path / "record.json"
        write_record(path, FEATURES, {"CPU": "one"})
        record = read_record(path)
        assert record == FEATURES
        assert compare_records(FEATURES, record).detail == "the same in every bit"
        near, far = ([[1.0, 2.0], [0.0, 2.0 + change]] for change in (1e-4, 1e-2))
        assert compare_records(replace(FEATURES, sha256="01", pooled=near), record).ok
        assert not compare_records(replace(FEATURES, sha256="01", pooled=far), record).ok
        assert compare_records(replace(FEATURES, sha256="01", pooled=far, precision="bfloat16"), record).ok

    @pytest.mark.parametrize(
        "change",
        [{"weights_sha256": "cd"}, {"crop": 192}, {"interval_frames": 2}, {"stride_frames": 6}]
        + [{"pooled": [[1.0]], "sha256": "01"}],
    )
    def test_a_record_of_something_else_is_not_compared(self, change):
        with pytest.raises(FeatureMismatch, match="cannot be compared"):
            compare_records(FEATURES, replace(FEATURES, **change))

    @pytest.mark.parametrize("text", ["", "[1]", '{"form": 1}', '{"form": 9, "features": {}}'])
    def test_another_file_is_no_record(self, tmp_path, text):
        (tmp_path / "record.json").write_text(text, encoding="utf-8")
        with pytest.raises(PipelineError, match=r"record\.json"):
            read_record(tmp_path / "record.json")


class TestWhole:
    def test_all_is_right_and_nothing_is_left(self, experiment):
        found = self_check(experiment, seconds=0)
        assert [(check.name.split()[0], check.ok) for check in found.checks] == [
            ("decoding", True),
            ("backbone", True),
            ("cache", True),
        ], found.checks
        assert found.features is not None
        assert not list(Path(experiment.paths.cache).glob("selfcheck-*"))
        assert not found.speeds
        json.dumps(found.document())

    def test_a_cache_that_cannot_be_written_is_wrong(self, nano, tmp_path):
        (tmp_path / "file").write_text("", encoding="utf-8")
        nano["paths"]["cache"] = str(tmp_path / "file")
        (wrong,) = self_check(parse_experiment(nano), seconds=0).wrong
        assert wrong.name == f"cache at {tmp_path / 'file'}"

    def test_missing_weights_are_wrong(self, nano, tmp_path):
        nano["backbone"] = {"name": "tpn_tiny", "weights": str(tmp_path / "none.pth")}
        (wrong,) = self_check(parse_experiment(nano), seconds=0).wrong
        assert "no such weight file" in wrong.detail

    def test_an_error_is_a_wrong_check(self):
        def fails() -> Check:
            raise OSError("no room")

        assert checked("disk", fails) == Check("disk", False, "no room")


class TestSpeeds:
    def test_the_slowest_part_is_named_with_what_helps(self):
        decoding = Speed("decoding", 90, "frames/s", 90, "", "more cores")
        backbone = Speed("backbone", 10, "windows/s", 30, "", "a GPU")
        reading = Speed("reading the cache", 5, "MB/s", 1, "", "a faster disk")
        disk = Speed("disk of the videos", 1, "MB/s", None, "", "a faster disk")
        text = bottleneck([decoding, backbone, reading, disk])
        assert "limited by: backbone, 30 frames/s (against decoding 90)" in text
        assert "What helps: a GPU." in text
        assert bottleneck([backbone]) == bottleneck([decoding, reading]) == ""

    def test_videos_are_timed(self, experiment, make_video):
        files = [make_video("a.mp4"), make_video("b.mp4")]
        assert decoding_speed(experiment, files, "two videos", 0.01).value > 0
        assert disk_speed(files, 1.0).value > 0

    def test_videos_that_cannot_be_decoded_end_the_timing(self, experiment, tmp_path):
        path = tmp_path / "no.mp4"
        path.write_bytes(b"nothing")
        with pytest.raises(DecodeError, match=r"no\.mp4"):
            decoding_speed(experiment, [path], "a text", 0.01)


class TestCommand:
    @pytest.fixture
    def gig(self, nano, write_config, monkeypatch):
        config = write_config(nano)
        found = SelfCheck([Check("decoding", True, "seen")], [], FEATURES, {"CPU": "one"})
        monkeypatch.setattr(selfcheck, "self_check", lambda *given: found)
        return lambda *options: CliRunner().invoke(main, ["selfcheck", "--config", str(config), *options])

    def test_it_records_and_compares(self, gig, tmp_path):
        path = tmp_path / "record.json"
        recorded = gig("--record", str(path))
        assert recorded.exit_code == 0, recorded.output
        assert "nothing is wrong" in recorded.output
        assert "sha256 ab" in recorded.output
        assert json.loads(gig("--compare", str(path), "--json").stdout)["ok"]

    def test_what_is_wrong_is_an_error_and_all_is_printed(self, gig, tmp_path):
        path = tmp_path / "record.json"
        write_record(path, replace(FEATURES, weights_sha256="cd"), {})
        compared = gig("--compare", str(path))
        assert compared.exit_code == 1
        assert "WRONG  features as recorded: the record cannot be compared" in compared.output
        assert "ok     decoding: seen" in compared.output


@pytest.mark.parametrize(
    ("device", "precision", "gpu", "others"),
    [
        ("cpu", "float32", False, []),
        ("cpu", "bfloat16", False, ["cpu"]),
        ("cpu", "float32", True, ["cuda"]),
        ("cuda", "bfloat16", True, ["cpu"]),
    ],
)
def test_the_backbone_is_checked_on_the_cpu_and_on_a_gpu(monkeypatch, device, precision, gpu, others):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert [other.type for other in selfcheck._other_devices(torch.device(device), precision)] == others
