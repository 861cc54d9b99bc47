"""The program that ships with an exported detector, without the graphs: torch computes what they would.

The graphs are exported in test_export.py.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.sidedata.sidedata import Type
from conftest import NANO
from packs import CLASSES, outputs_of
from stereo import write_stereo

from pipeline.config import parse_experiment
from pipeline.config.heads import parse_head
from pipeline.config.machine import Machine
from pipeline.config.runs import Training
from pipeline.data.decoding.decode import iter_frames
from pipeline.data.decoding.geometry import centre_crop
from pipeline.data.windows import window_indices, windows_to_frames
from pipeline.stages.common.picture import picture_fit
from pipeline.stages.detector import gig_onnx
from pipeline.stages.detector.detector import Detector
from pipeline.stages.detector.document import Document
from pipeline.stages.detector.export import write_facts
from pipeline.stages.detector.file import read_header, read_tensors
from pipeline.stages.detector.gig_onnx import ExportedDetector
from pipeline.stages.detector.graphs import Graph, graphs_of
from pipeline.stages.detector.packing import pack_detector
from pipeline.stages.scoring.causal import smooth_back
from pipeline.stages.scoring.score import smooth
from pipeline.stages.training.saved_heads import make_head


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """A detector file, and beside it a video of 40 windows."""
    folder = tmp_path_factory.mktemp("night")
    data = copy.deepcopy(NANO) | {"head": {}, "runs": {"gig": {}}, "preprocess": {"short_side": 104, "crop": 96}}
    data |= {"paths": {"output": str(folder / "var"), "cache": str(folder / "cache")}}
    pack_detector(outputs_of(parse_experiment(data), folder / "run"), folder / "night.safetensors")
    write_noise(folder / "noise.mp4", 238)
    return folder / "night.safetensors"


def write_noise(path: Path, frames: int, width: int = 130, height: int = 90) -> None:
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            image = generator.integers(0, 256, (height // 10, width // 10, 3)).repeat(10, 0).repeat(10, 1)
            image = (image * (0.2 + 0.8 * (number % 90 > 60))).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def changed(path: Path, head: dict | None = None, **sections: object) -> Detector:
    """The detector with another head and other sections."""
    file = read_header(path)
    tensors, data = read_tensors(file), copy.deepcopy(file.document)
    data |= {key: data[key] | value if isinstance(data[key], dict) else value for key, value in sections.items()}
    if head:
        settings = parse_head(head)
        tensors = {name: value for name, value in tensors.items() if not name.startswith("head.")}
        state = make_head(settings, Training(), 2048, len(CLASSES)).state_dict()
        tensors |= {f"head.{name}": value for name, value in state.items()}
        if settings.standardize:
            tensors |= {"standardizer.mean": torch.full((2048,), 0.1), "standardizer.std": torch.full((2048,), 0.3)}
        data["head"] |= {"settings": settings.model_dump()}
    return Detector(Document.parse(data, path), tensors, file.seal, path, None, Machine(device="cpu", decode_workers=1))


class TorchSession:
    """Computes what an onnxruntime session would."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def get_inputs(self) -> list:
        return [type("Input", (), {"name": name}) for name in self.graph.inputs]

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            found = self.graph.module.eval()(*(torch.from_numpy(inputs[name].copy()) for name in self.graph.inputs))
        return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]


def runner_of(detector: Detector, folder: Path, monkeypatch) -> ExportedDetector:
    """The shipped program, with torch in place of onnxruntime."""
    document = detector.document
    sizes = document.preprocess.size, document.test_sampling.window_frames
    graphs = {graph.name: graph for graph in graphs_of(detector.backbone(), detector.head, *sizes)}
    monkeypatch.setattr(gig_onnx, "_load", lambda path, *_: TorchSession(graphs[path.stem]))
    write_facts(detector, folder)
    return ExportedDetector(folder)


