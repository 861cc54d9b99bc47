"""A detector as ONNX graphs: the same scores by onnxruntime; the folder appears whole or not at all."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import onnx
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest
import torch
from conftest import NANO, SMALL_HEADS
from packs import CLASSES, outputs_of
from places import ROOT

from pipeline.config import parse_experiment
from pipeline.config.heads import HEADS, parse_head
from pipeline.config.machine import Machine
from pipeline.config.runs import Training
from pipeline.errors import DetectorError, OutputError, PipelineError
from pipeline.models.reduction import Standardizer
from pipeline.stages.detector import export, graphs
from pipeline.stages.detector.detector import Detector
from pipeline.stages.detector.export import export_onnx
from pipeline.stages.detector.gig_onnx import ExportedDetector
from pipeline.stages.detector.packing import pack_detector
from pipeline.stages.detector.scoring import score_with_detector
from pipeline.stages.scoring.inputs import find_videos
from pipeline.stages.training.saved_heads import TrainedHead, make_head


def pack(folder: Path, head: dict | None = None, **sections: object) -> Detector:
    data = copy.deepcopy(NANO) | {"head": {}, "runs": {"gig": {"head": head} if head else {}}, **sections}
    data |= {"paths": {"output": str(folder / "var"), "cache": str(folder / "cache")}}
    file = folder / "night.safetensors"
    pack_detector(outputs_of(parse_experiment(data), folder / "run", head_settings=head), file)
    return Detector.load(file, machine=Machine(device="cpu", decode_workers=1))


def write_video(path: Path, frames: int) -> None:
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(frames):
            image = generator.integers(0, 256, (12, 16, 3)).repeat(20, 0).repeat(20, 1) * (0.2 + 0.8 * (number > 15))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


def compare(detector: Detector, folder: Path) -> float:
    """Export, score a video both ways, and return the largest difference of any score of a window or frame."""
    video = folder / "video.mp4"
    write_video(video, 31)
    export_onnx(detector, folder / "exported")
    [table] = score_with_detector(detector, find_videos([str(video)]).videos, folder / "scores").tables
    frames, windows = pq.read_table(table), pq.read_table(folder / "scores" / "windows" / table.name)
    found = ExportedDetector(folder / "exported").score_video(video)
    np.testing.assert_array_equal(found.times_s, frames["time_s"])
    np.testing.assert_array_equal(found.spans, np.stack([windows["first_frame"], windows["last_frame"]], axis=1))
    pairs = [(found.anomaly, frames["score"]), (found.windows[:, 0], windows["Normal"])]
    pairs += [(found.frames[:, i], frames[name]) for i, name in enumerate(CLASSES)]
    pairs += [(found.windows[:, 1 + i], windows[name]) for i, name in enumerate(CLASSES)]
    assert np.ptp(found.frames, axis=0).max() > 1e-3  # a constant would fit anything
    return max(float(np.abs(ours - np.asarray(theirs)).max()) for ours, theirs in pairs)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_tpn_tiny_scores_the_same_in_another_process_without_torch(tmp_path):
    detector = pack(tmp_path)
    assert compare(detector, tmp_path) < 1e-4
    folder = tmp_path / "exported"
    files = ["clips.onnx", "detector.json", "frames.onnx", "gig_onnx.py", "head.onnx", "reduce.onnx"]
    assert sorted(path.name for path in folder.iterdir()) == files
    facts = json.loads((folder / "detector.json").read_text())
    assert (facts["format"], facts["opset"], facts["seal"]) == (1, 18, detector.seal)
    assert facts["document"] == detector.document.model_dump(mode="json")
    for path in folder.glob("*.onnx"):
        model = onnx.load(path)
        onnx.checker.check_model(model)
        assert [entry.version for entry in model.opset_import if not entry.domain] == [18]
        about = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "gig-vad"))
        assert about == {"format": 1, "name": "night", "seal": detector.seal, "graph": path.stem}
    command = [sys.executable, folder / "gig_onnx.py", tmp_path / "video.mp4"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split(",") for line in text.splitlines()]
    assert lines[0] == ["frame", "time_s", "score", *CLASSES]
    scores = ExportedDetector(folder).score_video(tmp_path / "video.mp4")
    np.testing.assert_allclose([float(line[2]) for line in lines[1:]], scores.anomaly, atol=1e-6)
    folder.rename(tmp_path / "night-onnx")
    (tmp_path / "video.mp4").rename(tmp_path / "camera7.mp4")
    _, block = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "detector.md").read_text(encoding="utf-8"), re.DOTALL)
    code = (
        f"import numpy as np; frames = np.zeros((9, 120, 160, 3), np.uint8)\n{block}\nassert len(scores.anomaly) == 9"
    )
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_tpn_tiny_scores_wide_letterboxes_the_same(tmp_path):
    head = {"name": "gig", "k": 0.16}
    assert compare(pack(tmp_path, head, preprocess={"fit": "letterbox", "height": 128, "width": 224}), tmp_path) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_tpn_tiny_scores_the_same_with_a_running_cue(tmp_path):
    head = {"name": "gig", "standardize": True, "standardize_offset": 0.2}
    detector = pack(tmp_path, head, scoring={"cue": "running", "smooth_sigma": 1.0}, storage={"dtype": "float32"})
    assert compare(detector, tmp_path) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_r50_with_random_weights_scores_the_same(tmp_path):
    detector = pack(tmp_path, backbone={"name": "tpn_slowonly_r50", "weights": "random"})
    assert compare(detector, tmp_path) < 1e-4


MORE_HEADS = (
    {"name": "gig", "standardize": True},
    {"name": "gig", "reduction": "max"},
    {"name": "gig", "relation": "dot", "enhancement": False},
    {"name": "gig", "relation": "background", "standardize": True},
    {"name": "gig", "relation": "background_dot", "cue_of": "segment"},
    {"name": "gig", "channel_attention": 8},
    {"name": "gig", "channel_attention": 8, "reduction": "mean"},
)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "settings", [*({"name": name} | SMALL_HEADS.get(name, {}) for name in HEADS), *MORE_HEADS], ids=str
)
def test_every_head_is_exported_for_any_number_of_windows(settings):
    channels, parsed = 64, parse_head(settings)
    standardizer = Standardizer(torch.rand(channels), torch.rand(channels) + 0.1, 0.2) if parsed.standardize else None
    module = make_head(parsed, Training(), channels, 3).eval()
    head = TrainedHead(module, parsed, standardizer, ("a", "b", "c"))
    for graph in graphs.graphs_of(_Network(channels), head, (32, 32), 6)[2:]:
        session = ort.InferenceSession(graphs.to_onnx(graph, {}).SerializeToString())
        taken = {each.name for each in session.get_inputs()}
        for sizes in ({"bags": 1, "windows": 1}, {"bags": 1, "windows": 97}, {"bags": 7, "windows": 1}):
            inputs = {}
            for name, example in graph.inputs.items():
                shape = [
                    sizes[graph.free[name][i]] if i in graph.free[name] else n for i, n in enumerate(example.shape)
                ]
                inputs[name] = torch.rand(shape)
            with torch.no_grad():
                expected = graph.module(*(value.clone() for value in inputs.values()))
            given = {name: value.numpy() for name, value in inputs.items() if name in taken}
            outputs = session.run(None, given)
            for ours, theirs in zip(outputs, expected if isinstance(expected, tuple) else (expected,), strict=True):
                np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


class _Network(torch.nn.Module):
    """Has the outputs of a backbone, of few channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def frames(self, images: torch.Tensor) -> torch.Tensor:
        return torch.rand(len(images), 4, 4, 4)

    def clips(self, features: torch.Tensor) -> torch.Tensor:
        return torch.rand(features.shape[1], 7, 7, self.channels)


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Detector:
    return pack(tmp_path_factory.mktemp("night"))


