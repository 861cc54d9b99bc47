"""A detector: the scores of its run, without the run; nothing in its file is trusted before it is checked."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import NANO
from packs import CLASSES, outputs_of
from places import ROOT

import pipeline
from pipeline.config import parse_experiment
from pipeline.config.heads import HEADS, parse_head
from pipeline.config.runs import Training
from pipeline.data.events import read_events
from pipeline.errors import DecodeError, DetectorError, FeatureMismatch, OutputError, PipelineError, WeightsError
from pipeline.hashing import file_sha256
from pipeline.models.weights import BUNDLED
from pipeline.stages.detector.card import model_card, summary_lines
from pipeline.stages.detector.detector import Detector, check_names
from pipeline.stages.detector.document import Document
from pipeline.stages.detector.file import HeldTensor, read_header, read_tensors, write_file
from pipeline.stages.detector.packing import pack_detector
from pipeline.stages.detector.probe import check_probe
from pipeline.stages.detector.scoring import score_with_detector
from pipeline.stages.scoring.inputs import find_videos
from pipeline.stages.scoring.score_loose import quarantine_of, score_files, score_sources
from pipeline.stages.training.saved_heads import make_head


def experiment_in(folder: Path, **changes: object):
    paths = {"output": str(folder / "var"), "cache": str(folder / "cache")}
    return parse_experiment(copy.deepcopy(NANO) | {"head": {}, "runs": {"gig": {}}, "paths": paths, **changes})


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """A detector file beside which nothing else is left, and in scores/ the tables of its run of two videos."""
    folder = tmp_path_factory.mktemp("night")
    experiment = experiment_in(folder / "experiment")
    outputs = outputs_of(experiment, folder / "experiment" / "run")
    pack_detector(outputs, folder / "night.safetensors")
    for name, frames in (("one.mp4", 30), ("two.mp4", 7)):
        write_video(folder / "inbox" / name, frames)
    files = sorted((folder / "inbox").iterdir())
    score_files(experiment, "gig", outputs.head, files, folder / "scores")
    shutil.rmtree(folder / "experiment")
    return folder / "night.safetensors"


def write_video(path: Path, frames: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        pictures = np.random.default_rng(frames).integers(0, 255, (frames, 64, 96, 3), np.uint8)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def changed(night: Path, path: Path, tensors: dict | None = None, **entries: object) -> Path:
    """The file with other entries of its document, or other tensors, and a seal that fits."""
    file = read_header(night)
    write_file(path, file.document | entries, tensors or read_tensors(file))
    return path


def test_the_file_gives_the_scores_of_its_run_bit_for_bit(night, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detector = pipeline.Detector.load(night)
    broken, said = tmp_path / "broken.mp4", []
    for name, frames in (("one.mp4", 30), ("two.mp4", 7)):
        found = detector.score(night.parent / "inbox" / name)
        table = pq.read_table(night.parent / "scores" / "frames" / f"{name}.parquet")
        assert found.classes == CLASSES
        assert found.scores.shape == (frames, 3)
        for number, label in enumerate(CLASSES):
            np.testing.assert_array_equal(found.scores[:, number], table[label].to_numpy())
        np.testing.assert_array_equal(found.anomaly, table["score"].to_numpy())
        np.testing.assert_array_equal(found.times_s, table["time_s"].to_numpy())
        assert [event.class_name for event in found.events if event.class_name == "anomaly"]
        assert found.damage is None
    assert detector.rules["anomaly"].upper == 0.25  # chosen on validation videos
    assert detector.rules["Fighting"].upper == 0.5
    with pytest.raises(DecodeError):
        detector.score(tmp_path / "missing.mp4")
    content = (night.parent / "inbox" / "one.mp4").read_bytes()
    middle = content.index(b"mdat") + 12_000
    broken.write_bytes(content[:middle] + bytes(2000) + content[middle + 2000 :])
    damage = detector.score(broken, say=said.append).damage
    assert damage is not None
    assert any("broken.mp4 is damaged and kept" in text for text in said)
    with pytest.raises(PipelineError, match="expected one video: got 2 videos"):
        detector.score(night.parent / "inbox")


def test_the_python_of_the_page_runs(night, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(night, "night.safetensors")
    shutil.copy(night.parent / "inbox" / "two.mp4", "camera7.mp4")
    text = (ROOT / "docs" / "detector.md").read_text(encoding="utf-8")
    block, _ = re.findall(r"```py\n(.*?)```", text, re.DOTALL)  # the other one is run in test_export.py
    names: dict = {}
    exec(compile(block, "block", "exec"), names)
    assert names["result"].scores.shape == (7, 3)


def test_the_file_says_nothing_of_the_machine_and_is_the_same_when_packed_again(night, tmp_path):
    text = json.dumps(read_header(night).document)
    assert str(night.parent) not in text
    assert "experiment/run" not in text
    outputs = outputs_of(experiment_in(tmp_path), tmp_path / "run")
    pack_detector(outputs, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == night.read_bytes()


def test_import_of_the_package_loads_no_torch():
    code = "import sys, pipeline; assert 'torch' not in sys.modules; assert 'Detector' in dir(pipeline)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Detektor'"):
        _ = pipeline.Detektor


def test_a_folder_is_scored_once_and_events_lie_beside(night, tmp_path):
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    shutil.copytree(night.parent / "inbox", inbox / "cam1")
    (inbox / "bad.mp4").write_text("not a video")
    detector = Detector.load(night)
    said: list[str] = []

    def run(loaded: Detector = detector):
        said.clear()
        return score_with_detector(loaded, find_videos([str(inbox)]).videos, out, say=said.append)

    report = run()
    assert (report.scored, list(report.failed)) == (("cam1/one.mp4", "cam1/two.mp4"), ["bad.mp4"])
    assert quarantine_of(out).ids() == ["bad.mp4"]
    direct = pq.read_table(night.parent / "scores" / "frames" / "one.mp4.parquet")
    assert pq.read_table(report.tables[0]).equals(direct)
    events = read_events(out / "events.parquet")
    assert {event.video_id for event in events} == {"cam1/one.mp4", "cam1/two.mp4"}
    assert events == read_events(out / "events.csv") == read_events(out / "events.jsonl")
    assert json.loads((out / "facts.json").read_text())["detector"]["seal"] == detector.seal
    index = json.loads((out / "index.json").read_text())
    assert index["made_with"]["detector"] == {"seal": detector.seal}
    assert index["warnings"] == ["It has learnt nothing."]

    detector.backbone = lambda: pytest.fail("nothing new is to be scored")
    (inbox / "bad.mp4").unlink()
    report = run()
    assert (report.scored, report.kept) == ((), ("cam1/one.mp4", "cam1/two.mp4"))
    assert any("2 video(s)" in text for text in said)
    with pytest.raises(OutputError, match=r"other settings.*\n  detector\.seal"):
        run(Detector.load(changed(night, tmp_path / "other.safetensors", name="other")))


def test_a_video_of_a_storage_is_copied_scored_and_recognised(night, tmp_path, monkeypatch):
    import fsspec

    storage = fsspec.filesystem("memory")
    content = (night.parent / "inbox" / "one.mp4").read_bytes()
    storage.pipe("/bucket/cam1/one.mp4", content)
    storage.pipe("/bucket/notes.txt", b"")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    detector, out = Detector.load(night), tmp_path / "out"

    def run():
        return score_with_detector(detector, find_videos(["memory://bucket"]).videos, out)

    report = run()
    assert report.scored == ("cam1/one.mp4",)
    assert pq.read_table(report.tables[0]).equals(pq.read_table(night.parent / "scores" / "frames" / "one.mp4.parquet"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # no copy stays
    source = json.loads((out / "index.json").read_text())["videos"]["cam1/one.mp4"]["source"]
    assert source["path"] == "memory://bucket/cam1/one.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "get_file", lambda *rest, **more: pytest.fail("it has not changed"))
        assert run().kept == ("cam1/one.mp4",)
    storage.pipe("/bucket/cam1/one.mp4", content)  # another version of the same content
    report = run()
    assert (report.scored, report.kept) == ((), ("cam1/one.mp4",))
    storage.pipe("/bucket/cam1/one.mp4", (night.parent / "inbox" / "two.mp4").read_bytes())
    assert run().scored == ("cam1/one.mp4",)
    asked = []

    def known(video, content):
        asked.append(video.place)
        return True

    storage.pipe("/bucket/cam1/one.mp4", b"no video")
    assert run().failed["cam1/one.mp4"].startswith("memory://bucket/cam1/one.mp4: not a video")
    storage.pipe("/bucket/cam1/one.mp4", (night.parent / "inbox" / "two.mp4").read_bytes())
    videos = find_videos(["memory://bucket"]).videos
    report = score_sources(detector.scorer(), videos, tmp_path / "other", known=known)
    assert (report.scored, report.tables, asked) == ((), (), ["memory://bucket/cam1/one.mp4"])
    assert report.known == {"cam1/one.mp4": file_sha256(night.parent / "inbox" / "two.mp4")}
    storage.rm("/bucket", recursive=True)


def test_without_its_backbone_the_weights_are_found_or_given_and_compared(night, tmp_path):
    outputs = outputs_of(experiment_in(tmp_path), tmp_path / "run")
    path = tmp_path / "light.safetensors"
    pack_detector(outputs, path, with_backbone=False)
    assert not any(name.startswith("backbone.") for name in read_header(path).tensors)
    assert check_probe(Detector.load(path)) == 0.0
    assert check_probe(Detector.load(path, weights=BUNDLED["tpn_tiny"])) == 0.0
    other = tmp_path / "other.safetensors"
    other.write_bytes(BUNDLED["tpn_tiny"].read_bytes() + b"\0")
    with pytest.raises(WeightsError, match=r"expected weights of tpn_tiny with SHA-256 [0-9a-f]{64}, .* has"):
        Detector.load(path, weights=other).backbone()
    document = read_header(path).document
    document["backbone"] |= {"name": "tpn_slowonly_r50"}
    with pytest.raises(WeightsError, match="packed without its backbone: give the weight file of tpn_slowonly_r50"):
        Detector.load(changed(path, tmp_path / "r50.safetensors", **document)).backbone()


def test_what_cannot_be_packed_is_refused(night, tmp_path):
    outputs = outputs_of(experiment_in(tmp_path), tmp_path / "run")
    with pytest.raises(DetectorError, match=r"ends in \.safetensors"):
        pack_detector(outputs, tmp_path / "d.pth")
    random = replace(outputs, experiment=experiment_in(tmp_path, backbone={"name": "tpn_tiny", "weights": "random"}))
    with pytest.raises(DetectorError, match="the backbone's weights are random"):
        pack_detector(random, tmp_path / "d.safetensors", with_backbone=False)
    with pytest.raises(FeatureMismatch, match="another way"):  # the head is of other weights
        pack_detector(random, tmp_path / "d.safetensors")
    imported = replace(outputs, experiment=experiment_in(tmp_path, features={"train": "i3d", "test": "i3d"}))
    with pytest.raises(DetectorError, match="`features` names imported ones"):
        pack_detector(imported, tmp_path / "d.safetensors")
    assert not (tmp_path / "d.safetensors").exists()


def test_the_generated_clip_tells_a_detector_that_scores_otherwise(night, tmp_path):
    assert check_probe(Detector.load(night)) == 0.0
    probe = read_header(night).document["probe"]
    moved = changed(night, tmp_path / "moved.safetensors", probe=probe | {"anomaly": [0.9] * len(probe["anomaly"])})
    with pytest.raises(DetectorError, match="differ by"):
        check_probe(Detector.load(moved))


def test_another_way_of_computing_is_told(night, tmp_path):
    assert Detector.load(night).notes() == []
    older = changed(night, tmp_path / "older.safetensors", numbers={"features": 1, "scores": 3})
    (note,) = Detector.load(older).notes()
    assert "computes features in another way than the one that packed it" in note


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"operating_point": {"thresholds": {"anomaly": 1.5}, "chosen": ["anomaly"]}}, "make no rules for events"),
        ({"operating_point": {"thresholds": {}, "chosen": ["anomaly"]}}, "make no rules for events"),
        ({"backbone": None}, "backbone: Input should be"),
        ({"scoring": {"smooth_sigma": 1e12}}, "smooth_sigma: expected at most"),
        ({"preprocess": {"short_side": 10**9, "crop": 10**9}}, "preprocess.short_side"),
        ({"events": {"by_class": {"Riot": {"upper": 0.5}}}}, "events.by_class.Riot"),
    ],
)
def test_a_document_that_is_none_is_refused(night, tmp_path, entries, message):
    with pytest.raises(DetectorError, match=message):
        Detector.load(changed(night, tmp_path / "d.safetensors", **entries))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"name": "gig", "k": 10**12}}, "a feature map has 49 positions"),
        ({"settings": {"name": "ur_dmu", "memory_normal": 10**9}}, "its tensors are not those of its document"),
        ({"settings": {"name": "ur_dmu", "memory_normal": 10**30}}, "cannot be laid out"),
        ({"settings": {"name": "gig", "standardize": True}}, "missing standardizer.mean"),
        ({"settings": {"name": "gog"}}, "is not valid"),
        ({"channels": 10**12}, "its tensors are not those of its document"),
        ({"channels": -1}, "cannot be laid out"),
        ({"classes": ["a", "b"]}, r"head\.phi1\.weight: expected .*\(3, 2048\)\), got .*\(4, 2048\)"),
        ({"classes": ["a", "b", "score"]}, "is a column of the score tables"),
    ],
)
def test_a_head_of_other_sizes_is_refused_before_it_is_allocated(night, tmp_path, changes, message):
    head = read_header(night).document["head"] | changes
    with pytest.raises(DetectorError, match=message):
        Detector.load(changed(night, tmp_path / "d.safetensors", head=head))


def test_tensors_that_are_missing_surplus_or_not_finite_are_refused(night, tmp_path):
    tensors, path = read_tensors(read_header(night)), tmp_path / "d.safetensors"
    name = next(name for name in tensors if name.startswith("backbone.") and name.endswith("weight"))
    with pytest.raises(WeightsError, match="not a checkpoint of tpn_tiny: missing"):
        Detector.load(changed(night, path, {key: t for key, t in tensors.items() if key != name})).backbone()
    with pytest.raises(DetectorError, match="unexpected more"):
        Detector.load(changed(night, path, tensors | {"more": torch.zeros(1)}))
    with pytest.raises(DetectorError, match=r"missing head\.phi1\.weight"):
        Detector.load(changed(night, path, {key: t for key, t in tensors.items() if key != "head.phi1.weight"}))
    with pytest.raises(DetectorError, match=r"backbone\.packed: True"):
        Detector.load(changed(night, path, {key: t for key, t in tensors.items() if key.startswith("head.")}))
    with pytest.raises(DetectorError, match="expected finite numbers"):
        Detector.load(changed(night, path, tensors | {name: torch.full_like(tensors[name], torch.nan)}))


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_laid_out_as_it_is_made(night, name):
    settings = parse_head({"name": name})
    module = make_head(settings, Training(), 2048, len(CLASSES))
    held = {f"head.{key}": HeldTensor(t.dtype, tuple(t.shape), 0) for key, t in module.state_dict().items()}
    data = read_header(night).document
    data["head"] |= {"settings": settings.model_dump()}
    data["backbone"] |= {"packed": False}
    check_names(Document.parse(data, night), held, night)


def test_it_is_described_for_people(night):
    detector = Detector.load(night)
    lines = "\n".join(summary_lines(detector))
    assert detector.seal in lines
    assert "frame_auc     0.7500 [0.5000, 0.9000]" in lines
    assert "anomaly: from 0.25, spreading down to 0.125 (chosen on validation videos)" in lines
    card = model_card(detector)
    for part in ("Intended use", "Training data", "Metrics", "Events", "Limits"):
        assert f"## {part}\n" in card
    assert "- **It has learnt nothing.**\n" in card
    assert "| frame_auc | 0.7500 [0.5000, 0.9000] |" in card
    assert "1 more are not defined" in card
    assert "| Normal | 1 |" in card
    assert str(night.parent) not in card