@pytest.mark.parametrize(
    ("head", "sections"),
    [
        (None, {}),
        (None, {"scoring": {"cue": "running", "smooth_sigma": 3.0}}),
        ({"name": "gig", "standardize": True, "standardize_offset": 0.2}, {"scoring": {"smooth_on": "windows"}}),
        ({"name": "gig", "relation": "background", "standardize": True}, {}),
        ({"name": "gig", "relation": "background_dot", "cue_of": "segment"}, {"scoring": {"cue": "running"}}),
        ({"name": "gig", "channel_attention": 4}, {"storage": {"dtype": "float32"}}),
        ({"name": "bn_wvad"}, {"test_sampling": {"window_frames": 3, "interval_frames": 2, "stride_frames": 4}}),
    ],
    ids=["gig", "running", "standardized", "background", "running-background", "attention", "context"],
)
def test_scores_are_those_of_the_detector(night, tmp_path, monkeypatch, head, sections):
    detector = changed(night, head, **sections)
    if detector.head.module.context:
        detector.head.module.context = 35  # parts of 32 windows
    expected = detector.score(night.with_name("noise.mp4"))
    found = runner_of(detector, tmp_path, monkeypatch).score_video(night.with_name("noise.mp4"))
    assert found.classes == expected.classes == CLASSES
    # Torch rounds batches of other sizes otherwise; float16 maps turn that into steps of 2^-11.
    np.testing.assert_allclose(found.frames, expected.scores, rtol=0, atol=2e-5)
    np.testing.assert_allclose(found.anomaly, expected.anomaly, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(found.times_s, expected.times_s)
    assert np.ptp(found.anomaly) > 1e-3  # a constant would fit anything


WHOLE = [{"fit": "stretch", "height": 64, "width": 128}, {"fit": "letterbox", "height": 64, "width": 160}]


def packed(folder: Path, preprocess: dict) -> Path:
    data = copy.deepcopy(NANO) | {"head": {}, "runs": {"gig": {}}, "preprocess": preprocess}
    data |= {"paths": {"output": str(folder / "var"), "cache": str(folder / "cache")}}
    experiment = parse_experiment(data)
    pack_detector(
        outputs_of(experiment, folder / "run", head_settings={"name": "gig", "k": 0.3}), folder / "d.safetensors"
    )
    return folder / "d.safetensors"


@pytest.mark.parametrize("preprocess", WHOLE, ids=["stretch", "letterbox"])
def test_whole_pictures_are_scored_as_by_the_detector(tmp_path, monkeypatch, preprocess):
    detector = changed(packed(tmp_path, preprocess))
    assert detector.document.preprocess.model_dump() == preprocess | {"short_side": 256, "crop": 224}
    write_noise(tmp_path / "v.mp4", 22)
    expected = detector.score(tmp_path / "v.mp4")
    (tmp_path / "made").mkdir()
    runner = runner_of(detector, tmp_path / "made", monkeypatch)
    found = runner.score_video(tmp_path / "v.mp4")
    np.testing.assert_allclose(found.frames, expected.scores, rtol=0, atol=2e-5)
    assert np.ptp(found.anomaly) > 1e-3
    assert runner.facts["format"] == 2
    if preprocess["fit"] == "letterbox":
        pictures = [picture for picture, _ in runner.read_video(tmp_path / "v.mp4")]
        with pytest.raises(ValueError, match="expected the size of the frames"):
            runner.score(pictures)
        again = runner.score(pictures, lambda: (130, 90))
        np.testing.assert_array_equal(again.anomaly, found.anomaly)


@pytest.mark.parametrize("preprocess", WHOLE, ids=["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(130, 90), (90, 130), (640, 36)])
def test_whole_pictures_are_those_of_the_pipeline(tmp_path, monkeypatch, preprocess, size):
    detector = changed(packed(tmp_path, preprocess))
    write_noise(tmp_path / "v.mp4", 3, *size)
    (tmp_path / "made").mkdir()
    runner = runner_of(detector, tmp_path / "made", monkeypatch)
    expected = [frame.image for frame in iter_frames(tmp_path / "v.mp4", picture_fit(detector.document.preprocess))]
    np.testing.assert_array_equal([picture for picture, _ in runner.read_video(tmp_path / "v.mp4")], expected)
    maps = np.ones((2, 2, 5, 3), np.float32)
    if preprocess["fit"] == "letterbox":
        runner._clear_padding(maps, *size)
        empty = picture_fit(detector.document.preprocess).empty_cells(*size, 2, 5)
        np.testing.assert_array_equal((maps == 0).all(axis=(0, 3)), empty)


@pytest.mark.parametrize("frames", [1, 5, 6, 7, 9, 11, 12, 13, 40])
@pytest.mark.parametrize("sampling", [(6, 3, 1), (6, 6, 1), (3, 4, 2), (1, 1, 1)])
def test_windows_are_those_of_the_pipeline(frames, sampling):
    window, stride, interval = sampling
    expected = window_indices(frames, window_frames=window, stride_frames=stride, interval_frames=interval)
    found = list(gig_onnx._windows(np.arange(frames)[:, None], np.arange(window) * interval, stride))
    np.testing.assert_array_equal([indices for indices, _ in found], expected)
    np.testing.assert_array_equal([features[:, 0] for _, features in found], expected)
    scores = np.random.default_rng(0).random((len(expected), 2))
    means = gig_onnx._mean_of_windows(scores, expected[:, [0, -1]], frames)
    np.testing.assert_allclose(means, windows_to_frames(scores, expected, frames), rtol=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 3.0, 50.0])
def test_smoothing_is_that_of_the_pipeline(sigma):
    scores = np.random.default_rng(0).random((37, 3))
    np.testing.assert_allclose(gig_onnx._smoothed(scores, sigma, False), smooth(scores, sigma), rtol=1e-12)
    np.testing.assert_allclose(gig_onnx._smoothed(scores, sigma, True), smooth_back(scores, sigma), rtol=1e-12)


@pytest.mark.parametrize("size", [(130, 90), (90, 130), (64, 48), (454, 256)])
def test_pictures_are_those_of_the_pipeline(night, tmp_path, monkeypatch, size):
    path = tmp_path / "video.mp4"
    write_noise(path, 4, *size)
    runner = runner_of(changed(night), tmp_path, monkeypatch)
    expected = list(iter_frames(path, centre_crop(96, 104)))
    found = list(runner.read_video(path))
    np.testing.assert_array_equal([picture for picture, _ in found], [frame.image for frame in expected])
    assert [time_s for _, time_s in found] == [frame.time_s for frame in expected]


def test_a_turned_picture_is_upright_though_pyav_has_no_name_for_other_side_data(night, tmp_path, monkeypatch):
    path = write_stereo(tmp_path / "stereo.mov", turned=True)
    expected = [frame.image for frame in iter_frames(path, centre_crop(96, 104))]
    monkeypatch.delattr(Type, "_missing_")  # the shipped program has not what the pipeline does about it
    found = [picture for picture, _ in runner_of(changed(night), tmp_path, monkeypatch).read_video(path)]
    np.testing.assert_array_equal(found, expected)


def test_frames_of_any_size_become_pictures_as_images_do(night, tmp_path, monkeypatch):
    from PIL import Image

    frame = np.random.default_rng(0).integers(0, 256, (80, 111, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(frame).save(tmp_path / "images" / "1.png")
    [expected] = iter_frames(tmp_path / "images", centre_crop(96, 104))
    found = runner_of(changed(night), tmp_path, monkeypatch).prepare(frame)
    np.testing.assert_array_equal(found, expected.image)


def test_what_cannot_be_scored_is_said(night, tmp_path, monkeypatch):
    runner = runner_of(changed(night), tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="at least one picture, got none"):
        runner.score([])
    with pytest.raises(ValueError, match=r"picture 1: expected \(96, 96, 3\) uint8, got \(96, 97, 3\) uint8"):
        runner.score([np.zeros((96, 96, 3), np.uint8), np.zeros((96, 97, 3), np.uint8)])
    with pytest.raises(ValueError, match=r"picture 0: .* float64"):
        runner.score(np.zeros((2, 96, 96, 3)))


def test_a_folder_that_is_none_or_was_changed_is_refused(night, tmp_path):
    with pytest.raises(ValueError, match="expected the description of an exported detector"):
        ExportedDetector(tmp_path)
    (tmp_path / "frames.onnx").write_bytes(b"")
    write_facts(changed(night), tmp_path)
    (tmp_path / "frames.onnx").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"frames\.onnx: expected SHA-256 [0-9a-f]{64}, got"):
        ExportedDetector(tmp_path)
    facts = tmp_path / "detector.json"
    facts.write_text(facts.read_text().replace('"format": 1', '"format": 3'))
    with pytest.raises(ValueError, match="expected format 1 or 2, got 3"):
        ExportedDetector(tmp_path)


def test_it_loads_neither_torch_nor_the_rest_of_the_pipeline():
    code = (
        f"import sys; sys.path.insert(0, {str(Path(gig_onnx.__file__).parent)!r}); import gig_onnx; "
        "assert not {'torch', 'pipeline', 'scipy', 'av'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