def test_a_folder_that_is_there_is_not_replaced(night, tmp_path):
    (tmp_path / "exported").mkdir()
    with pytest.raises(OutputError, match="exported: is there already, and an export replaces nothing"):
        export_onnx(night, tmp_path / "exported")
    assert list((tmp_path / "exported").iterdir()) == []


def _cannot(*_: object) -> None:
    raise DetectorError("clips: cannot be exported")


def _disk_is_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("step", "result", "message"),
    [
        ("to_onnx", _cannot, "clips: cannot be exported"),
        ("_write", _disk_is_full, "cannot be written: No space left"),
        ("_scores_of_clip", lambda detector, *_: np.add(detector.document.probe.anomaly, 0.5), r"otherwise .* by 0\.5"),
    ],
)
def test_nothing_is_left_when_the_export_fails_or_scores_otherwise(night, tmp_path, monkeypatch, step, result, message):
    monkeypatch.setattr(export, "_write" if step == "_scores_of_clip" else step, lambda *_: None)
    monkeypatch.setattr(export, step, result)
    with pytest.raises((DetectorError, OutputError), match=message):
        export_onnx(night, tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


def test_a_detector_of_another_precision_is_exported_with_a_word(night, tmp_path, monkeypatch):
    said: list[str] = []
    backbone = night.document.backbone.model_copy(update={"precision": "bfloat16"})
    monkeypatch.setattr(night, "document", night.document.model_copy(update={"backbone": backbone}))
    monkeypatch.setattr(export, "_write", lambda *_: None)
    monkeypatch.setattr(export, "_compare", lambda *_: 0.01)
    assert export_onnx(night, tmp_path / "exported", said.append) == 0.01
    assert said == [
        "warning: the detector computes in bfloat16, the graphs in float32: scores differ by rounding",
    ]


def test_causal_scores_of_a_head_that_sees_other_windows_are_refused(night, tmp_path, monkeypatch):
    scoring = night.document.scoring.model_copy(update={"cue": "running"})
    monkeypatch.setattr(night, "document", night.document.model_copy(update={"scoring": scoring}))
    settings = parse_head({"name": "rtfm"})
    monkeypatch.setattr(night, "head", TrainedHead(night.head.module, settings, None, CLASSES))
    with pytest.raises(PipelineError, match="running is not for the head rtfm"):
        export_onnx(night, tmp_path / "exported")


def test_the_cue_of_the_top_segments_is_refused(night, tmp_path, monkeypatch):
    settings = parse_head({"name": "gig", "cue_of": "top_segments"})
    monkeypatch.setattr(night, "head", TrainedHead(night.head.module, settings, None, CLASSES))
    with pytest.raises(DetectorError, match="cue_of: top_segments cannot be exported"):
        export_onnx(night, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_package_that_is_missing_is_named(night, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(DetectorError, match=r"needs onnxscript .*pip install 'gig-vad\[onnx\]'"):
        export_onnx(night, tmp_path / "exported")


def test_a_torch_that_is_too_old_is_refused(night, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(DetectorError, match=r"needs torch 2\.6 or newer, .* got 2\.5\.1\+cpu"):
        export_onnx(night, tmp_path / "exported")
